"""Makes a gold file of a library's answers, for a person to correct.

In: a library. Out: a JSON file that `docflash eval` takes once its entries are checked.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.evaluation.evaluate import plain_value
from pipeline.evaluation.gold import VERSION
from pipeline.queries import list_views, query
from pipeline.records import Task

_NOTE = (
    "Correct the answers (null: the document does not say; delete what you don't want judged), "
    'then set "checked" to true.'
)


def write_labels(out: Path, tasks: Sequence[Task], path: Path) -> int:
    """Writes the library's current answers to these tasks as a gold file.

    A question that failed is written with empty answers, to be filled in.

    Args:
        out: The library.
        tasks: Those whose answers are written.
        path: The file; it must not be there yet.

    Returns:
        How many documents are in it.

    Raises:
        InputError: Nothing is published, no document has answers, or the file can't be written.
    """
    paths = {
        row["document_id"]: Path(row["path"])
        for row in query(out, "SELECT document_id, path FROM documents").to_pylist()
    }
    answers: dict[str, dict[str, Any]] = {}
    for task in tasks:
        for document_id, answer in _answers(out, task).items():
            answers.setdefault(document_id, {})[task.name] = answer
    if not answers:
        raise InputError(
            f"the library out={str(out)!r} has no answers to label; run `docflash run FOLDER` first"
        )
    folder = Path(os.path.commonpath([paths[name].parent for name in answers]))
    documents = {
        str(paths[name].relative_to(folder)): {"checked": False, "answers": answers[name]}
        for name in sorted(answers, key=lambda name: paths[name])
    }
    _write(path, {"version": VERSION, "note": _NOTE, "folder": str(folder), "documents": documents})
    return len(documents)


def _answers(out: Path, task: Task) -> dict[str, Any]:
    """The current answers by document, and empty ones where the question failed."""
    if task.kind == "class":
        rows = query(out, "SELECT document_id, class FROM documents WHERE class IS NOT NULL")
        return {row["document_id"]: row["class"] for row in rows.to_pylist()}
    failed = query(
        out, f"SELECT document_id FROM jobs WHERE task = '{task.name}' AND state = 'failed'"
    ).to_pylist()
    blank: Any = "" if task.kind == "text" else _blank(task)
    answers: dict[str, Any] = {row["document_id"]: blank for row in failed}
    if task.name not in list_views(out):
        return answers
    for row in query(out, f'SELECT * FROM "{task.name}" WHERE is_current').to_pylist():
        answers[row["document_id"]] = row["text"] if task.kind == "text" else _members(task, row)
    return answers


def _blank(task: Task) -> dict[str, Any]:
    return {field.name: [] if field.type == "list" else None for field in task.fields}


def _members(task: Task, row: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: plain_value(row[field.name]) for field in task.fields}


def _write(path: Path, gold: dict[str, Any]) -> None:
    try:
        # It holds what is in private documents.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(gold, file, ensure_ascii=False, indent=1)
            file.write("\n")
    except FileExistsError:
        raise InputError(
            f"the file path={str(path)!r} is there already and may hold your corrections; "
            "choose another name"
        ) from None
    except OSError as error:
        raise InputError(
            f"the file path={str(path)!r} can't be written ({error.strerror}); choose another"
        ) from error
