"""Reads the values of a gold file, each by the type of its field.

In: a value as JSON has it. Out: the typed value, or what is wrong with it. Unlike an answer of the
model a true value may be longer than the task allows: it is true all the same.
"""

from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from pipeline.records import Field
from pipeline.task_tables import did_you_mean


def read_value(field: Field, raw: Any) -> Any:
    """The typed value; None for null and for empty text.

    Raises:
        ValueError: It is not of the field's type; says what would be.
    """
    if field.type == "list":
        items = cast("list[Any]", raw) if isinstance(raw, list) else [] if raw is None else None
        if items is None:
            raise ValueError(f"{raw!r} is not a list; write [...]")
        return [read_value(cast("Field", field.items), item) for item in items]
    if raw is None or raw == "":
        return None
    if field.type == "object":
        return _read_object(field, raw)
    return _READERS[field.type](field, raw)


def _read_object(field: Field, raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ValueError(f"{raw!r} is not an object; write {{...}}")  # noqa: TRY004
    members = cast("dict[str, Any]", raw)
    known = {member.name: member for member in field.fields}
    for name in members:
        if name not in known:
            raise ValueError(f"there is no member {name!r}{did_you_mean(name, known)}")
    return {name: read_value(known[name], value) for name, value in members.items()}


def _read_string(_: Field, raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"{raw!r} is not text; put it in quotes")  # noqa: TRY004
    return raw


def _read_integer(_: Field, raw: Any) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise ValueError(f"{raw!r} is not a whole number")  # noqa: TRY004
    return raw


def _read_decimal(_: Field, raw: Any) -> Decimal:
    try:
        number = Decimal("NaN") if isinstance(raw, bool) else Decimal(str(raw))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise ValueError(f'{raw!r} is not a number; write it as "1234.50"')
    return number


def _read_date(_: Field, raw: Any) -> date:
    try:
        return date.fromisoformat(raw)
    except (TypeError, ValueError):
        raise ValueError(f'{raw!r} is not a date; write it as "2026-03-31"') from None


def _read_boolean(_: Field, raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise ValueError(f"{raw!r} is not true or false")  # noqa: TRY004
    return raw


def _read_choice(field: Field, raw: Any) -> str:
    if raw not in field.values:
        raise ValueError(f"{raw!r} is not a choice{did_you_mean(str(raw), field.values)}")
    return str(raw)


_READERS = {
    "string": _read_string,
    "integer": _read_integer,
    "decimal": _read_decimal,
    "date": _read_date,
    "boolean": _read_boolean,
    "enum": _read_choice,
}
