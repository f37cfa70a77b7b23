"""Reads a gold file: documents and what is true of them.

In: a JSON file (its form: sample_docs/gold/README.md) and the tasks. Out: a `Gold`, or every
mistake in the file at once, each with its place and fix.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pipeline.errors import InputError
from pipeline.evaluation.gold_values import read_value
from pipeline.records import Field, Task
from pipeline.task_tables import did_you_mean

VERSION = 1
_PROBLEMS_SHOWN = 20
_KEYS = frozenset(
    ("answers", "also", "pages", "facts", "printed", "split", "layout", "checked", "note")
)


@dataclass(frozen=True, slots=True)
class GoldAnswer:
    """What is true of a document under one task.

    Attributes:
        task: The task's name.
        value: As `Result.value`; fields that are not judged are left out.
        also: By field ("" where the answer has none): other values that are right.
        pages: By field: the pages from which evidence is right; empty: any.
        facts: What a good summary names, each in forms of which one is enough.
    """

    task: str
    value: Any
    also: Mapping[str, tuple[Any, ...]] = field(default_factory=dict[str, tuple[Any, ...]])
    pages: Mapping[str, frozenset[int]] = field(default_factory=dict[str, frozenset[int]])
    facts: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class GoldDocument:
    """A labelled document.

    Attributes:
        name: Its path below the gold file's folder.
        split: "train", "test" or whatever the file says; may be empty.
        answers: One for each task.
    """

    name: str
    split: str
    answers: tuple[GoldAnswer, ...]


@dataclass(frozen=True, slots=True)
class Gold:
    """A gold file.

    Attributes:
        folder: Where the documents lie, absolute.
        documents: Those that are judged.
        unchecked: How many are left out because nobody has corrected them yet.
    """

    folder: Path
    documents: tuple[GoldDocument, ...]
    unchecked: int


def load_gold(
    path: Path, tasks: Sequence[Task], *, split: str = "", only: Sequence[str] = ()
) -> Gold:
    """Reads and checks a gold file.

    Args:
        path: The file.
        tasks: All tasks there are.
        split: Only documents of this split; empty: all.
        only: Only answers to these tasks; empty: all.

    Raises:
        InputError: The file can't be read or does not match; or nothing of it is left to judge.
    """
    values = _load(path)
    folder = (path.parent / str(values.get("folder", "."))).resolve()
    reader = _Reader(folder, {task.name: task for task in tasks})
    for name in only:
        if name not in reader.tasks:
            near = did_you_mean(name, reader.tasks)
            raise InputError(f"there is no task named task={name!r}{near}")
    entries = _table(values.get("documents"))
    if not entries:
        reader.report("documents", "is missing or empty; add documents with their answers")
    found = [reader.read(name, entry) for name, entry in (entries or {}).items()]
    if reader.problems:
        raise InputError(_list_problems(path, reader.problems))
    documents = [document for document in found if document is not None]
    chosen = _choose(documents, split, frozenset(only))
    if not chosen:
        raise InputError(_explain_nothing(path, documents, split, len(found) - len(documents)))
    return Gold(folder, tuple(chosen), len(found) - len(documents))


def _load(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(
            f"the gold file path={str(path)!r} can't be read ({reason}); "
            "`docflash label FILE` writes one"
        ) from error
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"the gold file path={str(path)!r} is not valid JSON{line}") from None
    table = _table(values)
    if table is None or table.get("version") != VERSION:
        found = table.get("version") if table else None
        raise InputError(
            f'the gold file path={str(path)!r} has version={found!r}; it begins with "version": '
            f'{VERSION} and has "documents", see sample_docs/gold/README.md'
        )
    return table


def _table(value: Any) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _list_problems(path: Path, problems: Sequence[str]) -> str:
    shown = "\n".join(f"  {problem}" for problem in problems[:_PROBLEMS_SHOWN])
    more = len(problems) - _PROBLEMS_SHOWN
    rest = f"\n  ... and {more} more" if more > 0 else ""
    count = "a mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    return f"the gold file path={str(path)!r} has {count}; correct and run again:\n{shown}{rest}"


def _choose(
    documents: Sequence[GoldDocument], split: str, only: frozenset[str]
) -> list[GoldDocument]:
    chosen: list[GoldDocument] = []
    for document in documents:
        answers = tuple(a for a in document.answers if not only or a.task in only)
        if answers and (not split or document.split == split):
            chosen.append(GoldDocument(document.name, document.split, answers))
    return chosen


def _explain_nothing(
    path: Path, documents: Sequence[GoldDocument], split: str, unchecked: int
) -> str:
    if not documents and unchecked:
        return (
            f"no document of the gold file path={str(path)!r} is checked; correct the answers, "
            'then set "checked": true (or remove it) where they are right'
        )
    splits = sorted({document.split for document in documents} - {""})
    known = f"its splits are {', '.join(splits)}" if splits else "it has no splits"
    return (
        f"the gold file path={str(path)!r} has no answers for split={split!r} and these tasks; "
        f"{known}"
    )


class _Reader:
    """Reads entries and collects what is wrong with them."""

    def __init__(self, folder: Path, tasks: Mapping[str, Task]) -> None:
        self.folder = folder
        self.tasks = tasks
        self.problems: list[str] = []

    def report(self, place: str, message: str) -> None:
        self.problems.append(f"{place}: {message}")

    def read(self, name: str, entry: Any) -> GoldDocument | None:
        """A document; None if it is not checked, or not an entry at all."""
        table = _table(entry)
        if table is None or not _table(table.get("answers")):
            self.report(name, 'needs "answers" with at least one task')
            return None
        for key in table:
            if key not in _KEYS:
                self.report(name, f"unknown key {key!r}{did_you_mean(key, _KEYS)}")
        if not (self.folder / name).is_file():
            self.report(name, f"there is no such file in folder={str(self.folder)!r}")
        if table.get("checked") is False:
            return None
        answers = [self._answer(name, task, table) for task in table["answers"]]
        split = str(table.get("split") or "")
        return GoldDocument(name, split, tuple(answer for answer in answers if answer))

    def _answer(self, name: str, task_name: str, table: dict[str, Any]) -> GoldAnswer | None:
        task = self.tasks.get(task_name)
        place = f"{name}, {task_name}"
        if task is None:
            known = did_you_mean(task_name, self.tasks)
            self.report(place, f"there is no task of this name{known}")
            return None
        raw = table["answers"][task_name]
        beside = {key: (_table(table.get(key)) or {}).get(task_name) for key in _KEYS}
        if task.kind != "fields":
            value = self._text(place, task, raw)
            also = {"": tuple(self._text(place, task, other) for other in beside["also"] or ())}
            return GoldAnswer(task_name, value, also, {}, self._facts(place, beside["facts"]))
        members = _table(raw)
        if members is None:
            self.report(place, "the answer is not an object of fields")
            return None
        fields = {field.name: field for field in task.fields}
        return GoldAnswer(
            task_name,
            {
                key: self._value(f"{place}, {key}", field, members[key])
                for key, field in self._known(place, fields, members)
            },
            {
                key: tuple(self._value(f"{place}, also, {key}", field, one) for one in others)
                for key, field in self._known(place, fields, _table(beside["also"]) or {})
                for others in [(_table(beside["also"]) or {})[key]]
            },
            {
                key: frozenset(numbers)
                for key, numbers in (_table(beside["pages"]) or {}).items()
                if key in fields
            },
        )

    def _known(
        self, place: str, fields: Mapping[str, Field], members: Mapping[str, Any]
    ) -> list[tuple[str, Field]]:
        """The keys that are fields of the task; others are reported."""
        for key in members:
            if key not in fields:
                self.report(place, f"the task has no field {key!r}{did_you_mean(key, fields)}")
        return [(key, fields[key]) for key in members if key in fields]

    def _value(self, place: str, field: Field, raw: Any) -> Any:
        try:
            return read_value(field, raw)
        except ValueError as error:
            self.report(place, str(error))
            return None

    def _text(self, place: str, task: Task, raw: Any) -> str:
        if not isinstance(raw, str) or not raw.strip():
            self.report(place, f"the answer is {raw!r}; give text")
            return ""
        if task.kind == "class" and raw not in task.classes:
            self.report(place, f"there is no class {raw!r}{did_you_mean(raw, task.classes)}")
        return raw

    def _facts(self, place: str, raw: Any) -> tuple[tuple[str, ...], ...]:
        facts = cast("list[Any]", raw) if isinstance(raw, list) else []
        forms = [[fact] if isinstance(fact, str) else fact for fact in facts]
        if not all(isinstance(form, list) and form for form in forms):
            self.report(place, 'facts is a list of texts, or of lists of forms: [["10 May"], ...]')
            return ()
        return tuple(tuple(map(str, form)) for form in forms)
