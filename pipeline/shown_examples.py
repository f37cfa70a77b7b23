"""What the model is shown as the right answer to an example, in the form that is asked for.

In: an example of a task with fields, as `pipeline.task_examples` has checked it. Out: JSON as the
grammar of that form would have it written.
"""

import json
from functools import lru_cache
from typing import Any, cast

from pipeline.choices import Choice, find_choices
from pipeline.derive_dates import first_whole_date
from pipeline.forms import item_field
from pipeline.merging import sameness
from pipeline.records import Field
from pipeline.results import parse_leaf
from pipeline.rows import find_rows, has_rows

_REMEMBERED = 256


def value_answer(fields: tuple[Field, ...], answer: str) -> str:
    """An answer's values without their quotes: the form "free".

    Args:
        fields: Of the task.
        answer: The example's, in the form "one_call".
    """
    members = json.loads(answer)
    return _dump({field.name: _value(field, members[field.name]) for field in fields})


@lru_cache(_REMEMBERED)  # asked for again with every document
def field_answer(field: Field, answer: str, text: str) -> str:
    """An answer about one field, in the form "per_field": the choice that holds the value.

    Args:
        field: Of the task.
        answer: The example's, in the form "one_call".
        text: The example's document.
    """
    day = first_whole_date(text)
    context = day.isoformat() if day else ""
    return _dump({field.name: _choice(field, json.loads(answer)[field.name], text, context)})


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _value(field: Field, claim: Any) -> Any:
    if field.type == "list":
        return [_value(cast("Field", field.items), each) for each in claim]
    if claim is None:
        return None
    if field.type == "object":
        return {member.name: claim[member.name] for member in field.fields}
    return claim["value"]


def _choice(field: Field, claim: Any, text: str, context: str, *, in_list: bool = False) -> Any:
    if field.type == "list":
        items = item_field(field)
        return [_choice(items, each, text, context, in_list=True) for each in claim]
    if claim is None or field.type == "boolean":
        return claim
    if field.type == "enum":
        return claim["value"]
    if field.type == "object":
        return _row(field, claim, text, context)
    value = sameness(parse_leaf(field, claim["value"], repr(field.name)))
    choices = find_choices(field, text, context, in_list=in_list)
    same = (
        choice.quote
        for choice in choices
        if sameness(choice.value) == value and _stands_at(claim["quote"], choice, text)
    )
    return next(same, claim["quote"])


def _stands_at(quote: str, choice: Choice, text: str) -> bool:
    """Whether a choice is about the words of a quote, and not about the same value elsewhere."""
    start = text.find(quote, max(0, choice.start - len(quote)))
    return 0 <= start < choice.end


def _row(field: Field, claim: dict[str, Any], text: str, context: str) -> Any:
    """The row of an object's members; where they are in none, a choice for each member."""
    if has_rows(field):
        rows = [row.quote for row in find_rows(field, text)]
        return next((row for row in rows if _overlap(row, claim["quote"])), claim["quote"])
    members: dict[str, Any] = {}
    for member in field.fields:
        value = claim[member.name]
        plain = member.type in ("list", "object") or value is None
        inner = value if plain else {"quote": claim["quote"], "value": value}
        members[member.name] = inner if plain else _choice(member, inner, text, context)
    return members


def _overlap(row: str, quote: str) -> bool:
    return row in quote or quote in row
