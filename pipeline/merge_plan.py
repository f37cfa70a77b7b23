"""Plans how the answers about the parts of a document are joined: a tree, made before any is asked.

In: where the chunks and the sections stand, and how many answers fit one request. Out: a `Part`
whose leaves are the chunks, in order. The parts of a section are joined before they meet others,
so that each answer on the way is about something that the document itself keeps together; the
largest sections first, and only as many as it takes: what fits one request is joined at once.
Without sections, and where a section has too many parts, neighbours are joined in even groups.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

from pipeline.outline import Section

_Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Part:
    """An answer that will be asked for.

    Attributes:
        title: Of the smallest section that all of it belongs to; empty for all of the document.
        chunk: For an answer about a chunk, its place among the chunks; else None.
        parts: For an answer that joins others, those, in the order of the text.
    """

    title: str
    chunk: int | None = None
    parts: tuple["Part", ...] = ()


@dataclass(slots=True)
class _Branch:
    """A section with the sections in it."""

    level: int
    title: str
    start: int
    end: int
    branches: list["_Branch"] = field(default_factory=list["_Branch"])


def plan_merges(spans: Sequence[_Span], sections: Sequence[Section], most: int) -> Part:
    """Plans the joining of a document's answers.

    Args:
        spans: The chunks' own words, as (start, end) in the text; at least one, in order, without
            overlap.
        sections: The document's, in order; none if it has no headings.
        most: The most answers that one request joins, at least 2.

    Returns:
        The whole document. Each chunk is one leaf of it, and each join has from 2 to `most` parts.

    Raises:
        ValueError: There is no chunk, or `most` is below 2.
    """
    if not spans or most < 2:  # noqa: PLR2004
        raise ValueError(f"there is nothing to plan: spans={len(spans)}, most={most}, at least 2")
    root = _make_branches(sections, spans[-1][1])
    paths = [_find_path(root, span) for span in spans]
    return _join("", _gather(paths, list(range(len(spans))), 0, most))


def _make_branches(sections: Sequence[Section], end: int) -> _Branch:
    """The sections as a tree; its root is the document, text before the first heading included."""
    root = _Branch(0, "", 0, end)
    path = [root]
    for section in sections:
        while path[-1].level >= section.level:
            path.pop().end = section.start_char
        branch = _Branch(section.level, section.title, section.start_char, end)
        path[-1].branches.append(branch)
        path.append(branch)
    return root


def _find_path(root: _Branch, span: _Span) -> list[_Branch]:
    """The sections that hold most of a chunk, from the document down to the smallest."""
    start, end = span
    path = [root]
    while path[-1].branches:
        branches = path[-1].branches
        # What holds more than half of it holds its middle.
        place = bisect_right(branches, (start + end) // 2, key=lambda branch: branch.start) - 1
        held = min(end, branches[place].end) - max(start, branches[place].start)
        if place < 0 or 2 * held <= end - start:
            break
        path.append(branches[place])
    return path


def _gather(paths: list[list[_Branch]], chunks: list[int], depth: int, most: int) -> list[Part]:
    """The parts of a section, as few as can be joined at once; `depth` is its place in the paths.

    A chunk that belongs to no smaller section is a group by itself.
    """
    title = paths[chunks[0]][depth].title
    groups: list[tuple[str, list[Part]]] = []
    for _, members in groupby(chunks, key=lambda chunk: _group_key(paths[chunk], depth, chunk)):
        inner = list(members)
        path = paths[inner[0]]
        if len(path) > depth + 1:
            groups.append((path[depth + 1].title, _gather(paths, inner, depth + 1, most)))
        else:
            groups.append((title, [Part(title, chunk=inner[0])]))
    return _group_evenly(title, _close_largest(groups, most), most)


def _group_key(path: list[_Branch], depth: int, chunk: int) -> tuple[int, int]:
    return (id(path[depth + 1]), -1) if len(path) > depth + 1 else (-1, chunk)


def _close_largest(groups: list[tuple[str, list[Part]]], most: int) -> list[Part]:
    """Joins the parts of sections, those with the most parts first, until the rest fits."""
    total = sum(len(parts) for _, parts in groups)
    closed: dict[int, Part] = {}
    for place in sorted(range(len(groups)), key=lambda at: (-len(groups[at][1]), at)):
        title, parts = groups[place]
        if total <= most or len(parts) == 1:
            break
        closed[place] = _join(title, parts)
        total -= len(parts) - 1
    return [
        part
        for place, (_, parts) in enumerate(groups)
        for part in ([closed[place]] if place in closed else parts)
    ]


def _group_evenly(title: str, parts: list[Part], most: int) -> list[Part]:
    """Joins neighbours in groups of nearly the same size, again and again, until the rest fits."""
    while len(parts) > most:
        count = -(-len(parts) // most)
        borders = [number * len(parts) // count for number in range(count + 1)]
        parts = [_join(title, parts[begin:end]) for begin, end in pairwise(borders)]
    return parts


def _join(title: str, parts: list[Part]) -> Part:
    return parts[0] if len(parts) == 1 else Part(title, parts=tuple(parts))
