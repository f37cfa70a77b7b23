"""Reads the examples of a task: short documents with the right answers, which the model is shown.

In: TOML tables. Out: (answer, text) pairs, or problems that name the file, the example, the value
and the fix. The answer is a class, a text, or JSON as the form "one_call" has it: each value with
the quote that it follows from. An example is checked as an answer of the model is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, cast

from pipeline.claims import PartAnswer, Seen
from pipeline.derive import value_text
from pipeline.derive_dates import first_whole_date
from pipeline.errors import ResultError
from pipeline.grounding import ground_answer
from pipeline.probabilities import Probabilities
from pipeline.records import Field, TaskKind
from pipeline.task_tables import Table, did_you_mean

_DERIVED = frozenset(("date", "decimal", "integer"))
_SHOWN_CHARS = 80

Examples = tuple[tuple[str, str], ...]


def read_examples(
    parent: Table, kind: TaskKind, classes: tuple[str, ...], fields: Sequence[Field]
) -> Examples:
    """The examples of a task, in the order of its file, in which the model is shown them.

    Args:
        parent: The task.
        kind: Its kind.
        classes: Its classes, if it is of kind "class".
        fields: Its fields, if it is of kind "fields".
    """
    if kind == "class":
        return _read_of_classes(parent, classes)
    examples: list[tuple[str, str]] = []
    for number, table in enumerate(parent.take_tables("examples"), start=1):
        text = table.take_text("text")
        if not text:
            table.report("text", f'example {number} has no text; add text = """..."""')
        elif kind == "text":
            answer = table.take_text("answer")
            if not answer:
                table.report("answer", f'example {number} has no answer; add answer = "..."')
            examples.append((answer, text))
        else:
            examples.append((_read_answer(table, number, fields, text), text))
        table.finish()
    return tuple(examples)


def _read_of_classes(parent: Table, classes: tuple[str, ...]) -> Examples:
    table = parent.take_table("examples")
    if table is None:
        return ()
    examples: list[tuple[str, str]] = []
    for name in table.names():
        text = table.take_text(name)
        if name not in classes:
            table.report(name, f"an example of {name!r}, no class{did_you_mean(name, classes)}")
        elif not text:
            table.report(name, f"the example of {name!r} is empty; write a short document")
        examples.append((name, text))
    return tuple(examples)


def _read_answer(parent: Table, number: int, fields: Sequence[Field], text: str) -> str:
    """The answer of an example as JSON, with null for what it leaves out."""
    table = parent.take_table("answer")
    if table is None:
        if "answer" not in parent:
            parent.report(
                "", f"example {number} has no answer; add [examples.answer] with its fields"
            )
        return "{}"
    reader = _Reader(table, number, text)
    answer = {field.name: reader.read(field) for field in fields}
    for name in table.names():
        if name not in answer:
            known = did_you_mean(name, answer)
            table.report(name, f"example {number} answers {name!r}, no field{known}")
            table.take(name)
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the values of one example.

    Attributes:
        table: Its answer.
        number: Which example it is, from 1.
        text: Its document.
    """

    table: Table
    number: int
    text: str

    def read(self, field: Field) -> Any:
        """The value of a field, with its quotes, as an answer's JSON has it."""
        raw = self.table.take(field.name)
        if raw is None:
            if field.required:
                self._report(field, "is required, but has no value here; add it")
            return [] if field.type == "list" else None
        try:
            value = _claim(field, raw)
            answer = self._ground(field, value)
        except ResultError as error:
            self._report(field, f"{error}: {_shorten(raw)}{_remedy(field, error)}")
            return None
        if answer.value[field.name] in (None, []) and raw != []:
            self._report(field, f"has no value, or lacks a required member: {_shorten(raw)}")
        kinds = dict(_leaf_types(field))
        for claim in answer.claims:
            if claim.support == "unsupported" and kinds.get(claim.field) in _DERIVED:
                self._report(field, f"{claim.reason}: value={value_text(claim.value)!r}")
        return value

    def _ground(self, field: Field, value: Any) -> PartAnswer:
        """The value as an answer of the model is read.

        Raises:
            ResultError: It is not of the field's type, or a quote is not in the text.
        """
        day = first_whole_date(self.text)
        seen = Seen(self.text, 0, len(self.text), day.isoformat() if day else "")
        return ground_answer((field,), "one_call", {field.name: value}, seen, Probabilities(None))

    def _report(self, field: Field, message: str) -> None:
        self.table.report(field.name, f"example {self.number}, {field.name}: {message}")


def _shorten(raw: Any) -> str:
    shown = repr(raw)
    return shown if len(shown) <= _SHOWN_CHARS else f"{shown[:_SHOWN_CHARS]}..."


def _remedy(field: Field, error: ResultError) -> str:
    if error.kind != "invalid_quote":
        return ""
    return (
        f"; where the text has the value in another form: {field.name} = "
        '{ quote = "words of the text", value = "..." }'
    )


def _claim(field: Field, raw: Any) -> Any:
    """A value of TOML in the form "one_call": words that stand in the text are quote and value.

    Raises:
        ResultError: A table has other keys than it should have.
    """
    if isinstance(raw, list) and field.type == "list":
        return [_claim(cast("Field", field.items), item) for item in cast("list[Any]", raw)]
    if isinstance(raw, list) or field.type == "list":
        return raw
    if field.type == "object":
        return _object_claim(field, raw)
    if isinstance(raw, dict):
        table = cast("dict[str, Any]", raw)
        _check_keys(table, ("quote", "value"))
        if len(table) != len(("quote", "value")):
            raise ResultError("invalid_value", "it needs a quote and a value")
        return {"quote": table["quote"], "value": _plain(field, table["value"])}
    value = _plain(field, raw)
    return {"quote": value if isinstance(value, str) else str(raw).lower(), "value": value}


def _object_claim(field: Field, raw: Any) -> Any:
    """An object with its quote; members that are left out are null."""
    if not isinstance(raw, dict):
        return raw
    table = cast("dict[str, Any]", raw)
    _check_keys(table, ("quote", *(member.name for member in field.fields)))
    members: dict[str, Any] = {
        member.name: _plain(member, table[member.name])
        if member.name in table
        else []
        if member.type == "list"
        else None
        for member in field.fields
    }
    return {"quote": table.get("quote"), **members}


def _check_keys(table: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in table:
        if name not in known:
            raise ResultError("invalid_value", f"unknown key {name!r}{did_you_mean(name, known)}")


def _plain(field: Field, raw: Any) -> Any:
    """A value without quotes: numbers and dates are text in an answer's JSON."""
    if isinstance(raw, list) and field.items is not None:
        return [_plain(field.items, item) for item in cast("list[Any]", raw)]
    if isinstance(raw, date):
        return raw.isoformat()
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        return str(raw)
    return raw


def _leaf_types(field: Field, above: str = "") -> list[tuple[str, str]]:
    """The dotted paths of a field's values, with their types."""
    path = f"{above}{field.name}"
    inner = field
    while inner.type == "list" and inner.items is not None:
        inner = inner.items
    if inner.type != "object":
        return [(path, inner.type)]
    return [leaf for member in inner.fields for leaf in _leaf_types(member, f"{path}.")]
