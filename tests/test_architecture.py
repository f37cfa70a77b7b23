"""The rules of the rooms: who imports what, how large a room is, and what no file may say."""

import ast
import io
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES = 320
MOST_FUNCTION_LINES = 50
CONTRACTS = re.compile(r"Contracts: (\d+) kept, 0 broken")
ENGINE = ROOT / "pipeline" / "engine"
ROOM = re.compile(r"^\| `(\w+/|core\.py)`.* \| ([\d,]+) \|$", re.MULTILINE)
LAYOUT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
}  # fmt: skip
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
    assert int(kept[1]) >= 10


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


def test_the_map_of_the_engine_shows_every_room_as_large_as_it_is() -> None:
    text = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
    told = {name: int(lines.replace(",", "")) for name, lines in ROOM.findall(text)}
    folders = {path.parent for path in ENGINE.rglob("*.py")} - {ENGINE}
    sizes = {f"{folder.name}/": _size(folder) for folder in folders} | {"core.py": _size(ENGINE)}
    assert told.keys() == sizes.keys()
    wrong = {name: size for name, size in sizes.items() if abs(told[name] / size - 1) > 0.1}
    assert not wrong
    named = re.findall(r"`((?:\w+/)?\w+\.py)`", text)
    assert len(named) > 15
    places = (ENGINE, ROOT)
    missing = [name for name in named if not any((place / name).is_file() for place in places)]
    assert not missing


def _size(folder: Path) -> int:
    """Lines of code of a room, without docstrings, comments and what is empty."""
    return sum(len(_lines_with_code(path.read_text("utf-8"))) for path in folder.glob("*.py"))


def _lines_with_code(text: str) -> set[int]:
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            code.difference_update(range(node.lineno, (node.end_lineno or 0) + 1))
    return code


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
