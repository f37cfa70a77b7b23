"""Contracts of the gold set: four layouts.

`clauses` (prose) and `form` (a table of key terms) are for training, `lease` (numbered articles,
legal dates, two pages) and `order` (a letter of engagement) for the test.
"""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from random import Random

from gold_facts import (
    Gold,
    Made,
    address,
    day,
    firms,
    name_forms,
    people,
    print_date,
    print_money,
    print_number,
)
from reportlab.lib.pagesizes import A4, LETTER
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, PageBreak, Paragraph
from sheets import GREY, INK, Sheet, body, gap, grid, justified, paragraphs, right, style

THINGS = {
    "clauses": [
        "maintenance of four passenger lifts",
        "translation of technical manuals",
        "supply of seasonal fruit and vegetables",
        "photography for the annual catalogue",
    ],
    "form": [
        "cleaning of two office floors",
        "weekly delivery of laundered linen",
        "inspection of fire extinguishers and hoses",
        "hosting of a booking system",
    ],
    "lease": [
        "lease of a warehouse with a loading bay",
        "lease of the ground floor of a shop",
        "lease of six parking spaces in a garage",
        "lease of a studio with a kitchen",
    ],
    "order": [
        "survey of the timber in a church roof",
        "design of signs for a hospital wing",
        "restoration of twelve stained glass windows",
        "mapping of drains under a railway yard",
    ],
}
LAWS = {
    "en": ["England and Wales", "Ireland", "Scotland"],
    "us": ["the State of Vermont", "the State of Oregon", "the State of Ohio"],
}
EXTRA = (
    "Neither party may assign this agreement without the other’s written consent, which may not be withheld without reason.",
    "Each party keeps the other’s confidential information secret for three years after the end of this agreement.",
    "A change is valid only if it is made in writing and signed by both parties.",
    "Neither party answers for a delay that is caused by fire, flood, strike or an act of government.",
    "If a provision is found to be invalid, the others stay in force.",
    "Notices are sent by registered post to the addresses given above and count as received on the third day.",
    "Each party bears its own costs in preparing this agreement.",
    "The Provider holds liability insurance of not less than 2 million for each event and shows the certificate when asked.",
)


@dataclass
class Deal:
    """What a contract says."""

    place: str
    thing: str
    first: str
    second: str
    starts: date
    ends: date | None
    form: str
    amount: Decimal
    currency: str
    notice: int | None
    law: str | None

    def date(self, when: date) -> str:
        """A date as this contract prints dates."""
        return print_date(when, self.form)

    @property
    def price(self) -> str:
        """The sum with its currency."""
        return print_money(self.amount, self.currency, self.place)

    @property
    def law_name(self) -> str:
        """The law without an article."""
        return (self.law or "").removeprefix("the ")


def make_contracts() -> list[Made]:
    """All of them, in order."""
    makers = {"clauses": _clauses, "form": _form, "lease": _lease, "order": _order}
    forms = {
        "clauses": ["uk", "us", "th", "us"],
        "form": ["uk", "slash", "iso", "short"],
        "lease": ["legal", "legal", "th", "legal"],
        "order": ["us", "uk", "iso", "short"],
    }
    made: list[Made] = []
    for layout, maker in makers.items():
        for number, form in enumerate(forms[layout], start=1):
            chance = Random(f"contract {layout} {number}")
            deal = _deal(chance, form, THINGS[layout][number - 1], number)
            sheet, story = maker(deal, chance)
            split = "train" if layout in {"clauses", "form"} else "test"
            made.append(
                Made(
                    f"contracts/{layout}-{number}.pdf",
                    f"contract-{layout}",
                    split,
                    sheet,
                    story,
                    _truth(deal),
                )
            )
    return made


def _deal(chance: Random, form: str, thing: str, number: int) -> Deal:
    place = "us" if form == "us" or (form == "legal" and chance.random() < 0.6) else "en"
    first, second = firms(chance, place)
    starts = day(chance)
    ends = None if number == 2 else day(chance, starts.year + 1, starts.year + 4)
    notice = None if number == 3 else chance.choice([30, 45, 60, 75, 90])
    law = None if number == 4 else chance.choice(LAWS[place])
    amount = Decimal(chance.randint(400, 42000)) * chance.choice([1, 5])
    currency = "USD" if place == "us" else chance.choice(["GBP", "EUR"])
    return Deal(place, thing, first, second, starts, ends, form, amount, currency, notice, law)


def _truth(deal: Deal) -> Gold:
    gold = Gold("contract")
    gold.put("subject", deal.thing, deal.thing[1:])
    gold.put("parties", [deal.first, deal.second], [deal.first, deal.second])
    gold.put("effective_date", deal.starts.isoformat(), deal.date(deal.starts))
    gold.put(
        "end_date",
        deal.ends.isoformat() if deal.ends else None,
        deal.date(deal.ends) if deal.ends else "",
    )
    gold.put("amount", str(deal.amount), print_number(deal.amount, deal.place))
    symbol = {"USD": "$", "GBP": "£", "EUR": "€"}[deal.currency]
    gold.put("currency", deal.currency, symbol, symbol)
    gold.put("notice_days", deal.notice, f"{deal.notice} days")
    gold.put(
        "governing_law",
        deal.law_name or None,
        deal.law_name,
        *([f"the {deal.law_name}", f"laws of {deal.law}"] if deal.law else []),
    )
    when = print_date(deal.starts, "uk")
    gold.summary = (
        f"A contract between {deal.first} and {deal.second} on the {deal.thing}, from {when}"
        + (f" to {print_date(deal.ends, 'uk')}. " if deal.ends else ". ")
        + f"The price is {print_number(deal.amount, deal.place)} {deal.currency}"
        + (f", and it can be ended with {deal.notice} days of notice." if deal.notice else ".")
    )
    words = deal.thing.split()
    gold.facts = [
        name_forms(deal.first),
        name_forms(deal.second),
        [deal.thing, " ".join(words[-2:])],
        [print_number(deal.amount, deal.place), f"{deal.amount:,}", str(deal.amount)],
        [when, deal.date(deal.starts), print_date(deal.starts, "us")],
    ]
    return gold


def _cap(text: str) -> str:
    return text[0].upper() + text[1:]


def _ending(deal: Deal) -> str:
    ends = (
        f"This agreement ends on {deal.date(deal.ends)} unless it is renewed in writing."
        if deal.ends
        else "This agreement has no fixed end."
    )
    notice = (
        f" Either party may end it earlier by giving the other {deal.notice} days of written notice."
        if deal.notice
        else " It may be ended at once for a serious breach only."
    )
    return ends + notice


def _law(deal: Deal) -> str:
    return (
        f"This agreement is governed by the laws of {deal.law}."
        if deal.law
        else "Disputes are put before a mediator first."
    )


def _signatures(deal: Deal, chance: Random) -> list[list[str]]:
    one, two = people(chance, 2)
    return [
        [f"For {deal.first}", f"For {deal.second}"],
        ["", ""],
        [one, two],
        ["Director", "Managing partner"],
    ]


def _clauses(deal: Deal, chance: Random) -> tuple[Sheet, list[Flowable]]:
    look, head = (
        justified("Times-Roman", 11),
        style("Times-Bold", 11, spaceBefore=4, spaceAfter=2, textColor=INK),
    )
    extra = chance.sample(EXTRA, 4)
    clauses = [
        (
            "Services",
            f"The Provider will carry out the {deal.thing} as described in the annex, with due care and by its own trained staff.",
        ),
        (
            "Price",
            f"The Client will pay the Provider a fee of {deal.price}, without tax, within 21 days of each invoice. Expenses are included in the fee.",
        ),
        ("Term", _ending(deal)),
        ("General", " ".join(extra)),
        ("Law", _law(deal)),
    ]
    sheet = Sheet(title="Agreement", author=deal.first, size=LETTER, margins_mm=(30, 26, 30, 26))
    return sheet, [
        Paragraph("SERVICE AGREEMENT", style("Times-Bold", 15, spaceAfter=10, textColor=INK)),
        *paragraphs(
            [
                f"This Agreement is made effective as of {deal.date(deal.starts)} between <b>{deal.first}</b>, of {', '.join(address(chance, deal.place))} (the “Provider”), and <b>{deal.second}</b>, of {', '.join(address(chance, deal.place))} (the “Client”)."
            ],
            look,
        ),
        *(
            part
            for number, (name, text) in enumerate(clauses, start=1)
            for part in (Paragraph(f"{number}. {name}", head), Paragraph(text, look))
        ),
        gap(10),
        grid(
            _signatures(deal, chance), (78, 78), [("FONT", (0, 0), (-1, -1), "Times-Roman", 10.5)]
        ),
    ]


def _form(deal: Deal, chance: Random) -> tuple[Sheet, list[Flowable]]:
    rows = [
        ["Supplier", deal.first],
        ["Customer", deal.second],
        ["Services", _cap(deal.thing)],
        ["Start date", deal.date(deal.starts)],
        ["End date", deal.date(deal.ends) if deal.ends else "none, runs on"],
        ["Price", f"{deal.price} a quarter"],
        [
            "Notice",
            f"{deal.notice} days, in writing, by either party"
            if deal.notice
            else "for serious breach only",
        ],
    ]
    if deal.law:
        rows.append(["Governing law", deal.law_name])
    marks = [
        ("FONT", (0, 0), (-1, -1), "Helvetica", 9.5),
        ("FONT", (0, 0), (0, -1), "Helvetica-Bold", 9.5),
        ("GRID", (0, 0), (-1, -1), 0.4, GREY),
    ]
    look = body("Helvetica", 9)
    return Sheet(title="Service contract", author=deal.first), [
        Paragraph("Service contract", style("Helvetica-Bold", 17, textColor=INK)),
        gap(5),
        Paragraph("A. Key terms", style("Helvetica-Bold", 11, spaceAfter=4, textColor=INK)),
        grid(rows, (40, 120), marks),
        gap(6),
        Paragraph("B. Conditions", style("Helvetica-Bold", 11, spaceAfter=4, textColor=INK)),
        *paragraphs(
            [f"{number}. {text}" for number, text in enumerate(chance.sample(EXTRA, 5), start=1)],
            look,
        ),
        gap(6),
        grid(_signatures(deal, chance), (80, 80), [("FONT", (0, 0), (-1, -1), "Helvetica", 9)]),
    ]


def _lease(deal: Deal, chance: Random) -> tuple[Sheet, list[Flowable]]:
    """Articles, the rent on the second page."""

    def furniture(canvas: Canvas, page: int) -> None:
        canvas.setFont("Helvetica-Oblique", 8)
        canvas.setFillColor(GREY)
        canvas.drawCentredString(
            A4[0] / 2, 12 * mm, f"{deal.first} / {deal.second}: lease, page {page}"
        )

    look, head = (
        body("Helvetica", 10),
        style("Helvetica-Bold", 10, spaceBefore=5, spaceAfter=2, textColor=INK),
    )
    term = f"The term begins on {deal.date(deal.starts)}" + (
        f" and ends on {deal.date(deal.ends)}." if deal.ends else " and runs from year to year."
    )
    notice = (
        f"The Tenant may give up the premises at any time by {deal.notice} days’ notice, that is, {deal.notice} days from the day on which the Landlord receives it."
        if deal.notice
        else "The Tenant may not give up the premises before the end of the term."
    )
    sheet = Sheet(title="Lease", author=deal.first, furniture=furniture)
    extra = chance.sample(EXTRA, 6)
    return sheet, [
        Paragraph("LEASE", style("Helvetica-Bold", 18, textColor=INK)),
        gap(4),
        *paragraphs(
            [
                f"LANDLORD: {deal.first}, {', '.join(address(chance, deal.place))}",
                f"TENANT: {deal.second}, {', '.join(address(chance, deal.place))}",
                f"The Landlord and the Tenant hereby agree on the {deal.thing}, as marked on the plan that both have signed.",
            ],
            look,
        ),
        Paragraph("Article I. Term", head),
        Paragraph(term, look),
        Paragraph("Article II. Use", head),
        Paragraph(
            "The premises are used for the Tenant’s business and for nothing else. "
            + " ".join(extra[:3]),
            look,
        ),
        Paragraph("Article III. Repairs", head),
        Paragraph(
            "The Landlord keeps roof, walls and pipes in good order; the Tenant keeps all else so, and gives the keys back on the last day.",
            look,
        ),
        PageBreak(),
        Paragraph("Article IV. Rent", head),
        Paragraph(
            f"The Tenant shall pay a rent of {deal.price} on the first working day of every month, without deduction.",
            look,
        ),
        Paragraph("Article V. Leaving", head),
        Paragraph(notice, look),
        Paragraph("Article VI. Other terms", head),
        Paragraph(
            " ".join(extra[3:])
            + (f" This Lease shall be construed under the law of {deal.law}." if deal.law else ""),
            look,
        ),
        gap(12),
        grid(_signatures(deal, chance), (80, 80), [("FONT", (0, 0), (-1, -1), "Helvetica", 10)]),
    ]


def _order(deal: Deal, chance: Random) -> tuple[Sheet, list[Flowable]]:
    one, two = people(chance, 2)
    look = body("Times-Roman", 11)
    sheet = Sheet(
        title="Letter of engagement",
        author=deal.first,
        size=LETTER if deal.place == "us" else A4,
        margins_mm=(28, 26, 28, 24),
    )
    points = [
        f"<b>What we do.</b> {_cap(deal.thing)}, from {deal.date(deal.starts)}"
        + (f" until {deal.date(deal.ends)}." if deal.ends else " until the work is finished."),
        f"<b>What it costs.</b> {deal.price} in all, half of it at the beginning and half at the end. Tax comes on top.",
        f"<b>Stopping.</b> Each of us can stop this engagement {deal.notice} days after telling the other so in writing."
        if deal.notice
        else "<b>Stopping.</b> We see the work through to its end together.",
        "<b>Other matters.</b> " + " ".join(chance.sample(EXTRA, 3)),
    ]
    if deal.law:
        points.append(f"<b>Law.</b> The law of {deal.law} applies to this engagement.")
    return sheet, [
        *paragraphs(
            [f"{deal.first}\n" + "\n".join(address(chance, deal.place))], right("Times-Roman", 10.5)
        ),
        *paragraphs([f"{deal.second}\n" + "\n".join(address(chance, deal.place))], look),
        Paragraph("Engagement and terms", style("Times-Bold", 13, spaceAfter=6, textColor=INK)),
        *paragraphs(
            [f"This letter, once countersigned by {deal.second}, is the contract between us."], look
        ),
        *paragraphs(
            [f"({letter}) {text}" for letter, text in zip("abcde", points, strict=False)], look
        ),
        *paragraphs([f"For {deal.first}:\n{one}", f"Agreed for {deal.second}:\n{two}"], look),
    ]
