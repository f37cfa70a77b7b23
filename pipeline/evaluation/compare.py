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
from collections.abc import Sequence
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
    """

    counts: Counts
    right_items: frozenset[int]


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
    return Comparison(counts, frozenset({0} if counts.right else ()))


def _count(field: Field, expected: Any, found: Any) -> Counts:
    if field.type == "list":
        return _compare_lists(field, expected or [], found or []).counts
    if field.type == "object":
        truth = cast("dict[str, Any]", expected or {})
        answer = cast("dict[str, Any]", found or {})
        # Members that the truth leaves out are not judged.
        judged = [m for m in field.fields if m.name in truth or not truth]
        return sum(
            (_count(m, truth.get(m.name), answer.get(m.name)) for m in judged), start=Counts()
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
    places: set[int] = set()
    for counts, number, place in pairs:  # the best pair first
        if counts.right and number not in paired and place not in places:
            paired.add(number)
            places.add(place)
            total += counts
    for number, truth in enumerate(expected):
        if number not in paired:
            total += _count(item, truth, None)
    for place, answer in enumerate(found):
        if place not in places:
            total += _count(item, None, answer)
    return Comparison(total, frozenset(places))


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
