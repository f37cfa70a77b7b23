"""Joins the grounded answers about the parts of a document: its value, evidence, and the losers.

In: a `PartAnswer` for each part, in order. Out: the value by the rules of `pipeline.merging`, and
evidence: for each value that was chosen, the first part's claim that supports it; then, for each
field, other values that parts gave, kept as alternatives.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pipeline.claims import NOT_FOUND, Claim, PartAnswer
from pipeline.derive import value_text
from pipeline.evidence import Evidence, page_spans
from pipeline.merging import merge_fields, sameness
from pipeline.records import Field, Task

LOST = "another value was chosen: see the rules for the parts of a long document"
CUT_OFF = "the list was longer than max_merged_items"


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The answer about a document.

    Attributes:
        value: Member by member, as in `Result.value`.
        evidence: For each value of it, and for the losers.
        cut: True if a list had more than its `max_merged_items`.
    """

    value: dict[str, Any]
    evidence: tuple[Evidence, ...]
    cut: bool


def reconcile(task: Task, text: str, parts: Sequence[PartAnswer]) -> Reconciled:
    """Joins the answers about a document's parts.

    Args:
        task: Of kind "fields".
        text: The document's normalised text.
        parts: In the order of the chunks.

    Raises:
        ResultError: "missing_field": no part gave a required field.
    """
    supported = [
        Counter(claim.field.partition(".")[0] for claim in part.claims if claim.is_supported)
        for part in parts
    ]
    merged = merge_fields(task, [part.value for part in parts], supported)
    claims = [claim for part in parts for claim in part.claims]
    evidence = [
        entry
        for member in task.fields
        for entry in _explain(member, merged.value[member.name], claims, text)
    ]
    return Reconciled(merged.value, tuple(evidence), merged.cut)


def _explain(member: Field, value: Any, claims: Sequence[Claim], text: str) -> Iterator[Evidence]:
    own = [claim for claim in claims if claim.field.partition(".")[0] == member.name]
    if value in (None, []):
        reasons = [claim.reason for claim in own if claim.support == "not_found"]
        yield Evidence(member.name, 0, None, "not_found", reason=(reasons or [NOT_FOUND])[0])
        return
    if member.type == "list":
        items = cast("list[Any]", value)
        kept = {sameness(item) for item in items}
        for number, item in enumerate(items):
            yield from _of_one(own, sameness(item), item, number, text)
        yield from _losers([c for c in own if c.item is not None and c.item not in kept], text)
        return
    yield from _of_one(own, None, value, 0, text)
    if member.type != "object":
        known = sameness(value)
        yield from _losers([claim for claim in own if sameness(claim.value) != known], text)


def _of_one(
    own: Sequence[Claim], key: Any, value: Any, number: int, text: str
) -> Iterator[Evidence]:
    """The evidence of one value or item: the best claim for each of its leaves."""
    best: dict[tuple[str, Any], Claim] = {}
    leaves = _leaves(own[0].field.partition(".")[0], value)
    for claim in own:
        leaf = (claim.field, sameness(claim.value))
        if claim.item != key or leaf not in leaves:
            continue
        if leaf not in best or (claim.is_supported and not best[leaf].is_supported):
            best[leaf] = claim
    for claim in best.values():
        yield _entry(claim, number, text)


def _leaves(name: str, value: Any) -> set[tuple[str, Any]]:
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {
            leaf for inner, each in members.items() for leaf in _leaves(f"{name}.{inner}", each)
        }
    if isinstance(value, list):
        return {leaf for each in cast("list[Any]", value) for leaf in _leaves(name, each)} or {
            (name, sameness(None))
        }
    return {(name, sameness(value))}


def _losers(claims: Sequence[Claim], text: str) -> Iterator[Evidence]:
    known: set[tuple[str, Any, Any]] = set()
    for claim in claims:
        leaf = (claim.field, claim.item, sameness(claim.value))
        if claim.value is not None and leaf not in known:
            known.add(leaf)
            yield _entry(claim, 0, text, chosen=False)


def _entry(claim: Claim, number: int, text: str, *, chosen: bool = True) -> Evidence:
    reason = claim.reason if chosen else LOST if claim.item is None else CUT_OFF
    return Evidence(
        field=claim.field,
        item=number,
        value=None if claim.value is None else value_text(claim.value),
        support=claim.support,
        spans=() if claim.place is None else page_spans(text, *claim.place),
        probability=claim.probability,
        chosen=chosen,
        reason=reason,
    )
