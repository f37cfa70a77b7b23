"""Ties the values of an answer to their evidence.

In: an answer and its rows of evidence. Out: a tree of values, each with its proof, and the proofs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

from pipeline.report.places import PageOffsets
from pipeline.report.rows import AnswerRow, EvidenceRow, JobRow
from pipeline.report.shown import visible
from pipeline.report.sketches import Sketcher
from pipeline.report.view import Answer, Place, Proof, Value

_PROSE = "text"
_DOUBTED = frozenset({"unsupported", "not_found"})


class ProofBook:
    """The proofs of one document, in the order in which they came."""

    def __init__(self, offsets: PageOffsets, sketcher: Sketcher) -> None:
        self._offsets = offsets
        self._sketcher = sketcher
        self.proofs: list[Proof] = []

    def add(self, rows: Sequence[EvidenceRow]) -> "TaskProofs":
        """Makes the proofs of one task: its rows in the order of the table."""
        found = TaskProofs(self.proofs)
        spans: list[EvidenceRow] = []
        for row in rows:
            if spans and row.span == 0:
                self._add(spans, found)
                spans = []
            spans.append(row)
        if spans:
            self._add(spans, found)
        return found

    def _add(self, spans: Sequence[EvidenceRow], found: "TaskProofs") -> None:
        first = spans[0]
        has_value = first.value is not None
        places: list[Place] = []
        for row in spans:
            if row.start_char is not None and row.end_char is not None:
                places += self._offsets.find(row.start_char, row.end_char)
        proof = Proof(
            first.field,
            visible(first.value) if first.value is not None else None,
            visible("\n".join(row.quote for row in spans if row.quote)),
            first.support,
            first.confidence,
            first.probability,
            first.score,
            visible(first.reason),
            first.chosen,
            first.chosen and has_value and first.support in _DOUBTED,
            tuple(places),
            sketches=self._sketcher.draw(box for row in spans for box in row.boxes),
        )
        found.note(first.field, first.item, len(self.proofs))
        self.proofs.append(proof)


class TaskProofs:
    """The proofs of one answer, taken one by one by its values."""

    def __init__(self, proofs: list[Proof]) -> None:
        self._proofs = proofs
        self._left: dict[tuple[str, int], list[int]] = {}

    def note(self, field: str, item: int, number: int) -> None:
        """Keeps a proof for the value of a field."""
        self._left.setdefault((field, item), []).append(number)

    def take(self, field: str, item: int, text: str | None) -> int | None:
        """The proof of a value, with the alternatives to it; None if there is none."""
        left = self._left.get((field, item), [])
        mine = [number for number in left if self._proofs[number].chosen]
        if not mine:
            return None
        same = [number for number in mine if _are_same(self._proofs[number].value, text)]
        number = (same or mine)[0]
        left.remove(number)
        others = [other for other in left if not self._proofs[other].chosen]
        if others:
            left[:] = [other for other in left if other not in others]
            self._proofs[number] = replace(self._proofs[number], others=tuple(others))
        return number

    def text_of(self, number: int) -> str:
        """The value of a proof, empty if it has none."""
        return self._proofs[number].value or ""

    def take_sentences(self) -> list[int]:
        """The proofs of a text's sentences, in their order."""
        keys = sorted(key for key in self._left if key[0] == _PROSE)
        return [number for key in keys for number in self._left.pop(key)]

    def take_rest(self) -> tuple[int, ...]:
        """Those that no value has taken."""
        return tuple(number for numbers in self._left.values() for number in numbers)


def make_answer(job: JobRow, row: AnswerRow | None, proofs: TaskProofs) -> Answer:
    """What became of a task: the state of its job, and the last answer with its proofs."""
    answer = Answer(job.task, job.state, job.failure_kind, visible(job.failure))
    if row is None:
        return replace(answer, unplaced=proofs.take_rest())
    values = tuple(_values(row.values, proofs))
    return replace(
        answer,
        values=values,
        outdated=not row.is_current,
        cut=row.cut,
        model=row.model,
        model_s=row.model_s,
        tokens=row.completion_tokens,
        unplaced=proofs.take_rest(),
    )


def _values(columns: Iterable[tuple[str, Any]], proofs: TaskProofs) -> Iterable[Value]:
    found = list(columns)
    if [name for name, _ in found] == [_PROSE] and isinstance(found[0][1], str):
        yield _prose(found[0][1], proofs)
        return
    for name, value in found:
        yield _value(name, name, 0, value, proofs)


def _value(name: str, field: str, item: int, value: Any, proofs: TaskProofs) -> Value:
    if isinstance(value, dict):
        members = tuple(
            _value(key, f"{field}.{key}", item, inner, proofs)
            for key, inner in cast("dict[str, Any]", value).items()
        )
        return Value(name, "group", members=members)
    if isinstance(value, list) and value:
        members = tuple(
            _value("", field, number, inner, proofs)
            for number, inner in enumerate(cast("list[Any]", value))
        )
        return Value(name, "list", members=members)
    text = None if value is None or value == [] else _text(value)
    proof = proofs.take(field, item, text)
    # A number has the decimals of its column; as it was answered, 1660.00, it reads better.
    answered = "" if proof is None else proofs.text_of(proof)
    shown = answered if isinstance(value, Decimal) and _are_same(answered, text) else text
    return Value(name, "value", shown, proof)


def _are_same(answered: str | None, text: str | None) -> bool:
    return answered == text or (
        answered is not None and "." in answered and answered.rstrip("0").rstrip(".") == text
    )


def _text(value: Any) -> str:
    """A value as `evidence` has it, too; numbers without zeros at their end."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return visible(str(value))


def _prose(text: str, proofs: TaskProofs) -> Value:
    """A text in pieces: its sentences that have a proof, and what stands between them."""
    shown = visible(text)
    pieces: list[Value] = []
    at = 0
    for number in proofs.take_sentences():
        sentence = proofs.text_of(number)
        start = shown.find(sentence, at) if sentence else -1
        if start < 0:
            proofs.note("", 0, number)
            continue
        if start > at:
            pieces.append(Value("", "value", shown[at:start]))
        at = start + len(sentence)
        pieces.append(Value("", "value", sentence, number))
    if at < len(shown):
        pieces.append(Value("", "value", shown[at:]))
    return Value(_PROSE, "prose", members=tuple(pieces))
