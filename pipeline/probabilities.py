"""How sure the model was of a value, from the probabilities of its tokens.

In: a completion with log-probabilities. Out: a probability for each value of its JSON: the
geometric mean of the probabilities of the tokens that the value has some of, among those that the
grammar allowed. Tokens that the grammar left no choice about say nothing and are left out; a value
without any other has no probability.

It is not the chance that the value is right: it says how often the model would have gone on as it
did, given what it had written. A model can be sure and wrong. How often such values are right is
measured on labelled documents: see `pipeline.calibration`.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.engine.interface import Completion

TOP_LOGPROBS = 2
"""How many candidates to ask for: with one alone, the grammar left no choice."""

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^{}\[\],:"\s]+')
Path = tuple[str | int, ...]
_PART = "\ufffd"
_MOST_PARTS = 16


@dataclass(frozen=True, slots=True)
class _Choice:
    start: int
    end: int
    logprob: float


class Probabilities:
    """The probabilities of one answer's values."""

    def __init__(self, completion: Completion | None) -> None:
        """Reads an answer that is valid JSON; without log-probabilities nothing is known."""
        is_known = completion is not None and bool(completion.logprobs)
        self._spans = dict(_value_spans(completion.text)) if completion and is_known else {}
        self._choices = list(_choices(completion)) if completion and is_known else []

    def of(self, path: Path) -> float | None:
        """The probability of the value at a path of names and indices, None if not known."""
        if path not in self._spans:
            return None
        start, end = self._spans[path]
        logprobs = [c.logprob for c in self._choices if c.start < end and start < c.end]
        if not logprobs:
            return None
        return math.exp(min(0.0, sum(logprobs) / len(logprobs)))


def _choices(completion: Completion) -> Iterator[_Choice]:
    """The tokens that were chosen among several, with their places in the answer.

    A token that holds a part of a character is shown as U+FFFD; the next whole one tells again
    where in the text we are.
    """
    place = 0
    is_lost = False
    for token in completion.logprobs:
        is_part = _PART in token.token
        if is_lost and not is_part:
            found = completion.text.find(token.token, max(0, place - _MOST_PARTS), place + 1)
            place = found if found >= 0 else place
        is_lost = is_part
        end = place + len(token.token)
        if len(token.top) != 1:
            yield _Choice(place, max(end, place + 1), token.logprob)
        place = end


def _value_spans(text: str) -> Iterator[tuple[Path, tuple[int, int]]]:
    """Where each value of a JSON text stands, by its path."""
    path: list[str | int] = []
    opened: list[int] = []
    is_name = False
    for match in _TOKEN.finditer(text):
        word, (start, end) = match[0], match.span()
        if word in "{[":
            opened.append(start)
            path.append("" if word == "{" else 0)
            is_name = word == "{"
        elif word in "}]":
            path.pop()
            yield tuple(path), (opened.pop(), end)
        elif word == ",":
            last = path[-1]
            path[-1] = last + 1 if isinstance(last, int) else ""
            is_name = not isinstance(last, int)
        elif word == ":":
            continue
        elif is_name:
            path[-1] = json.loads(word)
            is_name = False
        else:
            yield tuple(path), (start, end)
