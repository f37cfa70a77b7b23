"""Joins the answers about the parts of a document by written rules, with no model in it.

In: one value per chunk, in order. Out: one value for the document. The rules:
- A plain value: one that the document supports before one that it does not; of these, the one that
  most parts give; of equally many, the earliest.
- An object: the one with the most members filled in and supported; of equals, the earliest. Never
  mixed.
- A list: all items in order, each once. If they are too many, the first item of every part goes
  before the second of any, and so on; what is kept stands in the order of the text.
Text is compared without regard to case and white space.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pipeline.errors import ResultError
from pipeline.records import Field, Task


@dataclass(frozen=True, slots=True)
class Merged:
    """The joined answer.

    Attributes:
        value: Member by member, as in `Result.value`.
        cut: True if a list had more than its `max_merged_items`.
    """

    value: dict[str, Any]
    cut: bool


def merge_fields(
    task: Task, parts: Sequence[dict[str, Any]], supported: Sequence[Mapping[str, int]] = ()
) -> Merged:
    """Joins the answers about a document's chunks.

    Args:
        task: Of kind "fields".
        parts: The values of each part, in the order of the chunks.
        supported: For each part and field, how many of its values the document supports; none
            given means that all are.

    Raises:
        ResultError: "missing_field": no part gave a required field.
    """
    merged: dict[str, Any] = {}
    cut = False
    for field in task.fields:
        values = [part[field.name] for part in parts]
        if field.type == "list":
            items, over = _merge_lists(field, values)
            merged[field.name] = items
            cut = cut or over
        else:
            weights = [part.get(field.name, 0) for part in supported] or [1] * len(values)
            merged[field.name] = _merge_values(field, values, weights)
        if field.required and merged[field.name] in (None, []):
            raise ResultError(
                "missing_field",
                f"no part of the document gave the required field {field.name!r}; "
                f"if documents may lack it, set required = false in the task {task.name!r}",
            )
    return Merged(merged, cut)


def distinct(items: Iterable[Any]) -> list[Any]:
    """The items in order, each once."""
    first: dict[Any, Any] = {}
    for item in items:
        first.setdefault(sameness(item), item)
    return list(first.values())


def _merge_values(field: Field, values: list[Any], weights: list[int]) -> Any:
    pairs = [pair for pair in zip(values, weights, strict=True) if pair[0] is not None]
    if not pairs:
        return None
    if field.type == "object":
        return max(pairs, key=lambda pair: (pair[1], _members_given(pair[0])))[0]
    given = [value for value, weight in pairs if weight] or [value for value, _ in pairs]
    keys = [sameness(value) for value in given]
    # max() and index() both take the first of equals, which is the earliest chunk's.
    return given[keys.index(max(keys, key=keys.count))]


def _members_given(value: dict[str, Any]) -> int:
    return sum(member not in (None, []) for member in value.values())


def _merge_lists(field: Field, values: list[list[Any]]) -> tuple[list[Any], bool]:
    seen: set[Any] = set()
    ranked: list[tuple[int, int]] = []  # (place in its part, part)
    for part, items in enumerate(values):
        for place, item in enumerate(items):
            key = sameness(item)
            if key not in seen:
                seen.add(key)
                ranked.append((place, part))
    kept = ranked
    if len(ranked) > field.max_merged_items:
        kept = _spread(sorted(ranked), field.max_merged_items)
    in_order = sorted(kept, key=lambda at: (at[1], at[0]))
    return [values[part][place] for place, part in in_order], len(kept) < len(ranked)


def _spread(ranked: list[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """The first places of all parts, then the second; of the last ones evenly spread parts."""
    border = ranked[most][0]
    whole = [at for at in ranked if at[0] < border]
    rest = [at for at in ranked if at[0] == border]
    room = most - len(whole)
    return whole + [rest[index * len(rest) // room] for index in range(room)]


def sameness(value: Any) -> Any:
    """A hashable key that is equal for values that people would call the same."""
    if isinstance(value, str):
        return " ".join(value.casefold().split())
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return tuple((name, sameness(member)) for name, member in members.items())
    if isinstance(value, list):
        return tuple(sameness(item) for item in cast("list[Any]", value))
    return type(value), value
