"""Lists of names in running text and in columns: who was present, who made a contract.

In: a text and the words that begin a list ("Present:"). Out: the places of its items. A list goes
on in its line up to the end of the sentence, or, where nothing follows in that line, line by line
to the first that is no item. Words in parentheses, and an item's role, are no part of it.
"""

import re
from collections.abc import Iterator, Sequence

from pipeline.derive import find_words
from pipeline.sentences import split_sentences

Span = tuple[int, int]

MOST_CHARS = 1200
_VERB = re.compile(r"[ ]*(?:(?:were|was|are|is|sind|waren|étaient)[ \n]+|[:–-][ ]*)+")  # noqa: RUF001
_STARTS = re.compile(r"(?:^|[\n\f])[ ]*(?:[\d.]+[ ]+|[A-Z][.)][ ]+|[-•*][ ]*)?(?:The[ ])?$")
_SPLIT = re.compile(r"[ \n](?:and|und|et|sowie|&)[ \n](?=[A-ZÀ-Þ])|[,;\n\f•]|[ ][-–—|][ ]")  # noqa: RUF001
_TITLES = re.compile(
    r"(?:(?:Mr|Mrs|Ms|Miss|Dr|Prof|Revd?|Capt(?:ain)?|Cllr|Councillor|Herrn?|Frau|Mme|M)\.?[ ])+"
    r"(?=\S+[ ]\S)"
)
_LINE_IN_TEXT = re.compile(r"(?<=\w)\n(?=[A-ZÀ-Þ])")
_ANY_CASE = re.IGNORECASE | re.MULTILINE
_PARAGRAPH_END = re.compile(r"\n[ ]*\n|\f")
_MARKED = re.compile(
    r"^[ ]*(?:[-•*·–]|\d+[.)]|[a-z][.)])[ ]+(?P<item>[^\n]+"  # noqa: RUF001
    r"(?:\n(?![ ]*(?:[-•*·–]|\d+[.)]|[a-z][.)])[ ])[^\n]+)*)",  # noqa: RUF001
    re.MULTILINE,
)
_PARENS = re.compile(r"\([^()]*\)")
_NEW_LABEL = re.compile(
    r"[ ]*(?:\d+[.)]|[A-Z][^\n:,]{1,30}:|[A-ZÀ-Þ]{3,}(?:[ ][A-ZÀ-Þ]+)*[ ]*$)", re.MULTILINE
)
_COLUMN_ITEM = re.compile(r"[A-ZÀ-Þ][^\n.:;]{2,70}$", re.MULTILINE)
_GOES_ON = re.compile(r"(?:,|;|[ ]and|[ ]und|[ ]et|[ ]&)[ ]*$")
_HALF_NAME = re.compile(r"(?:^|[,;]|[ ]and|[ ]und|[ ]et)[ ]*[A-ZÀ-Þ][\w'’-]*\.?$")  # noqa: RUF001


def find_listed(text: str, labels: Sequence[str], unlike: Sequence[str]) -> list[Span]:
    """The items of the lists that labels begin, in the order of the text.

    Args:
        text: Where to look.
        labels: Words before a list.
        unlike: Words that begin what is no part of it ("Apologies").
    """
    bad = [start for word in unlike for start, _ in find_words(word, text)]
    spans: set[Span] = set()
    for label in labels:
        for start, end in find_words(label, text):
            region = _region(text, start, end)
            if region is not None:
                stop = min((at for at in bad if region[0] <= at < region[1]), default=region[1])
                spans.update(_split(text, region[0], stop))
    known = {label.casefold() for label in labels}
    return sorted(span for span in spans if text[span[0] : span[1]].casefold() not in known)


def find_below(text: str, labels: Sequence[str]) -> list[Span]:
    """The items below a label that stands alone in its line: each begins with a mark or a number.

    Args:
        text: Where to look.
        labels: Words that may stand over a list, in the singular or with an s.
    """
    spans: list[Span] = []
    for label in labels:
        for heading in re.finditer(rf"^[ ]*{re.escape(label)}s?[ ]*:?[ ]*$", text, _ANY_CASE):
            end = min(len(text), heading.end() + MOST_CHARS)
            block = _PARAGRAPH_END.search(text, heading.end() + 1, end)
            spans += [
                match.span("item")
                for match in _MARKED.finditer(text, heading.end(), block.start() if block else end)
            ]
    return sorted(set(spans))


def _region(text: str, start: int, end: int) -> Span | None:
    """What a label's list takes up; None if the words are no label."""
    begins = _STARTS.search(text, max(0, start - 24), start) is not None or start == 0
    verb = _VERB.match(text, end)
    if not verb and not begins:
        return None
    begin = verb.end() if verb else end
    line_end = _line_end(text, begin)
    if text[begin:line_end].strip():
        if not verb and not text[begin:line_end].lstrip()[:1].isupper():
            return None
        return begin, _sentence_end(text, begin)
    return (begin, _column_end(text, line_end)) if begins else None


def _sentence_end(text: str, begin: int) -> int:
    """Where a list in running text ends: its sentence, or the last line that goes on."""
    end = min(_line_end(text, begin), begin + MOST_CHARS)
    while end < len(text) and end - begin < MOST_CHARS and text[end] == "\n":
        line = text[begin:end]
        next_end = _line_end(text, end + 1)
        following = text[end + 1 : next_end]
        if not following.strip() or _NEW_LABEL.match(following):
            break
        if not (_GOES_ON.search(line) or _HALF_NAME.search(line) or following[:1].islower()):
            break
        end = next_end
    sentences = split_sentences(text[begin:end])
    return begin + (sentences[0][1] if sentences else 0)


def _column_end(text: str, end: int) -> int:
    """Where a list that has a line for each item ends."""
    begin = end
    is_first = True
    while end < len(text) and end - begin < MOST_CHARS:
        next_end = _line_end(text, end + 1)
        line = text[end + 1 : next_end]
        if not line.strip() and is_first:
            end, is_first = next_end, False
            continue
        item = line.strip(" -•*")
        if not _COLUMN_ITEM.match(item) or _NEW_LABEL.match(line):
            break
        end, is_first = next_end, False
    return end


def _split(text: str, start: int, end: int) -> Iterator[Span]:
    """The items of a list, without parentheses. In running text a line may end in a name."""
    region = text[start:end]
    if not region.startswith("\n"):
        region = _LINE_IN_TEXT.sub(" ", region)
    for inner in _PARENS.finditer(region):
        region = region[: inner.start()] + " " * len(inner[0]) + region[inner.end() :]
    last = 0
    for cut in [*(match.span() for match in _SPLIT.finditer(region)), (len(region), len(region))]:
        item = region[last : cut[0]]
        words = item.strip(" .:-•*\n")
        if words:
            at = start + last + item.find(words)
            title = _TITLES.match(words)
            yield at + (title.end() if title else 0), at + len(words)
        last = cut[1]


def _line_end(text: str, start: int) -> int:
    at = text.find("\n", start)
    page = text.find("\f", start, at if at >= 0 else len(text))
    return page if page >= 0 else at if at >= 0 else len(text)
