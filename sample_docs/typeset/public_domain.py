"""Three well-known public-domain texts, typeset because their authors published plain text.

The sources lie in `texts/`, unchanged; ../README.md says where each comes from.
"""

from pathlib import Path

from reportlab.lib.enums import TA_CENTER
from reportlab.lib.pagesizes import A4, LETTER
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Paragraph, Preformatted
from sheets import GREY, INK, Sheet, gap, justified, set_pages, style

TEXTS = Path(__file__).parent / "texts"
_ONE_LINE = 60  # a paragraph shorter than this, without a full stop, is a heading


def write_declaration(path: Path) -> None:
    """The Declaration of Independence, in large type."""
    sheet = Sheet(
        title="The Declaration of Independence",
        author="Second Continental Congress",
        size=LETTER,
        margins_mm=(30, 26, 30, 26),
    )
    set_pages(path, sheet, _prose("us-declaration.txt", 12))


def write_constitution(path: Path) -> None:
    """The Constitution of the United States with its amendments."""

    def number_page(canvas: Canvas, page: int) -> None:
        canvas.setFont("Times-Roman", 9)
        canvas.setFillColor(GREY)
        canvas.drawCentredString(A4[0] / 2, 14 * mm, f"Constitution of the United States, {page}")

    sheet = Sheet(
        title="The Constitution of the United States of America",
        author="Constitutional Convention, 1787",
        margins_mm=(30, 26, 30, 26),
        furniture=number_page,
    )
    set_pages(path, sheet, _prose("us-constitution.txt", 11))


def write_xz_format(path: Path) -> None:
    """The specification of the .xz format, as a line printer would have set it."""

    def number_page(canvas: Canvas, page: int) -> None:
        canvas.setFont("Courier", 8)
        canvas.drawRightString(A4[0] - 20 * mm, A4[1] - 12 * mm, f"xz-file-format  {page}")

    sheet = Sheet(
        title="The .xz File Format",
        author="Lasse Collin",
        margins_mm=(24, 20, 20, 18),
        furniture=number_page,
    )
    look = style("Courier", 9.5, 1.22)
    text = (TEXTS / "xz-file-format.txt").read_text("utf-8").strip("\n")
    sections: list[Flowable] = [
        Preformatted(section, look) for section in text.replace("\f", "").split("\n\n\n")
    ]
    story: list[Flowable] = []
    for section in sections:
        story += [section, gap(7)]
    set_pages(path, sheet, story)


def _prose(name: str, size: float) -> list[Flowable]:
    """Paragraphs of a text file, its short lines without a full stop as headings."""
    running = justified("Times-Roman", size)
    heading = style(
        "Times-Bold", size, spaceBefore=size, spaceAfter=4, textColor=INK, keepWithNext=1
    )
    title = style("Times-Bold", size + 5, alignment=TA_CENTER, spaceAfter=10, textColor=INK)
    blocks = (TEXTS / name).read_text("utf-8").replace("\f", "").strip().split("\n\n")
    story: list[Flowable] = []
    for block in blocks:
        words = " ".join(block.split()).replace("&", "&amp;")
        if not words:
            continue
        if not story:
            look = title
        elif len(words) < _ONE_LINE and words[-1] not in ".,;:":
            look = heading
        else:
            look = running
        story.append(Paragraph(words, look))
    return story
