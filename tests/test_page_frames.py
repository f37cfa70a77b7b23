"""Pages keep their frames, and a quote's boxes are drawn where they are seen."""

import io
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader, PdfWriter
from pypdf.generic import RectangleObject

from pipeline.contents import (
    FileBytes,
    RawPage,
    decode_document,
    encode_document,
    make_document,
    replace_pages,
)
from pipeline.page_frames import MOST_POINTS, PageFrame, make_frame
from pipeline.pages import read_contents
from pipeline.report.rows import PageRow
from pipeline.report.sketches import Sketcher
from tests.pdfs import make_pdf

FILE = FileBytes("0" * 64, 1, "application/pdf")


def frame_row(frame: PageFrame | None) -> dict[str, Any] | None:
    names = ("x0", "y0", "x1", "y1", "rotation")
    return frame and {name: getattr(frame, name) for name in names}


def box(page: int, x0: float, y0: float, x1: float, y1: float) -> dict[str, Any]:
    return {"page": page, "x0": x0, "y0": y0, "x1": x1, "y1": y1}


def test_the_frame_is_what_is_seen_of_a_page_and_survives_the_way() -> None:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(make_pdf("One", "Two", ""))))
    writer.pages[1].cropbox = RectangleObject((100, 200, 300, 500))
    writer.pages[1].rotate(270)
    out = io.BytesIO()
    writer.write(out)
    document = make_document(FILE, read_contents(out.getvalue(), ".pdf"))
    whole, cropped = PageFrame(0, 0, 612, 792), PageFrame(100, 200, 300, 500, 270)
    assert [page.frame for page in document.pages] == [whole, cropped, whole]
    assert decode_document(encode_document(document)) == document
    scanned = replace_pages(document, {3: RawPage("Three", "ocr")})
    assert (scanned.pages[2].text, scanned.pages[2].frame) == ("Three", whole)


@pytest.mark.parametrize(
    ("corners", "rotation"),
    [
        ((0, 0, 0, 792), 0),
        ((0, 0, 612, 0.004), 0),
        ((0, 0, math.nan, 792), 0),
        ((0, 0, math.inf, 792), 0),
        ((0, 0, 612, 2 * MOST_POINTS), 0),
        ((0, 0, 612, 792), 45),
        ((0, 0, 612), 0),
        (("a", 0, 612, 792), 0),
        ((0, 0, 612, 792), None),
    ],
)
def test_figures_that_make_no_page_make_no_frame(corners: tuple[Any, ...], rotation: Any) -> None:
    assert make_frame(corners, rotation) is None


def test_corners_may_come_in_any_order_and_turns_add_up() -> None:
    assert make_frame((612, 792, 0, 0), -90) == PageFrame(0, 0, 612, 792, 270)


@pytest.mark.parametrize(
    ("rotation", "size", "drawn", "where"),
    [
        (0, (200, 300), (20, 30, 40, 10), "upper third"),
        (90, (300, 200), (260, 20, 10, 40), "upper third"),
        (180, (200, 300), (140, 260, 40, 10), "lower third"),
        (270, (300, 200), (30, 140, 10, 40), "lower third"),
    ],
)
def test_a_box_is_drawn_as_the_page_is_read(
    rotation: int, size: tuple[float, float], drawn: tuple[float, ...], where: str
) -> None:
    """Upper left of a page of 200 x 300 that begins at (100, 50); then the page is turned."""
    page = PageRow("d", 7, frame=frame_row(PageFrame(100, 50, 300, 350, rotation)))
    [sketch] = Sketcher([PageRow("d", 6), page]).draw([box(7, 120, 310, 160, 320)])
    assert (sketch.page, sketch.width, sketch.height) == (1, *size)
    assert sketch.boxes == (drawn,)
    assert sketch.where == where


def test_lines_over_more_than_a_third_and_more_than_a_page_are_told() -> None:
    frame = frame_row(PageFrame(0, 0, 100, 300))
    sketcher = Sketcher([PageRow("d", 1, frame=frame), PageRow("d", 2, frame=frame)])
    lines = [box(2, 0, 10, 9, 20), box(1, 0, 290, 9, 299), box(1, 0, 150, 9, 160)]
    first, second = sketcher.draw(lines)
    assert (first.page, first.where, len(first.boxes)) == (0, "upper third to middle third", 2)
    assert (second.page, second.where) == (1, "lower third")


def test_what_is_cut_off_or_has_no_frame_is_not_drawn() -> None:
    frame = frame_row(PageFrame(0, 0, 100, 300))
    sketcher = Sketcher([PageRow("d", 1, frame=frame), PageRow("d", 2)])
    assert sketcher.draw([box(1, 200, 10, 220, 20), box(2, 0, 0, 9, 9), box(3, 0, 0, 9, 9)]) == ()
    [half] = sketcher.draw([box(1, 90, 10, 120, 20)])
    assert half.boxes == ((90, 280, 10, 10),)


SIDE = st.floats(-2e6, 2e6)


@given(SIDE, SIDE, SIDE, SIDE, st.sampled_from([0, 90, 180, 270]), st.lists(SIDE, min_size=4))
def test_every_drawing_lies_within_its_page(
    a: float, b: float, c: float, d: float, rotation: int, sides: list[float]
) -> None:
    frame = make_frame((a, b, c, d), rotation)
    x0, x1, y0, y1 = *sorted(sides[:2]), *sorted(sides[2:4])
    for sketch in Sketcher([PageRow("d", frame=frame_row(frame))]).draw([box(1, x0, y0, x1, y1)]):
        for left, top, width, height in sketch.boxes:
            assert 0 <= left <= left + width <= sketch.width + 0.2
            assert 0 <= top <= top + height <= sketch.height + 0.2
