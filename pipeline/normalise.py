"""Turns the raw text of a page into the text that chunks, prompts and evidence refer to.

In: raw text. Out: normalised text and the `Alignment` back. What is done, in this order:

1. One character for one: line ends (CR, vertical tab, form feed, NEL, LS, PS) become a newline;
   tabs and the Unicode spaces a space; lone surrogates U+FFFD; presentation forms that stand for
   one letter (Arabic shapes, Kangxi radicals) that letter.
2. Dropped: controls, CR before LF, soft hyphens (with the line end that follows inside a word),
   byte order marks, directional marks, tags and the other characters without width. ZWJ and ZWNJ
   stay: they are spelling in Persian and Hindi, and hold emoji together. Ligatures and other
   presentation forms that stand for several letters are written out. That is NFKC for these
   blocks alone: superscripts, fractions and full-width forms carry meaning and stay.
3. Unicode NFC.
4. Runs of spaces become one, lines lose trailing spaces, more than two newlines become two, the
   ends of the page lose all of them. A word split by a hyphen at a line end is joined if both
   sides are lower-case letters ("exam-" + "ple"): a compound split at its own hyphen is joined
   too, which is the lesser evil.

Each step is a regex pass that only touches what changes, so clean text costs a scan. The result
is a fixed point: normalising it again changes nothing.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

from pipeline.alignment import Alignment, Run

# (start, end, replacement): a piece of a text, not empty, and what takes its place.
_Edit = tuple[int, int, str]
# (text_start, text_end, raw_start, raw_end)
_Span = tuple[int, int, int, int]

_NEWLINES = "\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_SPACES = "\t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
_DROPPED = (
    "\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
)
_FORM_BLOCKS = ((0x2E80, 0x2FD5), (0xFB00, 0xFDFF), (0xFE70, 0xFEFC))


def _read_forms() -> tuple[dict[str, str], dict[str, str]]:
    """Presentation forms that stand for one character, and those that stand for several."""
    single: dict[str, str] = {}
    several: dict[str, str] = {}
    for first, last in _FORM_BLOCKS:
        for form in map(chr, range(first, last + 1)):
            letters = unicodedata.normalize("NFKC", form)
            if letters != form:
                (single if len(letters) == 1 else several)[form] = letters
    return single, several


_SINGLE, _SEVERAL = _read_forms()
# Patterns that begin with one set of characters: Python's matcher skips fast to the next of them.
_LONE_CR = re.compile(r"\r(?!\n)")
_SUBSTITUTED = re.compile(f"[{_NEWLINES}{_SPACES}\ud800-\udfff{''.join(_SINGLE)}]")
_REWRITTEN = re.compile(f"[\r{_DROPPED}{''.join(_SEVERAL)}]")
_SOFT_BREAK = re.compile(r"(?<=\w)\xad *\r?\n *(?=\w)")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_SPACING = re.compile(r"-[ \n]*\n *| [ \n]+|\n[ \n]+|\u2010[ \n]*\n *")


def normalise(raw: str) -> tuple[str, Alignment]:
    """Normalises the text of one page.

    Args:
        raw: Any text, also with NULs and lone surrogates.

    Returns:
        The normalised text, and the map back. In a run that maps character by character each
        character is the raw one, or stands for it alone (step 1, or NFC of a single character).
    """
    text = _SUBSTITUTED.sub(_substitute, _LONE_CR.sub("\n", raw))
    spans: list[_Span] | None = None
    for find_edits in (_rewrites, _compositions, _spacings):
        text, step = _apply(text, find_edits(text))
        if step is not None:
            spans = step if spans is None else _compose(step, spans)
    if spans is None:
        spans = [(0, len(text), 0, len(text))] if text else []
    return text, Alignment(tuple(Run(*span) for span in spans))


def _substitute(match: re.Match[str]) -> str:
    character = match[0]
    if character in _NEWLINES:
        return "\n"
    if "\ud800" <= character <= "\udfff":
        return "\ufffd"
    return _SINGLE.get(character, " ")


def _rewrites(text: str) -> Iterator[_Edit]:
    position = 0
    while match := _REWRITTEN.search(text, position):
        start, position = match.span()
        if match[0] == "\xad" and (broken := _SOFT_BREAK.match(text, start)):
            position = broken.end()
        yield start, position, _SEVERAL.get(match[0], "")


def _compositions(text: str) -> Iterator[_Edit]:
    if unicodedata.is_normalized("NFC", text):
        return
    for match in _NOT_ASCII.finditer(text):
        start = max(match.start() - 1, 0)  # an ASCII letter may be what an accent stands on
        cluster = text[start : match.end()]
        if not unicodedata.is_normalized("NFC", cluster):
            yield from _compose_cluster(cluster, start)


def _compose_cluster(cluster: str, offset: int) -> Iterator[_Edit]:
    """Edits that turn a run of non-ASCII text into NFC, in pieces as small as can be."""
    pieces: list[tuple[int, str]] = []
    start = 0
    for position in range(1, len(cluster)):
        character = cluster[position]
        if unicodedata.combining(character) or _joins(cluster[start:position], character):
            continue
        pieces.append((start, cluster[start:position]))
        start = position
    pieces.append((start, cluster[start:]))
    composed = [unicodedata.normalize("NFC", piece) for _, piece in pieces]
    if "".join(composed) != unicodedata.normalize("NFC", cluster):
        yield offset, offset + len(cluster), unicodedata.normalize("NFC", cluster)
        return
    for (begin, piece), text in zip(pieces, composed, strict=True):
        if piece != text:
            yield offset + begin, offset + begin + len(piece), text


def _joins(piece: str, character: str) -> bool:
    """Whether a character without combining class still composes with what comes before it."""
    if len(piece) > _LONGEST_PIECE:
        return False
    apart = unicodedata.normalize("NFC", piece) + unicodedata.normalize("NFC", character)
    return unicodedata.normalize("NFC", piece + character) != apart


_LONGEST_PIECE = 64


def _spacings(text: str) -> Iterator[_Edit]:
    """Deletions of spaces, newlines and hyphens, in the order of the text."""
    start = len(text) - len(text.lstrip(" \n"))
    end = len(text.rstrip(" \n"))
    if start >= end:
        if text:
            yield 0, len(text), ""
        return
    if start:
        yield 0, start, ""
    for match in _SPACING.finditer(text, start, end):
        first, last = match.span()
        if text[first] not in " \n":
            if _splits_word(text, first, last):
                yield first, last, ""
                continue
            first += 1  # a hyphen that stays, and the spacing after it
        yield from _squeeze(text, first, last)
    if end < len(text):
        yield end, len(text), ""


def _splits_word(text: str, start: int, end: int) -> bool:
    """Whether a hyphen and the spacing after it stand inside a word, at the end of one line."""
    return (
        text.count("\n", start, end) == 1
        and _is_lower(text[start - 1 : start])
        and _is_lower(text[end])
    )


def _is_lower(character: str) -> bool:
    return character.isalpha() and character.islower()


def _squeeze(text: str, start: int, end: int) -> Iterator[_Edit]:
    """Deletes all of a run of spaces and newlines but what is kept of it."""
    newline = text.find("\n", start, end)
    if newline < 0:
        kept = [start]
    else:
        kept = [newline]
        second = text.find("\n", newline + 1, end)
        if second >= 0:
            kept.append(second)
        if text[end - 1] == " ":
            kept.append(end - 1)
    position = start
    for keep in kept:
        if position < keep:
            yield position, keep, ""
        position = keep + 1
    if position < end:
        yield position, end, ""


def _apply(text: str, edits: Iterable[_Edit]) -> tuple[str, list[_Span] | None]:
    """The edited text, and its spans in `text`; None if there was nothing to edit."""
    pieces: list[str] = []
    spans: list[_Span] = []
    done = length = 0
    for start, end, replacement in edits:
        if done < start:
            pieces.append(text[done:start])
            spans.append((length, length + start - done, done, start))
            length += start - done
        if replacement:
            pieces.append(replacement)
            _add_whole(spans, (length, length + len(replacement), start, end))
            length += len(replacement)
        done = end
    if not done:
        return text, None
    if done < len(text):
        pieces.append(text[done:])
        spans.append((length, length + len(text) - done, done, len(text)))
    return "".join(pieces), spans


def _add_whole(spans: list[_Span], span: _Span) -> None:
    """Adds a span that maps as a whole, cut up if equal lengths would belie that."""
    text_start, text_end, raw_start, raw_end = span
    if text_end - text_start == raw_end - raw_start:
        spans.extend((at, at + 1, raw_start, raw_end) for at in range(text_start, text_end))
    else:
        spans.append(span)


def _compose(outer: list[_Span], inner: list[_Span]) -> list[_Span]:
    """Spans from `outer` (text to middle) through `inner` (middle to raw)."""
    spans: list[_Span] = []
    index = 0
    for text_start, text_end, start, end in outer:
        by_character = text_end - text_start == end - start
        first = index
        while inner[first][1] <= start:
            first += 1
        index = first
        last = first
        while inner[last][1] < end:
            last += 1
        if by_character:
            for piece in inner[first : last + 1]:
                _add_part(spans, piece, (start, end), text_start - start)
        else:
            raw_start = _raw_bounds(inner[first], start, start + 1)[0]
            raw_end = _raw_bounds(inner[last], end - 1, end)[1]
            _add_whole(spans, (text_start, text_end, raw_start, raw_end))
    return spans


def _add_part(spans: list[_Span], piece: _Span, within: tuple[int, int], shift: int) -> None:
    """Adds the part of an inner span that an outer span keeps character by character."""
    start, end = max(piece[0], within[0]), min(piece[1], within[1])
    raw_start, raw_end = _raw_bounds(piece, start, end)
    span = (start + shift, end + shift, raw_start, raw_end)
    if piece[1] - piece[0] == piece[3] - piece[2]:
        spans.append(span)
    else:
        _add_whole(spans, span)


def _raw_bounds(piece: _Span, start: int, end: int) -> tuple[int, int]:
    """Where `start..end` of an inner span came from."""
    if piece[1] - piece[0] == piece[3] - piece[2]:
        shift = piece[2] - piece[0]
        return start + shift, end + shift
    return piece[2], piece[3]
