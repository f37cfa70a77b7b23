"""`docflash tasks`: what can be asked of a document, and whether the task files are right."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli_output import print_json, print_table
from pipeline.records import Task

Prompts = Annotated[
    Path | None,
    typer.Option(help="A folder of your own tasks, added to docflash's.", readable=False),
]


def tasks(
    prompts: Prompts = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Lists the tasks and checks their files; a mistake is told with its file, line and fix.

    Example: `docflash tasks --prompts ~/my-tasks`
    """
    from pipeline.prompts import load_tasks

    found = load_tasks(prompts)
    if as_json:
        print_json([_as_json(task) for task in found])
        return
    print_table(
        ("task", "what it gives", "answer", "for", "file"),
        [(t.name, t.title, _answer(t), _for(t), t.source) for t in found],
    )


def _answer(task: Task) -> str:
    if task.kind == "fields":
        return ", ".join(field.name for field in task.fields)
    return "one of: " + ", ".join(task.classes) if task.kind == "class" else "text"


def _for(task: Task) -> str:
    globs = "" if task.globs == ("*",) else ", ".join(task.globs)
    classes = "" if task.kind == "class" else ", ".join(task.classes)
    return " and class ".join(part for part in (globs, classes) if part) or "every document"


def _as_json(task: Task) -> dict[str, object]:
    return {
        "name": task.name,
        "title": task.title,
        "kind": task.kind,
        "globs": task.globs,
        "classes": task.classes,
        "fields": [{"name": field.name, "type": field.type} for field in task.fields],
        "fingerprint": task.fingerprint,
        "file": task.source,
    }
