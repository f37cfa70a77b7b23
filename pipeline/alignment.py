"""The map from a page's normalised text back to its raw text.

`normalise` draws the runs; whoever shows evidence asks `Alignment.to_raw` where in the raw page
a span of normalised text came from.
"""

from bisect import bisect_right
from dataclasses import dataclass
from operator import attrgetter


@dataclass(frozen=True, slots=True)
class Run:
    """A run of normalised text and the raw text it came from (see `Alignment`).

    Both spans have at least one character. Raw text between two runs was dropped.
    """

    text_start: int
    text_end: int
    raw_start: int
    raw_end: int


_TEXT_START = attrgetter("text_start")


@dataclass(frozen=True, slots=True)
class Alignment:
    """Maps spans of a page's normalised text back to spans of its raw text.

    The runs are in order and cover the whole normalised text without gap or overlap. A run whose
    two lengths are equal maps character by character; any other maps as a whole. Raw spans are in
    order too, and overlap only where one raw piece gave several runs, each mapped as a whole.
    """

    runs: tuple[Run, ...]

    def to_raw(self, start: int, end: int) -> tuple[int, int]:
        """The smallest raw span that gave `text[start:end]`.

        Args:
            start: First character in the page's normalised text.
            end: One past the last; `start < end <= len(text)`.

        Returns:
            (raw_start, raw_end).

        Raises:
            ValueError: The span is empty or outside the text.
        """
        length = self.runs[-1].text_end if self.runs else 0
        if not 0 <= start < end <= length:
            raise ValueError(
                f"no such span in the text: start={start!r}, end={end!r}, length={length!r}; "
                "give 0 <= start < end <= length"
            )
        first = self._run_at(start)
        last = self._run_at(end - 1)
        raw_start, raw_end = first.raw_start, last.raw_end
        if _is_by_character(first):
            raw_start += start - first.text_start
        if _is_by_character(last):
            raw_end -= last.text_end - end
        return raw_start, raw_end

    def _run_at(self, position: int) -> Run:
        return self.runs[bisect_right(self.runs, position, key=_TEXT_START) - 1]


def _is_by_character(run: Run) -> bool:
    return run.text_end - run.text_start == run.raw_end - run.raw_start
