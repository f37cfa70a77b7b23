# make demo   runs docflash over a part of sample_docs/ and asks a few questions in SQL
# make test   all checks: style, types, import rules, tests
# Both bring what they need (uv, the packages) into this folder; only Python 3.11+ has to be there.

BIN := .venv/bin
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.PHONY: help setup demo test peers bench-engine clean

help:
	@sed -n '1,3s/^# //p' Makefile

setup: .venv/.ready

.venv/.ready: pyproject.toml .ci/setup
	@.ci/step "install" .ci/setup

demo: .venv/.ready
	@.ci/step "demo" .ci/demo

# Types are checked while the tests run, which wait at times; what is wrong with them is said last.
test: .venv/.ready
	@.ci/step "ruff check" $(BIN)/ruff check --quiet .
	@.ci/step "ruff format" $(BIN)/ruff format --quiet --check .
	@.ci/step "lint-imports" $(BIN)/lint-imports
	@told=$$(mktemp); .ci/step "pyright" $(BIN)/pyright >$$told 2>&1 & types=$$!; \
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=25; tests=$$?; \
	wait $$types || { tests=1; cat $$told; }; rm -f $$told; exit $$tests

peers: .venv/.ready
	@.ci/step "install peers" .ci/setup --group peers

bench-engine: .venv/.ready
	@$(BIN)/python benchmarks/engine.py $(BENCH)

clean:
	rm -rf .venv .uv demo_output .pytest_cache .ruff_cache .hypothesis .import_linter_cache
