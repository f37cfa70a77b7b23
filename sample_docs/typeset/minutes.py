"""Two sets of minutes: a library board's, told in prose, and a project group's, in a table."""

from pathlib import Path

from reportlab.lib import colors
from reportlab.lib.enums import TA_CENTER
from reportlab.lib.pagesizes import A4, LETTER, landscape
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Paragraph
from sheets import GREY, INK, Sheet, body, gap, grid, justified, paragraphs, set_pages, style

PLUM = colors.HexColor("#5b2a57")


def write_minutes(folder: Path) -> None:
    """Writes both into the folder."""
    set_pages(folder / "library-board-2026-05-12.pdf", _LIBRARY, _library_story())
    set_pages(folder / "bridge-project-group-07.pdf", _BRIDGE, _bridge_story())


def _library_furniture(canvas: Canvas, page: int) -> None:
    canvas.setFont("Times-Italic", 9)
    canvas.setFillColor(GREY)
    canvas.drawCentredString(
        LETTER[0] / 2, 14 * mm, f"Ashby Falls Public Library, Board of Trustees, page {page} of 2"
    )


_LIBRARY = Sheet(
    title="Minutes, regular meeting of May 12, 2026",
    author="Ashby Falls Public Library",
    size=LETTER,
    margins_mm=(28, 24, 28, 24),
    furniture=_library_furniture,
)

_LIBRARY_ITEMS = (
    (
        "Call to order",
        "President Dolores Quintero called the regular meeting to order at 6:32 p.m. in the Carnegie "
        "Room of the library, 15 Mill Street, Ashby Falls, Vermont.",
    ),
    (
        "Roll call",
        "Present: Dolores Quintero (president), Samuel Oyelaran (treasurer), Beth Karnowski "
        "(secretary), Franklin Dube and Yuki Matsuda. Absent: Peter Lindgren. Also present: Amelia "
        "Cross, library director, and four members of the public. A quorum was declared.",
    ),
    (
        "Minutes of the April meeting",
        "Mr. Dube moved, and Ms. Matsuda seconded, that the minutes of April 14, 2026 be approved as "
        "written. The motion passed, 5 to 0.",
    ),
    (
        "Treasurer’s report",
        "Mr. Oyelaran reported a balance of $84,216.50 in the operating account on April 30. Spending "
        "for the year is 3 percent under budget, mainly because the part-time cataloguer’s post was "
        "vacant until March. The report was placed on file for audit.",
    ),
    (
        "Director’s report",
        "Ms. Cross reported 5,912 visits in April, against 5,240 a year ago, and 11,083 loans, of which "
        "2,977 were digital. The summer reading program opens on June 22 with the theme “Rivers and "
        "Roads”. Two volunteers are still needed for Thursday mornings.",
    ),
    (
        "Roof repair",
        "Three bids were received for the slate roof over the reading room: $41,300 from Tolland "
        "Roofing, $46,850 from Green Valley Slate and $52,400 from R. Pelletier. Ms. Karnowski moved "
        "to accept the bid of Green Valley Slate, because it alone includes the copper flashing and a "
        "20-year warranty. Mr. Oyelaran seconded. The motion passed, 4 to 1, Mr. Dube opposed. Work "
        "is to begin in August, and the reading room will be closed for about three weeks.",
    ),
    (
        "Sunday hours",
        "Ms. Cross presented the survey of 318 patrons: 61 percent would use the library on Sundays. "
        "After discussion Ms. Matsuda moved to open on Sundays from 1 to 5 p.m. from September 13 to "
        "December 20, 2026, as a trial, at a cost of not more than $7,900. Ms. Karnowski seconded. "
        "The motion passed, 5 to 0.",
    ),
    (
        "Public comment",
        "Mrs. Irene Fontaine of Elm Street asked for more large-print mysteries. Ms. Cross will bring "
        "a proposal to the next meeting.",
    ),
    (
        "Late fees",
        "Mr. Dube moved that late fees for children’s books be ended from July 1, 2026. Mr. Oyelaran "
        "asked for the figures of the last three years first. The matter was tabled until June.",
    ),
    (
        "Adjournment",
        "The next regular meeting will be held on June 9, 2026, at 6:30 p.m. The meeting adjourned at "
        "8:05 p.m.",
    ),
)


def _library_story() -> list[Flowable]:
    title = style("Times-Bold", 15, alignment=TA_CENTER, textColor=INK)
    centred = style("Times-Roman", 11, alignment=TA_CENTER, textColor=INK)
    heading = style("Times-Bold", 11, textColor=INK, spaceBefore=3, spaceAfter=1)
    story: list[Flowable] = [
        Paragraph("ASHBY FALLS PUBLIC LIBRARY", title),
        Paragraph("Board of Trustees<br/>Minutes of the Regular Meeting, May 12, 2026", centred),
        gap(6),
    ]
    for number, (name, words) in enumerate(_LIBRARY_ITEMS, start=1):
        story += [
            Paragraph(f"{number}. {name}", heading),
            Paragraph(words, justified("Times-Roman", 11)),
        ]
    signed = "Respectfully submitted,\nBeth Karnowski, Secretary"
    return [*story, gap(4), *paragraphs([signed], body("Times-Roman", 11))]


def _bridge_furniture(canvas: Canvas, _page: int) -> None:
    width, height = landscape(A4)
    canvas.setFillColor(PLUM)
    canvas.rect(0, height - 15 * mm, width, 15 * mm, stroke=0, fill=1)
    canvas.setFillColor(colors.white)
    canvas.setFont("Helvetica-Bold", 13)
    canvas.drawString(16 * mm, height - 10 * mm, "Strandvik footbridge: project group, meeting 7")
    canvas.setFont("Helvetica", 9)
    canvas.drawRightString(width - 16 * mm, height - 10 * mm, "Minutes, 24 September 2026")


_BRIDGE = Sheet(
    title="Strandvik footbridge, project group, meeting 7",
    author="Strandvik Harbour Authority",
    size=landscape(A4),
    margins_mm=(16, 22, 16, 12),
    furniture=_bridge_furniture,
)

_BRIDGE_FACTS = (
    ("Body", "Strandvik footbridge project group"),
    ("Date and time", "24 September 2026, 09:00 to 10:20"),
    ("Place", "Harbour Office, meeting room 2, and by video"),
    ("Chair", "Ingrid Solheim (Harbour Authority)"),
    (
        "Present",
        "Ingrid Solheim, Rafael Moreno (Nordkyst Engineering), Lise Bakken (Municipality), "
        "Anton Weiss (Brückenwerk GmbH, by video)",
    ),
    ("Apologies", "Kari Dahl (Fire Service)"),
    ("Minutes", "Lise Bakken"),
)

_BRIDGE_ITEMS = (
    (
        "7.1",
        "Foundations",
        "East abutment poured on 11 September; 28-day strength expected on 9 October. West abutment "
        "waits for the cable survey.",
        "Decided: the west abutment starts only after the survey is signed.",
        "R. Moreno",
        "2 Oct",
    ),
    (
        "7.2",
        "Steel deck",
        "Welding of the three deck sections is done. Paint inspection in Rostock on 6 October.",
        "Decided: delivery by barge in one lift on 19 October, wind below 8 m/s.",
        "A. Weiss",
        "19 Oct",
    ),
    (
        "7.3",
        "Budget",
        "Spent to date 14.6 of 21.3 million kroner. The lift adds 180,000 kroner.",
        "Decided: the lift is paid from the reserve, which falls to 0.9 million kroner.",
        "I. Solheim",
        "30 Sep",
    ),
    (
        "7.4",
        "Ferry notice",
        "The old ferry must stop for two days during the lift.",
        "Decided: public notice in Strandvik Avis and at both piers.",
        "L. Bakken",
        "5 Oct",
    ),
    (
        "7.5",
        "Lighting",
        "Two designs were shown. The fire service has not answered on the escape route.",
        "Put off to the next meeting.",
        "K. Dahl",
        "8 Oct",
    ),
)


def _bridge_story() -> list[Flowable]:
    cell, bold = style("Helvetica", 8.5, 1.25), style("Helvetica-Bold", 8.5, 1.25)
    facts = grid(
        [[Paragraph(name, bold), Paragraph(words, cell)] for name, words in _BRIDGE_FACTS],
        (34, 230),
        [
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("TOPPADDING", (0, 0), (-1, -1), 1.5),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ],
    )
    head = ("No.", "Subject", "Discussed", "Decision", "Who", "By")
    rows = [[Paragraph(name, bold) for name in head]]
    rows += [[Paragraph(words, cell) for words in item] for item in _BRIDGE_ITEMS]
    items = grid(
        rows,
        (12, 30, 96, 84, 24, 18),
        [
            ("GRID", (0, 0), (-1, -1), 0.4, GREY),
            ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#efe4ee")),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ],
    )
    end = (
        "Next meeting: 8 October 2026, 09:00, on site. Corrections to Lise Bakken within five days."
    )
    return [facts, gap(5), items, gap(5), *paragraphs([end], body("Helvetica", 9))]
