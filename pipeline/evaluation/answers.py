"""Fetches what a library has published about labelled documents.

In: the library's folder and the gold documents. Out: one `Found` for each answer that was asked
for, also where there is none. Documents are known by their bytes, so it does not matter under which
path they were read.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.evaluation.gold import Gold
from pipeline.queries import list_views, query
from pipeline.records import Task
from pipeline.tables import quoted


@dataclass(frozen=True, slots=True)
class Quote:
    """Where an answer says that one of its values stands.

    Attributes:
        field: Dotted path, such as "total" or "lines.amount".
        item: Place in the list, from 0.
        pages: Pages of its spans.
    """

    field: str
    item: int
    pages: frozenset[int]


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a task about a labelled document.

    Attributes:
        value: As `Result.value`; None if there is no answer.
        failure: Kind of the failure, or "missing"; empty if there is an answer.
        quotes: Its evidence.
        prompt_tokens, completion_tokens: Of all calls; 0 where nothing was asked.
        model_s: Seconds in the engine.
    """

    value: Any
    failure: str = ""
    quotes: tuple[Quote, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    model_s: float = 0.0


def identify(gold: Gold) -> dict[str, str]:
    """The documents' ids by their names: the SHA-256 of their bytes.

    Raises:
        OSError: A document of the gold file can't be read.
    """
    return {document.name: _digest(gold.folder / document.name) for document in gold.documents}


def load_answers(
    out: Path, gold: Gold, tasks: Sequence[Task], ids: Mapping[str, str]
) -> dict[tuple[str, str], Found]:
    """The published answers, by the document's name and the task's.

    Args:
        out: The library.
        gold: What is asked for.
        tasks: All tasks there are.
        ids: Of the documents, see `identify`.

    Raises:
        InputError: Nothing is published in the library.
    """
    names = {task.name: task for task in tasks}
    wanted = sorted({answer.task for doc in gold.documents for answer in doc.answers})
    loaded = {name: _load(out, names[name], ids.values()) for name in wanted}
    return {
        (document.name, answer.task): loaded[answer.task].get(ids[document.name], _MISSING)
        for document in gold.documents
        for answer in document.answers
    }


_MISSING = Found(None, "missing")


def read_texts(out: Path, ids: Mapping[str, str]) -> dict[str, str]:
    """The documents' normalised texts as the library has them, by name; none if not read."""
    rows = query(
        out,
        "SELECT document_id, text FROM pages "
        f"WHERE document_id IN ({_listed(ids.values())}) ORDER BY document_id, page_number",
    ).to_pylist()
    pages: dict[str, list[str]] = {}
    for row in rows:
        pages.setdefault(row["document_id"], []).append(row["text"])
    return {name: "\f".join(pages[found]) for name, found in ids.items() if found in pages}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _listed(ids: Iterable[str]) -> str:
    return ", ".join(map(quoted, ids)) or "NULL"


def _load(out: Path, task: Task, ids: Iterable[str]) -> dict[str, Found]:
    """By document: the answers to one task, and why others failed."""
    where = f"task = {quoted(task.name)} AND document_id IN ({_listed(ids)})"
    jobs = query(
        out,
        "SELECT document_id, state, failure_kind, prompt_tokens, completion_tokens, model_s "
        f"FROM jobs WHERE {where}",
    ).to_pylist()
    values = _load_values(out, task, where)
    quotes = _load_quotes(out, where)
    found: dict[str, Found] = {}
    for job in jobs:
        name = job["document_id"]
        if job["state"] == "done" and name in values:
            found[name] = Found(
                values[name],
                "",
                tuple(quotes.get(name, ())),
                job["prompt_tokens"] or 0,
                job["completion_tokens"] or 0,
                job["model_s"] or 0.0,
            )
        else:
            found[name] = Found(None, job["failure_kind"] or job["state"])
    return found


def _load_values(out: Path, task: Task, where: str) -> dict[str, Any]:
    if task.kind == "class":
        rows = query(out, "SELECT document_id, class FROM documents WHERE class IS NOT NULL")
        return {row["document_id"]: row["class"] for row in rows.to_pylist()}
    if task.kind == "text":
        rows = query(out, f"SELECT document_id, text FROM summaries WHERE {where} AND is_current")
        return {row["document_id"]: row["text"] for row in rows.to_pylist()}
    table = f"extractions_{task.name}"
    if table not in list_views(out):
        return {}
    rows = query(out, f'SELECT * FROM "{table}" WHERE {where} AND is_current').to_pylist()
    return {
        row["document_id"]: {field.name: row[field.name] for field in task.fields} for row in rows
    }


def _load_quotes(out: Path, where: str) -> dict[str, list[Quote]]:
    rows = query(
        out,
        "SELECT document_id, field, item, list(DISTINCT page_number) AS pages FROM evidence "
        f"WHERE {where} AND chosen AND quote IS NOT NULL GROUP BY ALL",
    ).to_pylist()
    quotes: dict[str, list[Quote]] = {}
    for row in rows:
        pages = frozenset(row["pages"])
        quotes.setdefault(row["document_id"], []).append(Quote(row["field"], row["item"], pages))
    return quotes
