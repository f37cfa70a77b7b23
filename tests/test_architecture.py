"""The rules of the rooms: who imports what, how large a room is, and what no file may say."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES = 320
MOST_FUNCTION_LINES = 50
CONTRACTS = re.compile(r"Contracts: (\d+) kept, 0 broken")
FORBIDDEN_NAMES = {"utils", "helpers", "manager", "base", "common", "misc"}


def rooms() -> list[Path]:
    return sorted(
        path
        for folder in ("pipeline", "flows", "prompts")
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def test_import_contracts_hold() -> None:
    lint = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=ROOT,
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    kept = CONTRACTS.search(lint.stdout)
    assert lint.returncode == 0, lint.stdout
    assert kept is not None
    assert int(kept[1]) >= 6


@pytest.mark.parametrize("path", rooms(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_can_be_read_at_a_sitting(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MOST_LINES
    assert path.stem not in FORBIDDEN_NAMES
    long = [
        f"{function.name} ({lines} lines)"
        for function in _functions(ast.parse(text))
        if (lines := _code_lines(function)) > MOST_FUNCTION_LINES
    ]
    assert not long


def _code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Without the docstring: what is explained at length is not longer for it."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    docstring = ast.get_docstring(function, clean=False) or ""
    return lines - (docstring.count("\n") + 1 if docstring else 0)


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("command", [["--help"], ["tasks", "--json"]])
def test_light_commands_do_not_load_heavy_libraries(
    command: list[str], clean_environment: dict[str, str]
) -> None:
    # Seconds would depend on the machine; what makes them does not.
    code = (
        "import sys\n"
        f"sys.argv = ['docflash', *{command!r}]\n"
        "from flows.cli import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    heavy = {'prefect', 'mlx', 'mlx_lm', 'transformers', 'pypdf', 'pyarrow', 'fastapi'}\n"
        "    print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "[]"
