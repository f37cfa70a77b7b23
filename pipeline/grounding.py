"""Ties the values of an answer to the words of the document that speak for them.

In: an answer's JSON, the form it was asked for in, and what the model was shown. Out: typed values,
and a `Claim` for each of them: its quote's exact place, and whether the value follows from it. A
value is never taken on trust: what `pipeline.derive` can't show is unsupported.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from pipeline.choices import find_choices
from pipeline.claims import NOT_FOUND, Claim, PartAnswer, Place, Seen
from pipeline.derive import find_value, judge
from pipeline.errors import ResultError
from pipeline.forms import Form, item_field
from pipeline.linking import link_sentences
from pipeline.merging import distinct, sameness
from pipeline.probabilities import Path, Probabilities
from pipeline.records import Field
from pipeline.results import parse_leaf
from pipeline.rows import find_rows, has_rows

PROSE_WORDS = 6
"""Text of as many words is judged as a sentence of a summary is, not word for word."""


def ground_answer(
    fields: Sequence[Field],
    form: Form,
    raw: dict[str, Any],
    seen: Seen,
    probabilities: Probabilities,
) -> PartAnswer:
    """Reads an answer and finds what speaks for each value.

    Args:
        fields: What was asked about.
        form: What the answer is in.
        raw: Its members, as JSON gave them.
        seen: What the model was shown.
        probabilities: How sure it was.

    Raises:
        ResultError: The answer is not in that form, or a value not of its field's type.
    """
    grounder = _Grounder(form, seen, probabilities)
    value: dict[str, Any] = {}
    names = [member.name for member in fields]
    if any(name not in names for name in raw):
        listed = ", ".join(names)
        raise ResultError(
            "unknown_field", f"the answer has fields that were not asked for; only {listed}"
        )
    for member in fields:
        if member.name not in raw:
            raise ResultError("missing_field", f"the answer lacks the field {member.name!r}")
        value[member.name] = grounder.read(member, raw[member.name])
    return PartAnswer(value, tuple(grounder.claims))


@dataclass(slots=True)
class _Grounder:
    form: Form
    seen: Seen
    probabilities: Probabilities
    claims: list[Claim] = field(default_factory=list[Claim])

    def read(self, member: Field, raw: Any) -> Any:
        """A field's typed value; its claims are added."""
        path: Path = (member.name,)
        if member.type == "list":
            return self._read_list(member, raw, path)
        value, claims = self._read_one(member, raw, member.name, path)
        if value is None:
            claims = [Claim(member.name, None, None, None, "not_found", NOT_FOUND)]
        self.claims += claims
        return value

    def _read_list(self, member: Field, raw: Any, path: Path) -> list[Any]:
        if not isinstance(raw, list):
            raise ResultError("invalid_value", f"{member.name!r} is not a list")
        raws = cast("list[Any]", raw)
        if len(raws) > member.max_items and self.form != "per_field":
            raise ResultError(
                "invalid_value", f"{member.name!r} has more than {member.max_items} items"
            )
        items = item_field(member)
        known: set[Any] = set()
        values: list[Any] = []
        for number, each in enumerate(raws):
            value, claims = self._read_one(items, each, member.name, (*path, number))
            key = sameness(value)
            if value is None or key in known:
                continue
            known.add(key)
            values.append(value)
            self.claims += [replace(claim, item=key) for claim in claims]
        if not values:
            self.claims.append(Claim(member.name, None, None, None, "not_found", NOT_FOUND))
        return values

    def _read_one(self, member: Field, raw: Any, name: str, path: Path) -> tuple[Any, list[Claim]]:
        """A value that is no field's list, and its claims."""
        if raw is None:
            return None, []
        if member.type == "object":
            return self._read_object(member, raw, name, path)
        if member.type == "list":  # inside an object or a list: a plain list of values
            return self._read_inner_list(member, raw, name, path)
        has_quote = self.form == "one_call" or (
            self.form == "per_field" and member.type == "boolean"
        )
        if has_quote:
            quote = self._place(_text_of(raw, "quote", name))
            claim = self._claim(member, raw.get("value"), quote, name, (*path, "value"))
            return claim.value, [claim]
        if self.form == "free" or member.type == "enum":
            return self._find(member, raw, name, path)
        return self._derive(member, raw, name, path)

    def _read_object(
        self, member: Field, raw: Any, name: str, path: Path
    ) -> tuple[Any, list[Claim]]:
        if isinstance(raw, str) and self.form == "per_field" and has_rows(member):
            return self._read_row(member, raw, name, path)
        if not isinstance(raw, dict):
            raise ResultError("invalid_value", f"{name!r} is not an object")
        members = cast("dict[str, Any]", raw)
        place = self._place(_text_of(raw, "quote", name)) if self.form == "one_call" else None
        value: dict[str, Any] = {}
        claims: list[Claim] = []
        for inner in member.fields:
            if inner.name not in members:
                raise ResultError("missing_field", f"{name!r} lacks the field {inner.name!r}")
            inner_name, inner_path = f"{name}.{inner.name}", (*path, inner.name)
            each = members[inner.name]
            if place is not None and inner.type not in ("list", "object"):
                claim = self._claim(inner, each, place, inner_name, inner_path, narrow=True)
                found, more = claim.value, [claim]
            else:
                found, more = self._read_one(inner, each, inner_name, inner_path)
            if inner.required and found in (None, []):
                return None, []
            value[inner.name] = found
            claims += more or [Claim(inner_name, None, None, None, "not_found", NOT_FOUND)]
        given = any(each not in (None, []) for each in value.values())
        return (value, claims) if given else (None, [])

    def _read_row(
        self, member: Field, raw: str, name: str, path: Path
    ) -> tuple[dict[str, Any], list[Claim]]:
        """A row of a table, from which the members follow."""
        row = next((row for row in find_rows(member, self.seen.shown) if row.quote == raw), None)
        if row is None:
            raise ResultError("invalid_value", f"{name!r} is no row of the text")
        probability = self.probabilities.of(path)
        claims: list[Claim] = []
        for inner in member.fields:
            found, inner_name = row.members[inner.name], f"{name}.{inner.name}"
            if found.value is None:
                claims.append(Claim(inner_name, None, None, None, "not_found", NOT_FOUND))
                continue
            place = (self.seen.start + found.start, self.seen.start + found.end)
            quote = self.seen.text[place[0] : place[1]]
            support, note = judge(inner, found.value, quote, self.seen.context)
            claims.append(Claim(inner_name, None, found.value, place, support, note, probability))
        return {name: found.value for name, found in row.members.items()}, claims

    def _read_inner_list(
        self, member: Field, raw: Any, name: str, path: Path
    ) -> tuple[list[Any], list[Claim]]:
        if not isinstance(raw, list):
            raise ResultError("invalid_value", f"{name!r} is not a list")
        items = cast("Field", member.items)
        values: list[Any] = []
        claims: list[Claim] = []
        for number, each in enumerate(cast("list[Any]", raw)[: member.max_items]):
            value, more = (
                self._find(items, each, name, (*path, number))
                if self.form != "per_field" and items.type not in ("list", "object")
                else self._read_one(items, each, name, (*path, number))
            )
            if value is not None:
                values.append(value)
                claims += more
        return distinct(values), claims

    def _claim(
        self,
        member: Field,
        raw: Any,
        place: Place,
        name: str,
        path: Path,
        *,
        narrow: bool = False,
    ) -> Claim:
        """A value that came with a quote."""
        value = parse_leaf(member, raw, repr(name))
        if value is None:
            return Claim(name, None, None, None, "not_found", NOT_FOUND)
        quote = self.seen.text[place[0] : place[1]]
        support, reason = judge(member, value, quote, self.seen.context)
        if support == "unsupported" and member.type == "string":
            return self._find(member, value, name, path, place)[1][0]
        if narrow and support != "unsupported":
            place = _inside(place[0], find_value(member, value, quote, self.seen.context)) or place
        return Claim(name, None, value, place, support, reason, self.probabilities.of(path))

    def _derive(self, member: Field, raw: Any, name: str, path: Path) -> tuple[Any, list[Claim]]:
        """A quote alone, from which the value follows."""
        if not isinstance(raw, str):
            raise ResultError("invalid_value", f"{name!r} is not text in quotes")
        in_list = any(isinstance(step, int) for step in path)
        choices = find_choices(member, self.seen.shown, self.seen.context, in_list=in_list)
        for choice in choices:
            if choice.quote == raw:
                place = (self.seen.start + choice.start, self.seen.start + choice.end)
                support, note = judge(member, choice.value, raw, self.seen.context)
                probability = self.probabilities.of(path)
                claim = Claim(name, None, choice.value, place, support, note, probability)
                return choice.value, [claim]
        raise ResultError("invalid_value", f"{name!r} is none of the choices")

    def _find(
        self, member: Field, raw: Any, name: str, path: Path, quoted: Place | None = None
    ) -> tuple[Any, list[Claim]]:
        """A value without a quote that supports it: is it anywhere in what was shown?"""
        value = parse_leaf(member, raw, repr(name))
        if value is None:
            return None, []
        probability = self.probabilities.of(path)
        found = find_value(member, value, self.seen.shown, self.seen.context)
        place = _inside(self.seen.start, found)
        if place is not None:
            quote = self.seen.text[place[0] : place[1]]
            support, reason = judge(member, value, quote, self.seen.context)
            return value, [Claim(name, None, value, place, support, reason, probability)]
        if member.type == "string" and len(str(value).split()) >= PROSE_WORDS:
            return value, [self._link(str(value), name, quoted, probability)]
        reason = judge(member, value, "", self.seen.context)[1]
        return value, [Claim(name, None, value, quoted, "unsupported", reason, probability)]

    def _link(
        self, value: str, name: str, quoted: Place | None, probability: float | None
    ) -> Claim:
        """Prose in other words than the document's: supported as a sentence of a summary is."""
        linked = link_sentences(value, self.seen.shown)
        reasons = [each.reason for each in linked if each.support == "unsupported"]
        spans = [span for each in linked for span in each.spans]
        place = quoted
        if spans:
            place = _inside(self.seen.start, (spans[0].start_char, spans[0].end_char))
        if reasons or not spans:
            reason = (reasons or ["these words are not in the document"])[0]
            return Claim(name, None, value, quoted, "unsupported", reason, probability)
        return Claim(name, None, value, place, "derived", "", probability)

    def _place(self, quote: str) -> Place:
        """Where a quote stands in what was shown: whole words first, then anywhere.

        Raises:
            ResultError: Nowhere: the engine did not hold the answer to its source.
        """
        text, first = self.seen.text, -1
        at = text.find(quote, self.seen.start, self.seen.end) if quote else -1
        while at >= 0:
            first = at if first < 0 else first
            if _is_whole(text, at, at + len(quote)):
                return at, at + len(quote)
            at = text.find(quote, at + 1, self.seen.end)
        if first < 0:
            raise ResultError("invalid_quote", "a quote is not in the document; copy it exactly")
        return first, first + len(quote)


def _inside(start: int, place: Place | None) -> Place | None:
    return place and (start + place[0], start + place[1])


def _text_of(raw: Any, name: str, where: str) -> str:
    text = cast("dict[str, Any]", raw).get(name) if isinstance(raw, dict) else None
    if not isinstance(text, str):
        raise ResultError("invalid_value", f"{where!r} has no {name} in quotes")
    return text


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether a span cuts no word in two."""

    def cuts(at: int) -> bool:
        return 0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum()

    return not cuts(start) and not cuts(end)
