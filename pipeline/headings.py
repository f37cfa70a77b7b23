"""Finds the sections of a document: by its outline, else by the headings in its text.

In: normalised text and the outline that its parser found. Out: `Section`s in order; none if the
document has fewer than two. Headings of text are lines that

- are underlined with marks, as in reStructuredText (levels in the order in which the marks come),
- or have a word and a number: "Chapter 3", "Article IV", "Anhang B",
- or have a number that follows on from the one before ("2.3" after "2.2", "2.2.4" or "2") and a
  title, which is no sentence.

Lines of the last two kinds that follow each other closely are a list or a table of contents.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from pipeline.outline import OutlineEntry, Section, make_entry, place_outline, skip_spaces

_LINE = r"(?<![^\n\f])[ ]?"
_END = r"[ ]*(?![^\n\f])"
_MARKED = re.compile(rf"{_LINE}(#{{1,6}})[ ]+([^\n\f]{{1,200}}?)[ ]*#*{_END}")
_FENCED = re.compile(r"(?ms)^ ?(```+|~~~+).*?(?:^ ?\1|\Z)")
_UNDERLINED = re.compile(rf"{_LINE}(\w[^\n\f]{{0,100}})\n[ ]?(([=\-~^\"'`*+#])\3{{2,}}){_END}")
_RANKS = (
    ("part", "teil", "partie", "title"),
    ("chapter", "kapitel", "chapitre", "annex", "appendix", "schedule", "anhang", "annexe"),
    ("article", "artikel"),
    ("section", "abschnitt"),
)
_RANK = {word: rank for rank, words in enumerate(_RANKS, start=1) for word in words}
_NAMED = re.compile(
    rf"{_LINE}((?i:{'|'.join(_RANK)})[ ]+(?:[0-9]{{1,3}}|[IVXLC]{{1,7}}|[A-Z])\b)"
    rf"([^\n\f]{{0,90}}?){_END}"
)
_NUMBERED = re.compile(
    rf"{_LINE}([0-9]{{1,3}}(?:\.[0-9]{{1,2}}){{0,4}})\.?[ ]+([^\W\d_][^\n\f]{{1,90}}?){_END}"
)
# The end of a sentence, of a line that goes on, or of a line of contents with its page.
_NO_TITLE = re.compile(
    r"[.,;:!?]$|\s[0-9]+$|\.[ ]?\.|\b(?:a|an|and|by|for|in|of|or|the|to|with|und|der|die|et|de)$"
)
_BEGINS = re.compile(r"(?:[^\W\d]+[ ])?(?:(?:[0-9]+\.)*[01]|I|A)\b(?!\.[0-9])")
_LEAST_APART = 200  # characters between two headings of a level; items of a list are closer
_LEAST_LISTED = 3
_MOST_RUNS = 4

_Number = tuple[int, ...]


def find_sections(text: str, outline: Sequence[OutlineEntry] = ()) -> tuple[Section, ...]:
    """The sections of a document.

    Args:
        text: Its normalised text.
        outline: As its parser found it.

    Returns:
        In the order of the text; none where there are fewer than two.
    """
    for find in (
        lambda: place_outline(text, outline),
        lambda: tuple(_find_underlined(text)),
        lambda: _find_numbered(text),
    ):
        found = find()
        if len(found) > 1:
            return found
    return ()


def outline_markdown(text: str) -> tuple[OutlineEntry, ...]:
    """The headings of a Markdown text, by their marks or underlined, but for those in code."""
    code = [match.span() for match in _FENCED.finditer(text)]
    found = [(m.start(), make_entry(len(m[1]), m[2])) for m in _MARKED.finditer(text)]
    found += [
        (m.start(), make_entry("=-".index(m[3]) + 1, m[1]))
        for m in _UNDERLINED.finditer(text)
        if m[3] in "=-"
    ]
    return tuple(
        entry
        for place, entry in sorted(found, key=lambda each: each[0])
        if not any(start <= place < end for start, end in code)
    )


def _find_underlined(text: str) -> Iterator[Section]:
    levels: dict[str, int] = {}
    for match in _UNDERLINED.finditer(text):
        # Shorter ones are the dashes of a table, or of a signature.
        if len(match[2]) >= len(match[1]) - 1:
            level = levels.setdefault(match[3], len(levels) + 1)
            yield _section(text, level, match[1], match.start())


def _find_numbered(text: str) -> tuple[Section, ...]:
    named = [
        _section(text, _RANK[match[1].split()[0].lower()], match[0], match.start())
        for match in _NAMED.finditer(text)
        if _is_name_end(match[2])
    ]
    found = sorted((*named, *_follow_numbers(text)), key=lambda each: each.start_char)
    return tuple(_without_lists(found))


def _is_name_end(rest: str) -> bool:
    """Whether what follows "Section 2" is nothing or a title: not "of this Act", "(3), and"."""
    title = rest.lstrip(" .:-–—")  # noqa: RUF001
    return not rest.strip() or (title[:1].isupper() and not _NO_TITLE.search(title))


def _follow_numbers(text: str) -> Iterator[Section]:
    """Headings whose numbers follow each other; a run of numbers may stand inside another."""
    runs: list[_Number] = []
    for match in _NUMBERED.finditer(text):
        title = match[2]
        if not title[0].isupper() or _NO_TITLE.search(title):
            continue
        number = tuple(map(int, match[1].removesuffix(".0").split(".")))
        run = next((r for r in range(len(runs) - 1, -1, -1) if _follows(number, runs[r])), None)
        if run is not None:
            del runs[run:]
        elif any(part > 1 for part in number):
            continue
        runs = [*runs, number][-_MOST_RUNS:]
        yield _section(text, len(_RANKS) + len(number), match[0], match.start())


def _follows(number: _Number, last: _Number) -> bool:
    """Whether a number is the next one on its level, or the first below the last one."""
    if number[:-1] == last and number[-1] <= 1:
        return True
    return len(number) <= len(last) and number == (
        *last[: len(number) - 1],
        last[len(number) - 1] + 1,
    )


def _without_lists(sections: Sequence[Section]) -> Iterator[Section]:
    """Leaves out headings of a level that follow each other closely, three or more."""
    by_level: dict[int, list[Section]] = {}
    for section in sections:
        by_level.setdefault(section.level, []).append(section)
    listed: set[Section] = set()
    for level in by_level.values():
        run = level[:1]
        for before, after in pairwise(level):
            run = [*run, after] if _is_close(before, after) else [after]
            listed.update(run if len(run) >= _LEAST_LISTED else ())
    return (section for section in sections if section not in listed)


def _is_close(before: Section, after: Section) -> bool:
    """Whether a heading follows another as in a list; after a table of contents all begins anew."""
    is_near = after.start_char - before.start_char < _LEAST_APART
    return is_near and not _BEGINS.match(after.title)


def _section(text: str, level: int, title: str, start: int) -> Section:
    entry = make_entry(level, title)
    return Section(entry.level, entry.title, skip_spaces(text, start))
