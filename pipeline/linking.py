"""Links each sentence of a summary to the sentences of the document that support it best.

In: a summary and the document's text. Out: an `Evidence` for each sentence of the summary. No model
is asked. The score of a sentence is how much of it stands in its source: the part of its words,
each weighted by how rare it is in the document (inverse document frequency over the document's
sentences), that stand in the best sentence, or in the best two where the second adds enough. Words
that the document does not have at all weigh the most and count as missing.

A sentence below `LEAST_SCORE` is unsupported. So is, whatever its score, one with a number, a date
or a name that the document does not have.
"""
# ruff: noqa: RUF001  the apostrophes are meant

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from functools import cached_property

from pipeline.derive_dates import first_whole_date, read_dates
from pipeline.derive_numbers import read_number_words, read_numbers
from pipeline.evidence import Evidence, Span, page_spans
from pipeline.sentences import split_sentences

LEAST_SCORE = 0.5
SECOND_ADDS = 0.15
"""What a second sentence must add to the score to be given, too."""

FIELD = "text"
_WORD = re.compile(r"[^\W_]+(?:['’\-.,/][^\W_]+)*")
_NAME = re.compile(r"[A-ZÀ-ÖØ-Þ][^\W\d_]*[^\W_]*")
_COMMON_WORDS = """
a an and are as at be by das dem den der des die du ein eine et for from has have he her his il in
is it its la le les of on or she that the their there these they this to und was were which who
will with would
"""
_COMMON = frozenset(_COMMON_WORDS.split())
_SHORT_NAME = 2
_DIGITS = re.compile("[0-9]+")


def link_sentences(summary: str, text: str, title: str = "") -> tuple[Evidence, ...]:
    """The evidence of a summary, sentence by sentence.

    Args:
        summary: What a model wrote about the document.
        text: The document's normalised text.
        title: Its title, which may be quoted though it is not in the text.
    """
    source = _Source(text, title)
    return tuple(
        source.link(number, summary[start:end])
        for number, (start, end) in enumerate(split_sentences(summary))
    )


class _Source:
    """A document's sentences, indexed by their words."""

    def __init__(self, text: str, title: str) -> None:
        self.text = text
        self.title = title
        self.sentences = split_sentences(text)
        self.places: defaultdict[str, list[int]] = defaultdict(list)
        for number, (start, end) in enumerate(self.sentences):
            for word in set(_words(self.text[start:end])):
                self.places[word].append(number)
        for word in _words(self.title):
            self.places.setdefault(word, [])

    def link(self, number: int, sentence: str) -> Evidence:
        words = set(_words(sentence))
        score, found = self._align(words)
        reason = self._unknown(sentence)
        if not reason and score < LEAST_SCORE:
            reason = "too few of its words stand together in the document"
        is_verbatim = not reason and " ".join(sentence.split()) in " ".join(self._join(found))
        return Evidence(
            field=FIELD,
            item=number,
            value=sentence,
            support="unsupported" if reason else "verbatim" if is_verbatim else "derived",
            spans=tuple(span for each in found for span in self._spans(each)),
            score=round(score, 4),
            reason=reason,
        )

    def _align(self, words: set[str]) -> tuple[float, list[int]]:
        """The best score, and the one or two sentences that give it, in the text's order."""
        weights = {word: self._weight(word) for word in words}
        total = sum(weights.values())
        scores: Counter[int] = Counter()
        for word, weight in weights.items():
            for number in self.places.get(word, ()):
                scores[number] += weight  # pyright: ignore[reportArgumentType]
        if not scores or not total:
            return 0.0, []
        best = min(scores, key=lambda number: (-scores[number], number))
        rest = {w: v for w, v in weights.items() if best not in self._places_of(w)}
        more: Counter[int] = Counter()
        for word, weight in rest.items():
            for number in self.places.get(word, ()):
                more[number] += weight  # pyright: ignore[reportArgumentType]
        second = min(more, key=lambda number: (-more[number], number), default=best)
        if more[second] < SECOND_ADDS * total:
            return scores[best] / total, [best]
        return (scores[best] + more[second]) / total, sorted((best, second))

    def _places_of(self, word: str) -> set[int]:
        return set(self.places.get(word, ()))

    def _weight(self, word: str) -> float:
        if word in _COMMON:
            return 0.0
        count = len(self.sentences)
        return math.log((count + 1) / (len(self.places.get(word, ())) + 0.5))

    def _unknown(self, sentence: str) -> str:
        """What the sentence tells that the document does not have, in plain words."""
        kinds = [
            kind
            for kind, is_unknown in (
                ("a date", self._has_unknown_date(sentence)),
                ("a number", self._has_unknown_number(sentence)),
                ("a name", self._has_unknown_name(sentence)),
            )
            if is_unknown
        ]
        return f"it has {' and '.join(kinds)} that the document does not have" if kinds else ""

    @cached_property
    def _context(self) -> str:
        first = first_whole_date(self.text)
        return first.isoformat() if first else ""

    @cached_property
    def _days(self) -> set[date]:
        return {day for found in read_dates(self.text, self._context) for day in found.days}

    @cached_property
    def _numbers(self) -> set[Decimal]:
        source = f"{self.text}\n{self.title}"
        readings = (*read_numbers(source), *read_number_words(source))
        return {abs(number) for found in readings for number in found.numbers}

    @cached_property
    def _digits(self) -> set[str]:
        return set(_DIGITS.findall(f"{self.text}\n{self.title}"))

    def _has_unknown_date(self, sentence: str) -> bool:
        told = read_dates(sentence, self._context)
        return any(not self._days.intersection(found.days) for found in told)

    def _has_unknown_number(self, sentence: str) -> bool:
        """Whether a number is neither meant nor written anywhere in the document."""
        return any(
            not self._numbers.intersection(map(abs, found.numbers))
            and not self._digits.issuperset(_DIGITS.findall(sentence[found.start : found.end]))
            for found in read_numbers(sentence)
        )

    def _has_unknown_name(self, sentence: str) -> bool:
        """Capital letters inside a sentence make a name; at its beginning only with a second."""
        found = list(_WORD.finditer(sentence))
        for place, match in enumerate(found):
            word = match[0]
            if not _NAME.match(word) or len(word) < _SHORT_NAME:
                continue
            if place == 0 and not (len(found) > 1 and _NAME.match(found[1][0])):
                continue
            if any(part not in self.places for part in _words(word)):
                return True
        return False

    def _spans(self, number: int) -> Sequence[Span]:
        return page_spans(self.text, *self.sentences[number])

    def _join(self, numbers: Sequence[int]) -> list[str]:
        return [
            " ".join(self.text[start:end].split())
            for start, end in (self.sentences[number] for number in numbers)
        ]


def _words(text: str) -> list[str]:
    """Words in small letters, without the endings of a possessive or a plural."""
    return [_stem(match[0].casefold()) for match in _WORD.finditer(text)]


def _stem(word: str) -> str:
    word = re.sub("['’]s$", "", word)
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word  # noqa: PLR2004
