"""How answers about parts are joined: every chunk once, nothing too large, sections first."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.merge_plan import Part, plan_merges
from pipeline.outline import Section

CHUNK_CHARS = 100


def spans_of(count: int) -> list[tuple[int, int]]:
    return [(n * CHUNK_CHARS, (n + 1) * CHUNK_CHARS) for n in range(count)]


def leaves(part: Part) -> list[int]:
    if part.chunk is not None:
        return [part.chunk]
    return [chunk for inner in part.parts for chunk in leaves(inner)]


def walk(part: Part) -> Iterator[Part]:
    yield part
    for inner in part.parts:
        yield from walk(inner)


def depth(part: Part) -> int:
    return 1 + max(map(depth, part.parts), default=-1)


@st.composite
def documents(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[Section], int]:
    """Chunks of any length, gaps between them where a chunk was blank, and sections anywhere."""
    sizes = draw(st.lists(st.tuples(st.integers(1, 90), st.booleans()), min_size=1, max_size=60))
    spans: list[tuple[int, int]] = []
    at = 0
    for size, is_blank in sizes:
        if not is_blank or not spans:
            spans.append((at, at + size))
        at += size
    starts = sorted(draw(st.sets(st.integers(0, at + 50), max_size=40)))
    levels = draw(st.lists(st.integers(1, 9), min_size=len(starts), max_size=len(starts)))
    pairs = zip(starts, levels, strict=True)
    sections = [Section(level, f"s{start}", start) for start, level in pairs]
    return spans, sections, draw(st.integers(2, 9))


@settings(max_examples=400, deadline=None)
@given(documents())
def test_every_chunk_is_joined_once_and_no_join_has_too_many(
    document: tuple[list[tuple[int, int]], list[Section], int],
) -> None:
    spans, sections, most = document
    plan = plan_merges(spans, sections, most)

    assert leaves(plan) == list(range(len(spans)))
    for part in walk(plan):
        assert (part.chunk is None) == bool(part.parts)
        assert part.chunk is not None or 2 <= len(part.parts) <= most
    assert plan == plan_merges(spans, sections, most)


@settings(max_examples=400, deadline=None)
@given(documents())
def test_no_answer_is_about_a_part_of_a_section_and_something_else(
    document: tuple[list[tuple[int, int]], list[Section], int],
) -> None:
    spans, sections, most = document
    held = {
        section.title: chunks_of(spans, section, sections[place + 1 :])
        for place, section in enumerate(sections)
    }
    for part in walk(plan_merges(spans, sections, most)):
        chunks = set(leaves(part))
        for of_section in held.values():
            assert not chunks & of_section or chunks <= of_section or chunks >= of_section
        assert not part.title or chunks <= held[part.title]


def chunks_of(spans: list[tuple[int, int]], section: Section, later: list[Section]) -> set[int]:
    """The chunks that a section holds more than half of."""
    ends = [other.start_char for other in later if other.level <= section.level]
    end = min([*ends[:1], spans[-1][1]])
    return {
        number
        for number, (first, last) in enumerate(spans)
        if 2 * (min(last, end) - max(first, section.start_char)) > last - first
    }


def test_parts_of_one_section_are_joined_before_they_meet_others() -> None:
    sections = [Section(1, "A", 0), Section(1, "B", 500), Section(1, "C", 700)]
    plan = plan_merges(spans_of(10), sections, 6)
    assert [leaves(part) for part in plan.parts] == [[0, 1, 2, 3, 4], [5], [6], [7], [8], [9]]
    assert [part.title for part in plan.parts] == ["A", "B", "B", "C", "C", "C"]
    assert plan.title == ""


def test_what_fits_one_request_is_joined_at_once() -> None:
    sections = [Section(1, "A", 0), Section(2, "A1", 0), Section(1, "B", 400)]
    plan = plan_merges(spans_of(8), sections, 8)
    assert [part.chunk for part in plan.parts] == list(range(8))


def test_sections_within_sections_are_joined_from_the_inside() -> None:
    sections = [
        Section(1, "A", 0),
        Section(2, "A1", 0),
        Section(2, "A2", 600),
        Section(1, "B", 1200),
    ]
    plan = plan_merges(spans_of(16), sections, 5)
    first, *rest = plan.parts
    assert (first.title, leaves(first)) == ("A", list(range(12)))
    assert [part.title for part in first.parts] == ["A1", "A1", "A2", "A2"]
    assert [leaves(part) for part in rest] == [[12], [13], [14], [15]]


def test_without_sections_neighbours_are_joined_evenly() -> None:
    plan = plan_merges(spans_of(400), (), 8)
    assert depth(plan) == 3
    joins = [part for part in walk(plan) if part.parts]
    assert len(joins) == 50 + 7 + 1
    assert {len(part.parts) for part in plan.parts} <= {7, 8}


def test_a_chunk_belongs_to_the_section_that_holds_most_of_it() -> None:
    sections = [Section(1, "A", 0), Section(1, "B", 260)]
    plan = plan_merges(spans_of(4), sections, 3)
    assert [part.title for part in plan.parts] == ["A", "B"]
    assert leaves(plan.parts[0]) == [0, 1, 2]


def test_a_flat_document_of_many_sections_stays_shallow() -> None:
    sections = [Section(1, str(n), n * CHUNK_CHARS) for n in range(600)]
    assert depth(plan_merges(spans_of(600), sections, 8)) == 4


def test_nothing_to_plan_is_refused() -> None:
    with pytest.raises(ValueError, match="spans=0"):
        plan_merges([], (), 8)
    with pytest.raises(ValueError, match="most=1"):
        plan_merges(spans_of(3), (), 1)
