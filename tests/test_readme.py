"""README.md tells the truth: its commands parse, its SQL runs, its figures are those measured."""

import json
import re
import shlex
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from flows.cli import app
from pipeline.parquet import publish
from pipeline.prompts import load_tasks
from pipeline.queries import query
from pipeline.records import Field, Task
from pipeline.task_files import read_task
from tests.library import READER, make_document, make_file, make_result, open_library, plan

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
DEMO = (ROOT / ".ci" / "demo").read_text("utf-8")
FIGURE = re.compile(r"\*\*([\d.,]+)[^*]*\*\* <!-- (\S+\.json): (\S+) -->")
COMMENT = re.compile(r"\s+#.*$")
VALUES: dict[str, Any] = {
    "string": "x", "integer": 1, "decimal": Decimal("1.5"), "date": "2026-03-31", "boolean": True,
}  # fmt: skip


def shell_lines() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [COMMENT.sub("", line) for block in blocks for line in block.splitlines()]


def commands_of(program: str) -> list[list[str]]:
    return [words[1:] for line in shell_lines() if (words := shlex.split(line))[0] == program]


def example_task() -> Task:
    found = re.search(r"<!-- task: (\w+) -->\n```toml\n(.*?)```", README, re.DOTALL)
    assert found is not None
    shown = re.search(rf"<!-- example: {found[1]} -->\n```toml\n(.*?)```", README, re.DOTALL)
    assert shown is not None
    task, problems = read_task(f"my-tasks/{found[1]}.toml", f"{found[2]}\n{shown[1]}")
    assert not problems
    assert task is not None
    return task


TASKS = (*load_tasks(), example_task())


def value_of(field: Field) -> Any:
    if field.type == "list":
        assert field.items is not None
        return [value_of(field.items)]
    if field.type == "object":
        return {member.name: value_of(member) for member in field.fields}
    return field.values[0] if field.type == "enum" else VALUES[field.type]


def answer_to(task: Task) -> Any:
    if task.kind == "class":
        return task.classes[0]
    return "So." if task.kind == "text" else {f.name: value_of(f) for f in task.fields}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library in which every question of docflash's own and of the README was answered."""
    folder = tmp_path_factory.mktemp("readme") / "out"
    with open_library(folder, "run1") as store:
        store.documents.save("run1", READER, [(make_file("leases/a.txt"), make_document("a"))])
        everywhere = [task_for_all(task) for task in TASKS]
        for job in plan(store, "run1", *everywhere).pending:
            task = next(task for task in TASKS if task.name == job.task)
            store.jobs.finish("run1", job, make_result(job, answer_to(task)))
        publish(store, everywhere, "run1")
    return folder


def task_for_all(task: Task) -> Task:
    return replace(task, globs=("*",), classes=task.classes if task.kind == "class" else ())


@pytest.mark.parametrize("words", commands_of("docflash"), ids=shlex.join)
def test_a_docflash_command_parses(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        assert rest[:1], f"{words} names no command"
        assert rest[0] in command.commands
        command = command.commands[rest.pop(0)]
    command.make_context("docflash", rest)  # raises if an option or argument is unknown


def test_each_docflash_command_is_told_of() -> None:
    told = {words[0] for words in commands_of("docflash")}
    assert told == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "sql", [w[1] for w in commands_of("docflash") if w[0] == "sql" and len(w) > 1]
)
def test_an_example_of_sql_runs(sql: str, out: Path) -> None:
    query(out, sql)


@pytest.mark.parametrize("sql", re.findall(r'^ask "(.*)"$', DEMO, re.MULTILINE))
def test_a_question_of_the_demo_has_an_answer(sql: str, out: Path) -> None:
    assert query(out, sql).num_rows or "failures" in sql


def test_the_columns_are_there(out: Path) -> None:
    section = README.partition("\n## Tables\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)`[^|]*\|[^|]*\|(.*)\|$", section, re.MULTILINE)
    tables = set(query(out, "SHOW TABLES").column("name").to_pylist())
    names = {task.name for task in TASKS}
    assert {name for name, _ in rows} == {
        table
        for table in tables - names
        if not table.startswith("extractions_") or table == "extractions_invoice"
    }
    for name, columns in rows:
        wanted = ", ".join(re.findall("`([^`]+)`", columns))
        query(out, f"SELECT {wanted} FROM {name}")  # noqa: S608  (names of the README)


def test_the_make_targets_are_there() -> None:
    targets = re.findall(r"^    make (\w+)", README, re.MULTILINE)
    assert targets == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert all(f"\n{target}:" in makefile for target in targets)


def test_the_way_to_a_nightly_run_is_that_of_the_deployment() -> None:
    told = [line for line in shell_lines() if line.startswith(("prefect", "export"))]
    comments = (ROOT / "prefect.yaml").read_text("utf-8")
    for line in told:
        assert line.replace("$HOME/Documents", "/path/to/documents") in comments
    (deployment,) = yaml.safe_load(comments)["deployments"]
    assert f"process-folder/{deployment['name']}" in README


def test_what_is_linked_or_named_as_a_file_is_there() -> None:
    files = re.findall(r"\]\(([^)#]+)\)", README)
    files += re.findall(r"^\| `(\w[\w/]*/)` \|", README, re.MULTILINE)
    assert files
    assert [name for name in files if not (ROOT / name).exists()] == []
    headings = {
        name.lower().replace(" ", "-") for name in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings


def test_the_figures_are_those_that_were_measured() -> None:
    section = README.partition("\n## Figures\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and "**" in line]
    assert rows
    for row in rows:
        found = FIGURE.search(row)
        assert found is not None, row
        told = Decimal(found[1].replace(",", ""))
        value: Any = json.loads((ROOT / "benchmarks" / found[2]).read_text("utf-8"))
        for key in found[3].split("."):
            value = value[int(key)] if isinstance(value, list) else value[key]
        assert round(Decimal(str(value)), -int(told.as_tuple().exponent)) == told, row


def test_the_output_is_of_the_demo() -> None:
    shown = re.search(r"<!-- demo -->\n```\n(.*?)```\n<!-- /demo -->", README, re.DOTALL)
    assert shown is not None
    asked = re.findall(r'^== docflash sql "(.*)"$', shown[1], re.MULTILINE)
    assert asked
    assert set(asked) <= set(re.findall(r'^ask "(.*)"$', DEMO, re.MULTILINE))
