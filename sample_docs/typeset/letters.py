"""Two letters (a council's on letterhead, a tenant's on a typewriter), an email, an old text.

The text in Windows-1252 is what a German word processor of 1998 would have saved.
"""

from pathlib import Path

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4, LETTER
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Paragraph
from sheets import GREY, INK, Sheet, body, gap, paragraphs, set_pages, style

GREEN = colors.HexColor("#2f5d3a")


def write_letters(folder: Path) -> None:
    """Writes the two letters and the email into the folder."""
    set_pages(folder / "wexcombe-council-tree-works.pdf", _COUNCIL, _council_story())
    set_pages(folder / "tenant-repair-request.pdf", _TENANT, _tenant_story())
    (folder / "re-archive-boxes.eml").write_bytes(_EMAIL.replace("\n", "\r\n").encode())


def write_legacy_letter(path: Path) -> None:
    """Writes the German letter in Windows-1252, with that system's line ends."""
    path.write_bytes(_LEGACY.replace("\n", "\r\n").encode("cp1252"))


def _council_furniture(canvas: Canvas, page: int) -> None:
    if page > 1:
        return
    width, height = A4
    canvas.setFillColor(GREEN)
    canvas.circle(32 * mm, height - 27 * mm, 9 * mm, stroke=0, fill=1)
    canvas.setFillColor(colors.white)
    canvas.setFont("Times-BoldItalic", 22)
    canvas.drawCentredString(32 * mm, height - 29.6 * mm, "W")
    canvas.setFillColor(GREEN)
    canvas.setFont("Times-Bold", 19)
    canvas.drawString(46 * mm, height - 26 * mm, "Wexcombe District Council")
    canvas.setFont("Times-Roman", 10)
    canvas.drawString(46 * mm, height - 32 * mm, "Planning and Environment")
    canvas.setFillColor(GREY)
    canvas.setFont("Times-Roman", 9)
    for line, words in enumerate(
        ("Market House, The Square", "Wexcombe WX4 1AA", "Telephone 01632 960 455")
    ):
        canvas.drawRightString(width - 22 * mm, height - (22 + 4.4 * line) * mm, words)


_COUNCIL = Sheet(
    title="Tree works, 12 Mill Lane",
    author="Wexcombe District Council",
    margins_mm=(24, 52, 24, 22),
    furniture=_council_furniture,
)


def _council_story() -> list[Flowable]:
    return paragraphs(
        [
            "Mrs Eleanor Whitlock\n12 Mill Lane\nWexcombe\nWX4 7PL",
            "Our reference: TPO/2026/0093\nDate: 11 February 2026",
            "Dear Mrs Whitlock",
            "<b>Works to a protected beech tree at 12 Mill Lane</b>",
            "Thank you for your application of 19 January 2026 to reduce the crown of the copper "
            "beech in your front garden. The tree is protected by Tree Preservation Order no. 14 of "
            "1987, so the works need the council’s consent.",
            "Our tree officer, Mr Gareth Pugh, visited on 3 February. He found the tree to be healthy, "
            "with a cavity of about 20 cm on the north side at a height of 4 metres that should be "
            "watched. He agrees that the branches over the road need attention, but a reduction by a "
            "third, as you asked, would harm the tree.",
            "I am therefore pleased to give consent for the following: a crown reduction of no more "
            "than 2 metres, the removal of dead wood, and lifting the crown to 5.2 metres over the "
            "carriageway. The work must be done by a qualified arborist to BS 3998:2010, outside the "
            "bird nesting season, and within two years of the date of this letter.",
            "If you wish to object to these conditions, please write to us by 11 March 2026. You may "
            "also appeal to the Planning Inspectorate within 28 days. There is no fee for either.",
            "Please tell us five working days before the work begins, so that Mr Pugh can be present.",
            "Yours sincerely",
            "",
            "<i>H. Lindqvist</i>",
            "Dr Helena Lindqvist\nHead of Planning and Environment",
        ],
        body("Times-Roman", 11),
    )


_TENANT = Sheet(
    title="Repair request",
    author="Marcus T. Ellery",
    size=LETTER,
    margins_mm=(32, 28, 26, 24),
)


def _tenant_story() -> list[Flowable]:
    typed = style("Courier", 10.5, 1.25, spaceAfter=11, textColor=INK)
    return [
        *paragraphs(
            [
                "Marcus T. Ellery\n1419 Pine Street, Apt. 3C\nBoise, Idaho 83702",
                "October 6, 2025",
                "Ms. Joan Petrakis\nGem State Property Services\n200 N. 9th Street\n"
                "Boise, Idaho 83702",
                "VIA CERTIFIED MAIL\nRE: Heating and window repairs, Apt. 3C",
                "Dear Ms. Petrakis:",
                "I have rented the apartment above since August 2022. Since September 14 the baseboard "
                "heater in the bedroom does not work, and the window in the living room no longer "
                "closes. I reported both by telephone on September 15 and September 24. Nobody came.",
                "Nights are already below 40 degrees. Under the lease and Idaho law the apartment must "
                "be kept heated and weatherproof. Please have both repaired within three business days "
                "of receiving this letter, and call me at (208) 555-0139 to arrange a time. I am at "
                "home after 4 p.m.",
                "I have paid the rent of $1,185 for October in full. I bought an electric heater for "
                "$64.97 on September 27; the receipt is enclosed. I ask that this amount be taken off "
                "November's rent.",
                "Thank you for your prompt attention.",
                "Respectfully,",
            ],
            typed,
        ),
        gap(10),
        Paragraph("Marcus T. Ellery", typed),
        Paragraph("Enclosure: receipt", typed),
    ]


_EMAIL = """\
From: Noor Haddad <noor.haddad@stonebridge-archive.example>
To: "Willem de Vries" <w.devries@kanaalmuseum.example>
Cc: reading-room@stonebridge-archive.example
Subject: Re: Loan of 14 archive boxes for the canal exhibition
Date: Thu, 15 Jan 2026 10:42:07 +0000
Message-ID: <20260115104207.4471@stonebridge-archive.example>
In-Reply-To: <c19e02@kanaalmuseum.example>
MIME-Version: 1.0
Content-Type: text/plain; charset="utf-8"
Content-Transfer-Encoding: 8bit

Dear Willem,

Thank you for your patience over the holidays. Our trustees met on Tuesday and are happy to lend
the 14 boxes of the Harland lock-keepers' papers for your exhibition, from 20 April to
2 October 2026.

Three conditions, none of them surprising:

1. Insurance nail to nail for £62,000, with the certificate here by 20 March.
2. Light on the open ledgers at no more than 50 lux, and pages turned every four weeks.
3. Transport by a courier from the approved list. Delacroix & Søn quoted €3,150 last year.

Could you confirm by 30 January, and tell me whom to name as your registrar? I will then send the
loan agreement for signature.

With best wishes,

Noor Haddad
Keeper of Manuscripts
Stonebridge County Archive

On Fri, 19 Dec 2025, Willem de Vries wrote:
> We would still very much like to borrow the lock-keepers' papers. Is there
> news from your trustees?
"""

_LEGACY = """\
Gärtnerei Höfling & Söhne
Mühlgäßchen 8
97070 Würzburg

Frau Jürgensen
Städtisches Krankenhaus, Verwaltung
Königstraße 41
97072 Würzburg

Würzburg, den 23. März 1998

Betreff: Angebot für die Begrünung des Innenhofs

Sehr geehrte Frau Jürgensen,

vielen Dank für das freundliche Gespräch am vergangenen Donnerstag. Für die Begrünung des
Innenhofs bieten wir Ihnen an:

  12 Säulenhainbuchen, Höhe 250 cm, einschließlich Pflanzung     4.380,– DM
  85 m² Rollrasen einschließlich Bodenvorbereitung               1.955,– DM
  3 Holzbänke „Mainfranken“, wetterfest gestrichen               1.140,– DM
  Zwischensumme                                                  7.475,– DM
  zuzüglich 15 % Mehrwertsteuer                                  1.121,25 DM
  Gesamtpreis                                                    8.596,25 DM

Die Arbeiten dauern etwa sechs Tage. Wir könnten am 20. April beginnen, sofern Sie uns bis zum
9. April den Auftrag erteilen. Die Säulenbäume gießen wir im ersten Sommer kostenlos.

Über Ihren Auftrag würden wir uns sehr freuen.

Mit freundlichen Grüßen

Günther Höfling
"""
