"""Two invoices: a British one with a grid and VAT, an American one set like a letter."""

from pathlib import Path

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4, LETTER
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Paragraph
from sheets import GREY, INK, Sheet, body, gap, grid, paragraphs, right, set_pages, style

TEAL = colors.HexColor("#0b5d66")


def write_invoices(folder: Path) -> None:
    """Writes both into the folder."""
    set_pages(folder / "harbour-print-INV-2026-0417.pdf", _HARBOUR, _harbour_story())
    set_pages(folder / "lakeside-electric-10482.pdf", _LAKESIDE, _lakeside_story())


def _harbour_furniture(canvas: Canvas, _page: int) -> None:
    width, height = A4
    canvas.setFillColor(TEAL)
    canvas.rect(0, height - 34 * mm, width, 34 * mm, stroke=0, fill=1)
    canvas.setFillColor(colors.white)
    canvas.setFont("Helvetica-Bold", 19)
    canvas.drawString(20 * mm, height - 18 * mm, "Harbour Street Print Works Ltd")
    canvas.setFont("Helvetica", 9)
    canvas.drawString(
        20 * mm,
        height - 25 * mm,
        "41 Harbour Street, Bristol BS1 5QD  ·  accounts@harbourprint.example",
    )
    canvas.setFont("Helvetica-Bold", 22)
    canvas.drawRightString(width - 20 * mm, height - 19 * mm, "INVOICE")
    canvas.setFillColor(GREY)
    canvas.setFont("Helvetica", 7.5)
    canvas.drawCentredString(
        width / 2,
        12 * mm,
        "Registered in England and Wales no. 09941278  ·  VAT registration GB 318 4427 09",
    )


_HARBOUR = Sheet(
    title="Invoice INV-2026-0417",
    author="Harbour Street Print Works Ltd",
    margins_mm=(20, 44, 20, 20),
    furniture=_harbour_furniture,
)

_HARBOUR_LINES = (
    ("Business cards, 400 gsm uncoated, 2 colours", "1,500", "0.09", "20%", "135.00"),
    ("A1 presentation boards, foam-mounted", "12", "38.50", "20%", "462.00"),
    ("Planning brochure, 24 pp, perfect bound", "250", "3.64", "0%", "910.00"),
    ("Courier to site office, 2 deliveries", "2", "14.00", "20%", "28.00"),
)


def _harbour_story() -> list[Flowable]:
    small, label = style("Helvetica", 9, textColor=INK), style("Helvetica", 8, textColor=GREY)
    facts = grid(
        [
            [Paragraph("BILL TO", label), Paragraph("DETAILS", label), ""],
            [
                Paragraph(
                    "<b>Tamsin &amp; Grey Architects LLP</b><br/>Attn. Accounts Payable<br/>"
                    "7 Orchard Row<br/>Bath BA1 2LN",
                    small,
                ),
                Paragraph("Invoice number<br/>Invoice date<br/>Your order<br/>Payment due", small),
                Paragraph(
                    "<b>INV-2026-0417</b><br/>17 April 2026<br/>PO-TG-2291<br/>17 May 2026", small
                ),
            ],
        ],
        (90, 35, 45),
        [("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)],
    )
    head = ("Description", "Quantity", "Unit price £", "VAT", "Amount £")
    number = right("Helvetica", 9)
    rows: list[list[object]] = [list(head)]
    rows += [
        [Paragraph(line[0], small), *(Paragraph(cell, number) for cell in line[1:])]
        for line in _HARBOUR_LINES
    ]
    lines = grid(
        rows,
        (78, 20, 26, 16, 30),
        [
            ("GRID", (0, 0), (-1, -1), 0.5, GREY),
            ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#d8e8ea")),
            ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 9),
            ("ALIGN", (1, 0), (-1, 0), "RIGHT"),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ],
    )
    totals = grid(
        [
            ["", "Subtotal", "£1,535.00"],
            ["", "VAT 20% on £625.00", "£125.00"],
            ["", "VAT 0% on £910.00", "£0.00"],
            ["", "Total due", "£1,660.00"],
        ],
        (90, 50, 30),
        [
            ("FONT", (0, 0), (-1, -1), "Helvetica", 9),
            ("FONT", (1, 3), (-1, 3), "Helvetica-Bold", 11),
            ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
            ("LINEABOVE", (1, 3), (-1, 3), 1, TEAL),
        ],
    )
    notes = paragraphs(
        [
            "<b>How to pay.</b> Please pay within 30 days by bank transfer to Harbour Street Print "
            "Works Ltd, sort code 00-99-17, account 01234567, quoting INV-2026-0417.",
            "Printed books and brochures are zero-rated for VAT. Goods remain our property until "
            "paid in full. Queries: Priya Nandakumar, 0117 496 0142.",
        ],
        body("Helvetica", 8.5),
    )
    return [facts, gap(8), lines, gap(3), totals, gap(14), *notes]


_LAKESIDE = Sheet(
    title="Invoice 10482",
    author="Lakeside Electric & Controls, Inc.",
    size=LETTER,
    margins_mm=(28, 25, 28, 22),
)


def _lakeside_story() -> list[Flowable]:
    text, bold = body("Times-Roman", 11), style("Times-Bold", 15, textColor=INK)
    head = [
        Paragraph("Lakeside Electric &amp; Controls, Inc.", bold),
        Paragraph(
            "2280 Dock Road, Suite 4, Duluth, Minnesota 55802<br/>Licensed electrical contractor "
            "EA-00713, telephone (218) 555-0164",
            style("Times-Italic", 10, textColor=GREY),
        ),
        gap(10),
    ]
    opening = paragraphs(
        [
            "March 3, 2026",
            "Northshore Cold Storage Cooperative\nAttention: Mr. Dale Hendricks, Plant Manager\n"
            "915 Railroad Avenue\nTwo Harbors, Minnesota 55616",
            "<b>Re: Invoice No. 10482, compressor room rewiring, job 26-031</b>",
            "Dear Mr. Hendricks:",
            "Thank you for your business. The work in compressor room B was finished on February 26 "
            "and passed the state inspection the next day. For this work we bill as follows:",
        ],
        text,
    )
    charges = grid(
        [
            ["Labor, two journeymen, 46 hours at $98.00", "$4,508.00"],
            ["Labor, apprentice, 22 hours at $54.00", "$1,188.00"],
            ["Materials (conduit, 3-phase disconnects, panel LP-7)", "$3,276.40"],
            ["State inspection fee, at cost", "$145.00"],
            ["Minnesota sales tax on materials, 6.875%", "$225.25"],
            ["Less deposit received January 29, 2026", "($2,000.00)"],
            ["Balance due", "$7,342.65"],
        ],
        (112, 38),
        [
            ("FONT", (0, 0), (-1, -1), "Times-Roman", 11),
            ("FONT", (0, 6), (-1, 6), "Times-Bold", 11),
            ("ALIGN", (1, 0), (1, -1), "RIGHT"),
            ("LINEABOVE", (1, 6), (1, 6), 0.7, INK),
        ],
    )
    closing = paragraphs(
        [
            "Terms are net 30 days, so payment is due no later than April 2, 2026. A finance charge "
            "of 1.5% per month applies to past due balances. Please make your check payable to "
            "Lakeside Electric &amp; Controls, Inc. and write the invoice number on it.",
            "If anything about this bill is unclear, please call me before you pay it.",
            "Sincerely,",
        ],
        text,
    )
    name = paragraphs(["Ruth Aune\nOffice Manager"], text)
    return [*head, *opening, charges, gap(6), *closing, gap(12), *name]
