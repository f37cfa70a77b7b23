"""The sentences of a text that say most of what it is about, taken as they stand.

In: a text. Out: places of sentences; of a form or a table, of lines. A rule, not a model: a
sentence scores by how many of the words that the text repeats it holds, by numbers in it, and by
how early it comes; one that says again what a chosen one says is left out. Main points that a small
model writes are mostly made up; these never are.
"""

import math
import re
from collections import Counter
from functools import lru_cache

from pipeline.derive_numbers import read_numbers
from pipeline.sentences import split_items

Span = tuple[int, int]

MOST = 6
LEAST = 3
_SENTENCES_A_POINT = 4
_MOST_CHARS = 300
_LEAST_WORDS = 5
_OVERLAP = 0.5  # of its words in one chosen before: it says nothing new
_FIGURES = 0.4
_WIDE = 60  # characters of a line
_FIRST = 1.0
_POLITENESS = 2.0
_MOST_LINES = 200
_LINE = re.compile(r"(?<![^\n\f])[^\s|#>][^\n\f]{8,250}(?:[ ][^\n\f]{1,40}){2}(?=[\n\f]|$)")
_POLITE = re.compile(r"(?i:thank|dear|we would be glad|if you have|vielen dank|merci)\b")
_WORD = re.compile(r"[^\W\d_]{3,}")
_COMMON_WORDS = """
the and for that with this from are was were will has have had not been its their they which you
your our out all any may shall who what when where there here into than then them these those one
two can could would should but his her she him der die das und den dem des ein eine ist sind für mit
von auf nicht les des une est dans pour sur par que qui
"""
_COMMON = frozenset(_COMMON_WORDS.split())


@lru_cache(64)
def find_main_sentences(text: str) -> tuple[Span, ...]:
    """The places of the three to six sentences that say most, in the order of the text."""
    spans = [span for span in _candidates(text) if _is_sentence(text[span[0] : span[1]])]
    if len(spans) < LEAST:  # a form or a table: its lines
        spans = sorted({*spans, *(match.span() for match in _LINE.finditer(text))})[:_MOST_LINES]
    words = [_words(text[start:end]) for start, end in spans]
    counts = Counter(word for one in words for word in one)
    scores = [
        _score(text[start:end], own, counts, number)
        for number, ((start, end), own) in enumerate(zip(spans, words, strict=True))
    ]
    wanted = min(MOST, max(LEAST, math.ceil(len(spans) / _SENTENCES_A_POINT)))
    chosen: list[int] = []
    for number in sorted(range(len(spans)), key=lambda n: (-scores[n], n)):
        if len(chosen) < wanted and not any(_repeats(words[number], words[n]) for n in chosen):
            chosen.append(number)
    return tuple(spans[number] for number in sorted(chosen))


def _candidates(text: str) -> list[Span]:
    """Sentences, without the headings and letterheads before them."""
    return [(_begin_of_prose(text, start, end), end) for start, end in split_items(text)]


def _begin_of_prose(text: str, start: int, end: int) -> int:
    """Where a sentence begins: after short lines before a capital letter, which end alone."""
    begin = at = start
    for line in text[start:end].split("\n")[:-1]:
        at += len(line) + 1
        if len(line) < _WIDE and text[at : at + 1].isupper():
            begin = at
    return begin


def _is_sentence(words: str) -> bool:
    return (
        len(words) <= _MOST_CHARS
        and words[-1:] in ".!?"
        and len(words.split()) >= _LEAST_WORDS
        and "\f" not in words
        and not words.startswith(">")  # of a message that is answered
        and "\n>" not in words
    )


def _score(sentence: str, words: frozenset[str], counts: Counter[str], number: int) -> float:
    central = sum(math.log(counts[word]) for word in words) / math.sqrt(len(words) + 1)
    figures = _FIGURES * min(2, len(read_numbers(sentence)))
    polite = _POLITENESS if _POLITE.match(sentence) else 0.0
    return central + figures + _FIRST / (1 + number) - polite


def _repeats(words: frozenset[str], other: frozenset[str]) -> bool:
    return len(words & other) > _OVERLAP * max(1, min(len(words), len(other)))


def _words(text: str) -> frozenset[str]:
    return frozenset(word.casefold() for word in _WORD.findall(text)) - _COMMON
