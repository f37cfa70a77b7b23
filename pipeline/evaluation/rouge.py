"""How near a summary is to a good one: ROUGE-L, and how many of the facts it names.

Source: Lin, "ROUGE: a package for automatic evaluation of summaries", 2004, section 3: the F1 of
the longest common subsequence of words (sentence level, beta = 1).
"""

import re
import unicodedata
from collections.abc import Sequence

_WORD = re.compile(r"\w+(?:[.,]\d+)*")


def read_words(text: str) -> list[str]:
    """The words that are compared: case folded, numbers with their separators."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def rouge_l(reference: str, text: str) -> float:
    """ROUGE-L F1 of a text against a reference, 0 to 1."""
    one, two = read_words(reference), read_words(text)
    common = _longest_common(one, two)
    return 2 * common / (len(one) + len(two)) if common else 0.0


def _longest_common(one: Sequence[str], two: Sequence[str]) -> int:
    """Length of the longest common subsequence, in time |one| x |two| and memory |two|."""
    row = [0] * (len(two) + 1)
    for word in one:
        before = 0
        for place, other in enumerate(two, start=1):
            above = row[place]
            row[place] = before + 1 if word == other else max(above, row[place - 1])
            before = above
    return row[-1]


def coverage(facts: Sequence[Sequence[str]], text: str) -> float | None:
    """The share of facts that a text names in one of their forms; None without facts.

    A form may be the beginning of a word ("secur"), but not of a number.
    """
    if not facts:
        return None
    words = f" {' '.join(read_words(text))} "
    return sum(any(_names(words, form) for form in forms) for forms in facts) / len(facts)


def _names(words: str, form: str) -> bool:
    sought = f" {' '.join(read_words(form))}"
    return (f"{sought} " if sought[-1].isdigit() else sought) in words
