"""Whether an answer is right: values compared by their types.

In: a field, the true value and the answer's. Out: how many values are right, wrong and missed.

- Dates, numbers, truth values and choices: equal or not. 10 and 10.00 are equal.
- Text: equal after NFKC, case folding, white space squeezed, quotes and marks at the ends and a
  title before a name ("Mrs", "Dr", "Herr") taken off. A true text of more than five words, or of
  more than three in a field for more than 120 characters, is prose: it is right if the words of
  both overlap by an F1 of 0.6 or more.
- Lists are sets: each item counts, paired with the answer's best.
- Objects: each member counts; those in a list are paired by how many members agree.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from pipeline.records import Field

_NAME_WORDS = 5  # at most; what has more is prose
_SHORT_WORDS = 3  # likewise, in a field that is made for prose
_NAME_CHARS = 120
_ENOUGH = 0.6
_ENDS = " \t\n.,;:!?\"'`*()[]“”‘’„«»-–—"  # noqa: RUF001 (the marks themselves)
_TITLE = re.compile(
    r"(?:(?:mr|mrs|ms|miss|dr|prof|herr|frau|mme|m|mlle|sir|madam|i\. a|pp)\b\.? )+(?=\w)"
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Of a comparison: values that are right, that are not, and true ones that are missing.

    A wrong value in place of a true one is both `wrong` and `missed`.
    """

    right: int = 0
    wrong: int = 0
    missed: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.right + other.right, self.wrong + other.wrong, self.missed + other.missed
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field of an answer, compared.

    Attributes:
        counts: See there.
        right_items: Of a list: places of the answer's items that are right (of an object: that
            have a partner with a right member); of anything else {0} if it is right.
        verdicts: Of each value of the answer whether it is right, by its place in the list (0 if
            there is none) and its path below the field ("" or "amount"). A list in a list or an
            object has none.
    """

    counts: Counts
    right_items: frozenset[int]
    verdicts: dict[tuple[int, str], bool]


def compare(field: Field, expected: Any, found: Any, also: Sequence[Any] = ()) -> Comparison:
    """Compares a field of an answer with the truth.

    Args:
        field: The field.
        expected: The true value; None or []: the document does not hold it.
        found: The answer's.
        also: Other values that are right.
    """
    if field.type == "list":
        best = (_compare_lists(field, truth, found or []) for truth in (expected, *also))
    else:
        best = (_compare_one(field, truth, found) for truth in (expected, *also))
    return max(best, key=lambda one: (one.counts.right, -one.counts.wrong, -one.counts.missed))


def _compare_one(field: Field, expected: Any, found: Any) -> Comparison:
    counts = _count(field, expected, found)
    verdicts = {(0, path): right for path, right in _judge_values(field, expected, found)}
    return Comparison(counts, frozenset({0} if counts.right else ()), verdicts)


def _judge_values(
    field: Field, expected: Any, found: Any, path: str = ""
) -> Iterator[tuple[str, bool]]:
    """The values of an answer that is no list, and whether they are right; nulls are none."""
    if field.type == "object":
        truth = cast("dict[str, Any]", expected or {})
        for member in _judged_members(field, truth):
            value = cast("dict[str, Any]", found or {}).get(member.name)
            inner = f"{path}.{member.name}" if path else member.name
            yield from _judge_values(member, truth.get(member.name), value, inner)
    elif field.type != "list" and found is not None:
        yield path, expected is not None and is_same(field, expected, found)


def _judged_members(field: Field, truth: dict[str, Any]) -> list[Field]:
    """The members of an object, without those that the truth leaves out: they are not judged."""
    return [member for member in field.fields if member.name in truth or not truth]


def _count(field: Field, expected: Any, found: Any) -> Counts:
    if field.type == "list":
        return _compare_lists(field, expected or [], found or []).counts
    if field.type == "object":
        truth = cast("dict[str, Any]", expected or {})
        answer = cast("dict[str, Any]", found or {})
        return sum(
            (
                _count(member, truth.get(member.name), answer.get(member.name))
                for member in _judged_members(field, truth)
            ),
            start=Counts(),
        )
    if found is None or expected is None:
        return Counts(0, int(found is not None), int(expected is not None))
    right = is_same(field, expected, found)
    return Counts(int(right), int(not right), int(not right))


def _compare_lists(field: Field, expected: Sequence[Any], found: Sequence[Any]) -> Comparison:
    item = cast("Field", field.items)
    pairs = [
        (_count(item, truth, answer), number, place)
        for number, truth in enumerate(expected)
        for place, answer in enumerate(found)
    ]
    pairs.sort(key=lambda pair: (-pair[0].right, pair[0].wrong + pair[0].missed))
    total = Counts()
    paired: set[int] = set()
    places: dict[int, Any] = {}  # of the answer's items: the true ones they are paired with
    for counts, number, place in pairs:  # the best pair first
        if counts.right and number not in paired and place not in places:
            paired.add(number)
            places[place] = expected[number]
            total += counts
    for number, truth in enumerate(expected):
        if number not in paired:
            total += _count(item, truth, None)
    for place, answer in enumerate(found):
        if place not in places:
            total += _count(item, None, answer)
    verdicts = {
        (place, path): right
        for place, answer in enumerate(found)
        for path, right in _judge_values(item, places.get(place), answer)
    }
    return Comparison(total, frozenset(places), verdicts)


def is_same(field: Field, expected: Any, found: Any) -> bool:
    """Whether two values, not null, are the same by the field's type."""
    if field.type not in {"string", "enum"}:
        return expected == found
    truth, answer = plain_text(str(expected)), plain_text(str(found))
    if truth == answer:
        return True
    most = _SHORT_WORDS if field.max_chars > _NAME_CHARS else _NAME_WORDS
    return len(truth.split()) > most and overlap(truth, answer) >= _ENOUGH


@lru_cache(4096)  # each item of a list meets all of another
def plain_text(text: str) -> str:
    """Text as it is compared."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return _TITLE.sub("", folded, count=1).strip(_ENDS) if folded else ""


def overlap(truth: str, answer: str) -> float:
    """F1 of the words of two texts, as bags."""
    one, two = (Counter(re.findall(r"\w+", text)) for text in (truth, answer))
    shared = (one & two).total()
    return 2 * shared / (one.total() + two.total()) if shared else 0.0
