"""Checks the model's answers and gives them their types.

In: an answer's text. Out: a typed value, or a ResultError that is precise enough to show to the
model and holds nothing of the document.
"""

import json
import re
from datetime import date
from decimal import Decimal
from typing import Any, cast

from pipeline.errors import ResultError
from pipeline.merging import distinct
from pipeline.records import Field, Task
from pipeline.schema import DECIMAL_DIGITS, DECIMAL_PLACES, INTEGER_DIGITS
from pipeline.sentences import keep_sentences

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def parse_result(task: Task, text: str, *, partial: bool = False) -> Any:
    """Checks an answer against its task.

    Args:
        task: The task.
        text: What the model wrote.
        partial: The answer is about a part of a document, which may lack any field.

    Returns:
        See `Result.value`.

    Raises:
        ResultError: Kinds "empty", "invalid_text", "invalid_json", "unknown_class",
            "missing_field", "unknown_field", "invalid_value".
    """
    if task.kind == "text":
        return keep_sentences(_plain_text(text.strip()), task.limits.max_sentences)
    value = load_json(text)
    if task.kind == "class":
        if value not in task.classes:
            raise ResultError(
                "unknown_class", f"the answer is not one of {', '.join(task.classes)}"
            )
        return value
    return _members(task.fields, value, "the answer", partial=partial)


def load_members(text: str) -> dict[str, Any]:
    """The members of an answer that is a JSON object, as JSON gave them.

    Raises:
        ResultError: "invalid_json", "invalid_value".
    """
    value = load_json(text)
    if not isinstance(value, dict):
        raise ResultError("invalid_value", "the answer is not a JSON object")
    return cast("dict[str, Any]", value)


def parse_leaf(field: Field, value: Any, where: str) -> Any:
    """One value of a field that is no list; None for null and for empty text.

    Raises:
        ResultError: "invalid_value", "invalid_text".
    """
    return _value(field, value, where)


def _plain_text(text: str) -> str:
    if not text:
        raise ResultError("empty", "the answer is empty; write some text")
    if _CONTROL.search(text):
        raise ResultError("invalid_text", "the answer has control characters; write plain text")
    return text


def load_json(text: str) -> Any:
    """An answer's JSON, its numbers as Decimals.

    Raises:
        ResultError: "invalid_json".
    """
    try:
        return json.loads(
            text,
            parse_float=Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique_members,
        )
    except (ValueError, RecursionError) as error:
        place = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise ResultError(
            "invalid_json", f"the answer is not valid JSON{place}; write nothing but JSON"
        ) from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return members


def _members(fields: tuple[Field, ...], value: Any, where: str, *, partial: bool) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ResultError("invalid_value", f"{where} is not a JSON object")
    members = cast("dict[str, Any]", value)
    names = [field.name for field in fields]
    if any(name not in names for name in members):
        raise ResultError(
            "unknown_field", f"{where} has fields that were not asked for; only {', '.join(names)}"
        )
    parsed: dict[str, Any] = {}
    for field in fields:
        if field.name not in members:
            raise ResultError("missing_field", f"{where} lacks the field {field.name!r}")
        parsed[field.name] = _value(field, members[field.name], repr(field.name))
        if field.required and not partial and parsed[field.name] in (None, []):
            raise ResultError("missing_field", f"{field.name!r} is empty; it needs a value")
    return parsed


def _value(field: Field, value: Any, where: str) -> Any:
    """One value of a field; None for null and for an empty string."""
    if field.type == "list":
        return _items(field, value, where)
    if value is None or value == "":
        return None
    if field.type == "object":
        if _is_blank(field, value):
            return None
        members = _members(field.fields, value, where, partial=False)
        return members if any(member not in (None, []) for member in members.values()) else None
    parsers = {
        "string": _string,
        "integer": _integer,
        "decimal": _decimal,
        "date": _date,
        "boolean": _boolean,
        "enum": _choice,
    }
    return parsers[field.type](field, value, where)


def _is_blank(field: Field, value: Any) -> bool:
    """Whether required text is empty: an answer that is closed at its limit can end so."""
    members = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    return any(member.required and members.get(member.name) == "" for member in field.fields)


def _items(field: Field, value: Any, where: str) -> list[Any]:
    items = cast("list[Any]", value) if isinstance(value, list) else None
    if items is None:
        raise ResultError("invalid_value", f"{where} is not a list")
    if len(items) > field.max_items:
        raise ResultError("invalid_value", f"{where} has more than {field.max_items} items")
    parsed = [_value(cast("Field", field.items), item, f"an item of {where}") for item in items]
    return distinct(item for item in parsed if item is not None)


def _string(field: Field, value: Any, where: str) -> str | None:
    if not isinstance(value, str):
        raise ResultError("invalid_value", f"{where} is not text in quotes")
    text = value.strip()
    if _CONTROL.search(text):
        raise ResultError("invalid_text", f"{where} has control characters; write plain text")
    if len(text) > field.max_chars:
        raise ResultError("invalid_value", f"{where} has more than {field.max_chars} characters")
    return text or None


def _integer(_field: Field, value: Any, where: str) -> int:
    if isinstance(value, str) and len(value) <= INTEGER_DIGITS + 1 and _INTEGER.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 10**INTEGER_DIGITS:
        raise ResultError(
            "invalid_value", f"{where} is not a whole number of at most {INTEGER_DIGITS} digits"
        )
    return value


def _decimal(_field: Field, value: Any, where: str) -> Decimal:
    if isinstance(value, str):
        fits = len(value) <= 2 * DECIMAL_DIGITS and _DECIMAL.fullmatch(value)
    else:
        fits = isinstance(value, (int, Decimal)) and not isinstance(value, bool)
    number = Decimal(value) if fits else None
    # Bounded before it is rounded: an exponent of a billion must not be written out.
    if number is not None and -DECIMAL_DIGITS * 2 < number.adjusted() < DECIMAL_DIGITS:
        plain = number.quantize(Decimal(1).scaleb(-DECIMAL_PLACES))
        if plain == number and abs(plain) < 10 ** (DECIMAL_DIGITS - DECIMAL_PLACES):
            return _plain_decimal(number)
    raise ResultError(
        "invalid_value",
        f"{where} is not a number with at most {DECIMAL_DIGITS - DECIMAL_PLACES} digits before the "
        f"point and {DECIMAL_PLACES} after it",
    )


def _plain_decimal(number: Decimal) -> Decimal:
    """Without exponent, without minus zero, and with the places that it was written with."""
    places = min(max(-cast("int", number.as_tuple().exponent), 0), DECIMAL_PLACES)
    return abs(number.quantize(Decimal(1).scaleb(-places))) * (-1 if number < 0 else 1)


def _date(_field: Field, value: Any, where: str) -> date:
    try:
        if isinstance(value, str) and _DATE.fullmatch(value):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise ResultError("invalid_value", f"{where} is not a real date written as YYYY-MM-DD")


def _boolean(_field: Field, value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    raise ResultError("invalid_value", f"{where} is not true or false")


def _choice(field: Field, value: Any, where: str) -> str:
    if isinstance(value, str) and value in field.values:
        return value
    raise ResultError("invalid_value", f"{where} is not one of {', '.join(field.values)}")
