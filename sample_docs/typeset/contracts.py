"""Two contracts: an American consulting agreement in clauses, an Irish one on a form."""

from pathlib import Path

from reportlab.lib import colors
from reportlab.lib.enums import TA_CENTER
from reportlab.lib.pagesizes import LETTER
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, KeepTogether, Paragraph
from sheets import GREY, INK, Sheet, body, gap, grid, justified, paragraphs, set_pages, style

NAVY = colors.HexColor("#1f3a68")


def write_contracts(folder: Path) -> None:
    """Writes both into the folder."""
    set_pages(folder / "consulting-agreement-bluefern.pdf", _CONSULTING, _consulting_story())
    set_pages(folder / "cleaning-services-order-2026-118.pdf", _CLEANING, _cleaning_story())


def _consulting_furniture(canvas: Canvas, page: int) -> None:
    canvas.setFont("Times-Roman", 9)
    canvas.setFillColor(GREY)
    canvas.drawString(30 * mm, 15 * mm, "Consulting Agreement: Bluefern / Okafor Hydrology")
    canvas.drawRightString(LETTER[0] - 30 * mm, 15 * mm, f"Page {page}")


_CONSULTING = Sheet(
    title="Consulting Agreement",
    author="Bluefern Orchards Company",
    size=LETTER,
    margins_mm=(30, 26, 30, 26),
    furniture=_consulting_furniture,
)

_RECITALS = (
    "This Consulting Agreement (the “Agreement”) is made effective as of June 1, 2026 (the "
    "“Effective Date”) between <b>Bluefern Orchards Company</b>, an Oregon corporation with its "
    "principal office at 600 Cascade Avenue, Hood River, Oregon 97031 (the “Company”), and "
    "<b>Okafor Hydrology LLC</b>, a Washington limited liability company with its office at 88 "
    "Steuben Street, White Salmon, Washington 98672 (the “Consultant”).",
    "The Company grows pears and cherries on about 410 acres and wishes to plan its use of water "
    "for the next ten years. The Consultant is experienced in agricultural water studies. The "
    "parties therefore agree as follows.",
)

_CLAUSES = (
    (
        "Services",
        "The Consultant will carry out the irrigation water study described in Exhibit A and will "
        "deliver a draft report by September 30, 2026 and a final report by December 15, 2026. The "
        "Consultant may use its own methods and hours, but will visit the orchards at least once a "
        "month during the growing season.",
    ),
    (
        "Fee and expenses",
        "The Company will pay the Consultant a fixed fee of $48,500.00, in four payments: $12,500.00 "
        "on signing, $12,000.00 on August 1, 2026, $12,000.00 on delivery of the draft report, and "
        "$12,000.00 on acceptance of the final report. Reasonable travel expenses are reimbursed at "
        "cost up to $3,200.00 in total. Invoices are payable within 30 days of receipt.",
    ),
    (
        "Term and termination",
        "This Agreement begins on the Effective Date and ends on May 31, 2027 unless ended earlier "
        "under this clause. Either party may end it at any time by giving the other 45 days’ written "
        "notice. Either party may end it at once if the other commits a material breach and does not "
        "cure it within 15 days of written notice. On termination the Company will pay for all work "
        "properly done up to that date.",
    ),
    (
        "Independent contractor",
        "The Consultant is an independent contractor and not an employee, partner or agent of the "
        "Company. The Consultant is responsible for its own taxes, insurance and staff, and will "
        "keep general liability insurance of not less than $1,000,000 per occurrence.",
    ),
    (
        "Confidential information",
        "Each party will keep the other’s confidential information secret, will use it only for the "
        "purposes of this Agreement, and will return or destroy it on request. This duty lasts for "
        "three years after the Agreement ends. It does not apply to information that is or becomes "
        "public through no fault of the receiving party.",
    ),
    (
        "Ownership of results",
        "On payment in full, the reports, maps and measurement data made for the Company under this "
        "Agreement belong to the Company. The Consultant keeps its models, software and general "
        "know-how, and grants the Company a perpetual license to use them as far as they are part of "
        "the reports.",
    ),
    (
        "Warranty and limit of liability",
        "The Consultant will perform the services with the care and skill usual in the profession. "
        "Except for wilful misconduct, neither party’s total liability under this Agreement will "
        "exceed the fixed fee stated in clause 2. Neither party is liable for lost profits.",
    ),
    (
        "Governing law and disputes",
        "This Agreement is governed by the laws of the State of Oregon. The parties will first try "
        "to settle any dispute by mediation in Hood River County; failing that, the state courts of "
        "Hood River County have exclusive jurisdiction.",
    ),
    (
        "General",
        "This Agreement, with Exhibit A, is the whole agreement of the parties on its subject. It can "
        "be changed only in writing signed by both. Neither party may assign it without the other’s "
        "consent. Notices are to be sent to the addresses above by certified mail or by email with "
        "confirmation of receipt. If a provision is invalid, the others remain in force.",
    ),
)

_EXHIBIT = (
    "<b>1.</b> Survey of the seven existing wells and of the Indian Creek diversion, with flow "
    "measurements in June, July and August 2026.",
    "<b>2.</b> A water balance for each of the 23 orchard blocks, for an average year and for a dry "
    "year of the kind seen in 2015 and 2021.",
    "<b>3.</b> A comparison of three measures: lining the east lateral, changing 160 acres from "
    "sprinklers to drip, and a storage pond of 35 acre-feet.",
    "<b>4.</b> A recommendation, with costs in 2026 dollars and a proposed order of work.",
)


def _consulting_story() -> list[Flowable]:
    text = justified("Times-Roman", 10.5)
    heading = style("Times-Bold", 10.5, textColor=INK, spaceBefore=4, spaceAfter=2)
    title = style("Times-Bold", 15, alignment=TA_CENTER, spaceAfter=14)
    story: list[Flowable] = [Paragraph("CONSULTING AGREEMENT", title)]
    story += paragraphs(_RECITALS, text)
    for number, (name, words) in enumerate(_CLAUSES, start=1):
        story.append(
            KeepTogether([Paragraph(f"{number}. {name}", heading), Paragraph(words, text)])
        )
    signed = grid(
        [
            ["BLUEFERN ORCHARDS COMPANY", "OKAFOR HYDROLOGY LLC"],
            ["By: ________________________", "By: ________________________"],
            ["Name: Marjorie L. Tate", "Name: Chidi Okafor"],
            ["Title: President", "Title: Managing Member"],
            ["Date: May 22, 2026", "Date: May 26, 2026"],
        ],
        (78, 78),
        [
            ("FONT", (0, 0), (-1, -1), "Times-Roman", 10.5),
            ("FONT", (0, 0), (-1, 0), "Times-Bold", 10),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("TOPPADDING", (0, 1), (-1, 1), 16),
        ],
    )
    story += [gap(5), KeepTogether([signed]), gap(10)]
    exhibit: list[Flowable] = [Paragraph("EXHIBIT A: SCOPE OF THE STUDY", heading)]
    story.append(KeepTogether([*exhibit, *paragraphs(_EXHIBIT, text)]))
    return story


def _cleaning_furniture(canvas: Canvas, page: int) -> None:
    canvas.setStrokeColor(NAVY)
    canvas.setLineWidth(2)
    canvas.line(18 * mm, 282 * mm, 192 * mm, 282 * mm)
    canvas.setFont("Helvetica", 8)
    canvas.setFillColor(GREY)
    canvas.drawString(
        18 * mm, 285 * mm, "Liffey Bright Facilities Ltd  |  Service contract 2026/118"
    )
    canvas.drawRightString(192 * mm, 285 * mm, f"{page} / 2")


_CLEANING = Sheet(
    title="Service contract 2026/118",
    author="Liffey Bright Facilities Ltd",
    margins_mm=(18, 22, 18, 18),
    furniture=_cleaning_furniture,
)

_KEY_TERMS = (
    ("Contract no.", "2026/118"),
    ("Supplier", "Liffey Bright Facilities Ltd, Unit 9, Ballymount Avenue, Dublin 12"),
    ("Customer", "Corrib Dental Group DAC, 3 Eyre Place, Galway"),
    ("Services", "Daily cleaning of four dental clinics, Monday to Saturday, after 18:30"),
    ("Start date", "1 September 2026"),
    ("End date", "31 August 2028"),
    ("Price", "EUR 6,240.00 a month, excluding VAT at 13.5%"),
    ("Notice", "90 days, in writing, by either party"),
    ("Governing law", "Ireland"),
)

_CONDITIONS = (
    "<b>Staff.</b> The Supplier provides trained, insured and Garda-vetted staff. It replaces a "
    "person within two working days if the Customer has a fair objection.",
    "<b>Materials.</b> Cleaning materials and machines are included in the price. Clinical waste "
    "is not part of the services and stays the Customer’s duty.",
    "<b>Quality.</b> A joint inspection is held on the first Tuesday of each quarter. Where fewer "
    "than 90 of 100 points are reached, the next month’s price is reduced by 5%.",
    "<b>Price review.</b> The price may be changed once a year, on 1 September, by no more than the "
    "change in the Consumer Price Index, on two months’ notice.",
    "<b>Payment.</b> The Supplier invoices on the last working day of the month. Invoices are due in "
    "21 days. Late amounts bear interest under the European Communities (Late Payment) rules.",
    "<b>Liability.</b> The Supplier holds public liability cover of EUR 6.5 million for each event. "
    "Keys and alarm codes are signed for, and the Supplier bears the cost of any loss.",
    "<b>Ending early.</b> Besides ending by notice, either party may end this contract at once if "
    "the other becomes insolvent or repeats a serious breach after a written warning.",
    "<b>Data.</b> Staff do not open patient files or screens. Anything seen by chance is "
    "confidential and this duty does not end with the contract.",
)


def _cleaning_story() -> list[Flowable]:
    text = body("Helvetica", 9.5)
    label, value = style("Helvetica-Bold", 9.5, textColor=NAVY), style("Helvetica", 9.5)
    terms = grid(
        [[Paragraph(name, label), Paragraph(words, value)] for name, words in _KEY_TERMS],
        (38, 136),
        [
            ("LINEBELOW", (0, 0), (-1, -1), 0.4, GREY),
            ("BACKGROUND", (0, 0), (0, -1), colors.HexColor("#eaf0f8")),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("TOPPADDING", (0, 0), (-1, -1), 5),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 5),
        ],
    )
    sites = grid(
        [
            ["Clinic", "Area m²", "Visits a week", "EUR a month"],
            ["Eyre Place", "410", "6", "2,180.00"],
            ["Salthill", "265", "6", "1,490.00"],
            ["Oranmore", "240", "5", "1,270.00"],
            ["Tuam", "255", "5", "1,300.00"],
            ["Together", "1,170", "", "6,240.00"],
        ],
        (62, 34, 38, 40),
        [
            ("FONT", (0, 0), (-1, -1), "Helvetica", 9.5),
            ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 9.5),
            ("FONT", (0, 5), (-1, 5), "Helvetica-Bold", 9.5),
            ("TEXTCOLOR", (0, 0), (-1, 0), colors.white),
            ("BACKGROUND", (0, 0), (-1, 0), NAVY),
            ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
            ("LINEABOVE", (0, 5), (-1, 5), 0.8, NAVY),
        ],
    )
    signed = grid(
        [
            ["For the Supplier", "For the Customer"],
            ["Aoife Brannigan, Operations Director", "Dr Tomás Keaveney, Managing Partner"],
            ["Dublin, 9 July 2026", "Galway, 14 July 2026"],
        ],
        (87, 87),
        [
            ("FONT", (0, 0), (-1, -1), "Helvetica", 9.5),
            ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 9.5),
            ("TOPPADDING", (0, 1), (-1, 1), 26),
            ("LINEABOVE", (0, 2), (-1, 2), 0.4, colors.white),
        ],
    )
    section = style("Helvetica-Bold", 11, textColor=NAVY, spaceBefore=8, spaceAfter=5)
    conditions = [f"{number}. {words}" for number, words in enumerate(_CONDITIONS, start=1)]
    return [
        Paragraph("Service contract", style("Helvetica-Bold", 20, textColor=NAVY, spaceAfter=10)),
        Paragraph("A. Key terms", section),
        terms,
        Paragraph("B. Clinics and prices", section),
        sites,
        Paragraph("C. Conditions", section),
        *paragraphs(conditions, text),
        KeepTogether([Paragraph("D. Signatures", section), signed]),
    ]
