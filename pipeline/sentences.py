"""Where sentences end, in many scripts: used to cut chunks and to trim an answer.

In: a text. Out: positions in it, or the part of it that is whole sentences.
"""
# ruff: noqa: RUF001  the look-alikes below are meant

import re

_MARKS = frozenset(".!?…。！？｡؟۔।॥։።‼⁇⁈⁉")
_CLOSERS = frozenset("\"')]}”’»›」』）】*_")
_INNER_MARK = re.compile(r"[。！？｡．؟۔।॥][」』）”’】]*")
_MOST_CLOSERS = 3
_ENDS = re.compile(r"""[.!?…؟۔।॥։።‼⁇⁈⁉]["')\]}”’»›*_]*(?=\s|$)|[。！？｡][」』）”’】]*""")
_DAY = re.compile(r"\b[0-3]?[0-9]\.$")
_MONTH = re.compile(
    r"[ \n](?:Jan|Feb|Mär|Mae|Apr|Mai|Jun|Jul|Aug|Sep|Okt|Oct|Nov|De[zc])", re.IGNORECASE
)
_CLAUSE_ENDS = re.compile(r"[,;:](?=\s)|\s[-–—](?=\s)|\n")
_BREAKS = re.compile(rf"{_ENDS.pattern}|\n\s*\n|\f")
_ITEM = re.compile(
    r"(?<![^\n])[ ]*(?:\d{1,3}[.)][ ]+(?!(?i:jan|feb|mär|mae|apr|mai|jun|jul|aug|sep|okt|nov|dez))"
    r"|[-•*·–][ ]+)(?=\S)"
)
"""The mark of a list's item, at the beginning of a line; a day ("on\\n12. Mai") is none."""
_HEADING = re.compile(r"[ ]*[^\W\d_]\w{0,30}+(?:[ ][\w'’]{1,30}+){0,3}[ ]*:?[ ]*\n")
_SHORT_FORMS = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|No|no|Nos|Nr|Apt|Attn|Tel|Art|Sec|vs|etc|e\.g|i\.e|cf|Fig|Inc|Ltd|Co|approx|ca)"
    r"|\b[^\W\d_]|(?:^|\n)\s*\d+)\.$"
)


def ends_sentence(text: str, end: int) -> bool:
    """Whether `text[:end]` ends with a sentence mark, closing quotes and brackets passed over."""
    at = end - 1
    while at > 0 and end - at <= _MOST_CLOSERS and text[at] in _CLOSERS:
        at -= 1
    return at >= 0 and text[at] in _MARKS


def last_inner_end(text: str, start: int, end: int) -> int | None:
    """The last place in (start, end] after a mark that ends a sentence without white space."""
    last: int | None = None
    for match in _INNER_MARK.finditer(text, start, end):
        last = match.end()
    return last


def trim_to_sentence(text: str) -> str:
    """The text up to its last full sentence, or an empty string if it has none.

    A full stop after an initial, a short form or the number of a list's item ends no sentence.
    """
    best = 0
    for match in _ENDS.finditer(text):
        if not _SHORT_FORMS.search(text[max(match.start() - 20, 0) : match.start() + 1]):
            best = match.end()
    return text[:best].strip()


def trim_to_clause(text: str) -> str:
    """The text up to the last mark inside its sentence, an ellipsis after it; empty if none."""
    last = max((match.start() for match in _CLAUSE_ENDS.finditer(text)), default=0)
    return f"{text[:last].rstrip()} …" if text[:last].strip() else ""


def keep_sentences(text: str, most: int) -> str:
    """The text up to the end of its last sentence that is wanted; 0: all of it."""
    ends = [end for _, end in split_sentences(text)]
    return text[: ends[most - 1]] if 0 < most < len(ends) else text


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Where each sentence stands in a text, white space left out; blank lines end one, too."""
    found: list[tuple[int, int]] = []
    start = 0
    for match in _BREAKS.finditer(text):
        before = text[max(match.start() - 20, 0) : match.start() + 1]
        is_day = _DAY.search(before) and _MONTH.match(text, match.end())
        if match[0].isspace() or not (is_day or _SHORT_FORMS.search(before)):
            _add_trimmed(found, text, start, match.end())
            start = match.end()
    _add_trimmed(found, text, start, len(text))
    return found


def split_items(text: str) -> list[tuple[int, int]]:
    """As `split_sentences`; an item of a list is one, without its mark and the list's heading.

    Items need no full stop to end: the next one's mark does, if it is of the same kind, or the next
    number. What precedes the first mark is a heading if it is four words at most; else the mark may
    be none, and the sentence stays whole.
    """
    found: list[tuple[int, int]] = []
    for start, end in split_sentences(text):
        begin, last = start, ""
        for mark in _ITEM.finditer(text, start, end):
            sign = mark[0].strip()
            if mark.start() == start or (
                begin == start and _HEADING.fullmatch(text, start, mark.start())
            ):
                begin, last = mark.end(), sign
            elif begin > start and _follows(last, sign):
                _add_trimmed(found, text, begin, mark.start())
                begin, last = mark.end(), sign
        found.append((begin, end))
    return found


def _follows(last: str, sign: str) -> bool:
    """Whether an item with this mark may stand behind one with that."""
    if not last[0].isdigit():
        return sign == last
    return sign[:-1].isdigit() and int(sign[:-1]) == int(last[:-1]) + 1


def _add_trimmed(found: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    if start < end:
        found.append((start, end))
