"""Paper, type and page furniture for the documents that this project writes itself.

In: a list of flowables and a `Sheet`. Out: one PDF, the same bytes every time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reportlab.lib import colors
from reportlab.lib.enums import TA_JUSTIFY, TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table

INK = colors.HexColor("#1d2733")
GREY = colors.HexColor("#5d6975")


@dataclass(frozen=True)
class Sheet:
    """One document's paper and metadata; margins in millimetres."""

    title: str
    author: str
    size: tuple[float, float] = A4
    margins_mm: tuple[float, float, float, float] = (22, 22, 22, 22)
    furniture: Callable[[Canvas, int], None] | None = None
    password: tuple[str, str] | None = None


def style(font: str, size: float, lead: float = 1.32, **more: object) -> ParagraphStyle:
    """A paragraph style; `lead` is the line height as a multiple of the size."""
    return ParagraphStyle(
        f"{font}-{size}-{more}", fontName=font, fontSize=size, leading=size * lead, **more
    )


def body(font: str, size: float, **more: object) -> ParagraphStyle:
    """Running text with a little space after each paragraph."""
    return style(font, size, spaceAfter=size * 0.6, textColor=INK, **more)


def justified(font: str, size: float) -> ParagraphStyle:
    """Running text, both edges straight."""
    return body(font, size, alignment=TA_JUSTIFY)


def right(font: str, size: float) -> ParagraphStyle:
    """Lines against the right edge."""
    return style(font, size, alignment=TA_RIGHT, textColor=INK)


def paragraphs(texts: Sequence[str], look: ParagraphStyle) -> list[Flowable]:
    """Each text as a paragraph; a newline inside one breaks the line."""
    return [Paragraph(text.strip().replace("\n", "<br/>"), look) for text in texts]


def gap(height_mm: float) -> Spacer:
    """Empty space."""
    return Spacer(1, height_mm * mm)


def grid(
    rows: Sequence[Sequence[object]], widths_mm: Sequence[float], marks: list[object]
) -> Table:
    """A table of fixed column widths; `marks` are reportlab table style commands."""
    table = Table(
        [list(row) for row in rows], colWidths=[width * mm for width in widths_mm], repeatRows=1
    )
    table.setStyle(marks)
    return table


def set_pages(path: Path, sheet: Sheet, story: list[Flowable]) -> None:
    """Typesets the story into `path`."""
    left, top, right_edge, bottom = (side * mm for side in sheet.margins_mm)
    template = SimpleDocTemplate(
        str(path),
        pagesize=sheet.size,
        leftMargin=left,
        topMargin=top,
        rightMargin=right_edge,
        bottomMargin=bottom,
        title=sheet.title,
        author=sheet.author,
        invariant=1,  # no date of today, no random id
    )

    def draw(canvas: Canvas, _: SimpleDocTemplate) -> None:
        if sheet.furniture is not None:
            sheet.furniture(canvas, canvas.getPageNumber())

    path.parent.mkdir(parents=True, exist_ok=True)
    template.build(story, onFirstPage=draw, onLaterPages=draw)
