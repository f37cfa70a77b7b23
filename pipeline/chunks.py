"""Cuts a document's normalised text into the pieces that the model sees, one at a time.

In: the text, its pages and sections, the model's tokenizer and a task's limits. Out: chunks whose
own spans tile the text: cut where sections begin, the highest first, else at paragraphs, sentences,
lines, words, and inside a word only if it is longer than a chunk. The seen text of a chunk never
has more tokens than the limit.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import regex

from pipeline.errors import DocumentError
from pipeline.outline import MOST_LEVEL, Section
from pipeline.records import Chunk, Limits, Page
from pipeline.sentences import ends_sentence, last_inner_end
from pipeline.tokens import Tokens, TooManyTokens

if TYPE_CHECKING:
    from array import array

MIN_CHUNK_TOKENS = 32
"""A smaller chunk could be too small for one character with its marks."""

_SPACE = re.compile(r"\s+")
_GRAPHEME = regex.compile(r"\X")
_PARAGRAPH, _SENTENCE, _LINE, _WORD = 3, 2, 1, 0
_SECTION = _PARAGRAPH + MOST_LEVEL + 1  # less its level


def cut_chunks(
    text: str,
    pages: Sequence[Page],
    tokens: Tokens,
    limits: Limits,
    sections: Sequence[Section] = (),
) -> tuple[Chunk, ...]:
    """Cuts a document into chunks.

    Args:
        text: The document's normalised text.
        pages: Its pages, in order; only where they start and their numbers are used.
        tokens: The model's tokenizer.
        limits: How long a chunk, its overlap and a document may be.
        sections: Its sections: a chunk of at least half its length ends where one does.

    Returns:
        The chunks in order, none for an empty text.

    Raises:
        DocumentError: "too_long": the document has more than `limits.max_document_tokens`.
        ValueError: `limits` can't be kept: see `MIN_CHUNK_TOKENS`; the overlap is at most half
            a chunk.
    """
    if limits.chunk_tokens < MIN_CHUNK_TOKENS or limits.overlap_tokens * 2 > limits.chunk_tokens:
        raise ValueError(
            f"chunk_tokens={limits.chunk_tokens!r} must be at least {MIN_CHUNK_TOKENS} and at "
            f"least twice overlap_tokens={limits.overlap_tokens!r}"
        )
    try:
        starts = tokens.starts(text, limits.max_document_tokens)
    except TooManyTokens as too_many:
        raise DocumentError(
            "too_long",
            f"the document has about tokens={too_many.estimate}, more than "
            f"max_document_tokens={limits.max_document_tokens}; split it, or raise "
            "max_document_tokens under [limits] in the task's file",
        ) from None
    levels = {section.start_char: section.level for section in sections}
    cutter = _Cutter(text, tokens, starts, limits, levels)
    page_starts = [page.start_char for page in pages]
    chunks: list[Chunk] = []
    own_start = 0
    while own_start < len(text):
        start, own_end, count = cutter.next_piece(own_start)
        first = max(bisect_right(page_starts, own_start) - 1, 0)
        last = max(bisect_right(page_starts, own_end - 1) - 1, 0)
        chunks.append(
            Chunk(
                number=len(chunks),
                start_char=start,
                end_char=own_end,
                own_start=own_start,
                own_end=own_end,
                page_first=pages[first].number if pages else 1,
                page_last=pages[last].number if pages else 1,
                tokens=count,
            )
        )
        own_start = own_end
    return tuple(chunks)


@dataclass(frozen=True, slots=True)
class _Cutter:
    text: str
    tokens: Tokens
    starts: "array[int]"
    limits: Limits
    section_levels: dict[int, int]

    def next_piece(self, own_start: int) -> tuple[int, int, int]:
        """The next chunk as (start of the seen text, end, tokens seen)."""
        start = self._context_start(own_start)
        piece = self._fit(start, own_start)
        if start < own_start and (piece is None or self._harm(piece[0]) > 0):
            bare = self._fit(own_start, own_start)
            # Whole words matter more than the context before them.
            if piece is None or (bare and self._harm(bare[0]) < self._harm(piece[0])):
                start, piece = own_start, bare
        if piece is None:  # one character of more tokens than a chunk: no tokenizer has any
            piece = own_start + 1, self.tokens.count(self.text[own_start : own_start + 1])
        return start, *piece

    def _fit(self, start: int, own_start: int) -> tuple[int, int] | None:
        """The longest piece that keeps the limit: (own_end, tokens seen)."""
        most = self.limits.chunk_tokens
        room = most
        first = bisect_left(self.starts, start)
        while room > 0:
            beyond = first + room
            hard = self.starts[beyond] if beyond < len(self.starts) else len(self.text)
            if hard <= own_start:
                return None
            own_end = self._own_end(own_start, hard)
            # A slice may tokenise differently than it did within the text: count it for real.
            count = self.tokens.count(self.text[start:own_end])
            if count <= most:
                return own_end, count
            room = min(room - 1, bisect_left(self.starts, own_end) - first) - (count - most)
        return None

    def _own_end(self, own_start: int, hard: int) -> int:
        """Where to cut in (own_start, hard]."""
        if hard >= len(self.text):
            return len(self.text)
        half = own_start + (hard - own_start) // 2
        best = max(self._borders(half, hard), default=None)
        if best is not None:
            return best[1]
        if self._harm(hard) == 0:
            return hard
        last = max((end for _, end in self._borders(own_start, hard)), default=None)
        if last is None or self._exceeds_chunk(last, hard):
            return self._inner_end(own_start, hard)
        return last

    def _borders(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """The places after white space in (low, high], as (kind, place)."""
        for match in _SPACE.finditer(self.text, low, high):
            end = match.end()
            following = self.text[end] if end < len(self.text) else ""
            if following.isspace():
                continue
            if _joins(self.text[end - 1], following):
                end -= 1
            if end > low:
                level = self.section_levels.get(end)
                kind = _SECTION - level if level else 0
                yield kind or self._border_kind(match.group(), match.start(), following), end

    def _border_kind(self, space: str, at: int, following: str) -> int:
        if "\f" in space or space.count("\n") > 1:
            return _PARAGRAPH
        if ends_sentence(self.text, at) and not following.islower():
            return _SENTENCE
        return _LINE if "\n" in space else _WORD

    def _harm(self, end: int) -> int:
        """What a cut does: 0 parts words, 1 cuts one, 2 tears a mark from its character."""
        if end >= len(self.text):
            return 0
        before, after = self.text[end - 1], self.text[end]
        if _joins(before, after):
            return 2
        return 0 if before.isspace() or after.isspace() else 1

    def _exceeds_chunk(self, word_start: int, hard: int) -> bool:
        """Whether the word that reaches over `hard` is longer than a chunk."""
        beyond = bisect_left(self.starts, word_start) + self.limits.chunk_tokens
        if beyond >= len(self.starts):
            return False
        return _SPACE.search(self.text, hard, self.starts[beyond]) is None

    def _inner_end(self, own_start: int, hard: int) -> int:
        """Where to cut inside a run without white space: a sentence mark, else a character."""
        mark = last_inner_end(self.text, (own_start + hard) // 2, hard)
        return self._grapheme_floor(own_start, mark or hard)

    def _grapheme_floor(self, begin: int, target: int) -> int:
        """The last border between characters as people see them in (begin, target].

        Unicode Standard Annex 29. If one such character fills all of it, `target` itself.
        """
        # A slice, because the pattern looks back over all flags before its first match.
        piece = self.text[begin : target + 1]
        ends = (begin + match.end() for match in _GRAPHEME.finditer(piece))
        return max((end for end in ends if end <= target), default=target)

    def _context_start(self, own_start: int) -> int:
        """Where the seen text begins: `overlap_tokens` before the chunk's own, at a word."""
        if own_start == 0 or self.limits.overlap_tokens == 0:
            return own_start
        first = bisect_left(self.starts, own_start) - self.limits.overlap_tokens
        begin = self.starts[max(first, 0)]
        if begin == 0 or self.text[begin - 1].isspace():
            return begin
        space = _SPACE.search(self.text, begin, own_start)
        if space is not None:
            return space.end()
        near = max(begin - 100, 0)
        ends = (near + match.end() for match in _GRAPHEME.finditer(self.text[near:own_start]))
        return next((end for end in ends if end >= begin), own_start)


def _joins(before: str, after: str) -> bool:
    """Whether two neighbours are one character to people: a mark joins what it follows."""
    if unicodedata.category(before) in ("Cc", "Zl", "Zp"):
        return before + after == "\r\n"
    return after == "\u200d" or unicodedata.category(after)[0] == "M"
