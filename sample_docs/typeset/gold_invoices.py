"""Invoices of the gold set: four layouts, in English, German and French.

`grid` and `letter` are for training, `ledger` (several pages) and `slip` for the test.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from random import Random

from gold_facts import (
    Gold,
    Made,
    address,
    day,
    firms,
    name_forms,
    person,
    print_date,
    print_money,
    print_number,
)
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4, A5, LETTER
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Paragraph
from sheets import GREY, INK, Sheet, body, gap, grid, paragraphs, right, style

GOODS = {
    "en": [
        "Oak shelving, cut to size",
        "Printed cotton banner",
        "Site visit and survey",
        "Replacement pump seal",
        "Translation of the manual",
        "Delivery and unpacking",
        "Hand-thrown stoneware bowl",
        "Calibration of two scales",
        "Gravel, washed, 20 mm",
        "Wall paint, eggshell finish",
        "Training day for staff",
        "LED tube, 1.2 m",
    ],
    "de": [
        "Regalbretter aus Eiche, zugeschnitten",
        "Bedruckte Stoffbahn",
        "Ortstermin und Aufmaß",
        "Dichtung für Umwälzpumpe",
        "Übersetzung der Anleitung",
        "Lieferung und Aufbau",
        "Schale aus Steinzeug",
        "Eichung zweier Waagen",
        "Kies, gewaschen, 20 mm",
        "Wandfarbe, seidenmatt",
    ],
    "fr": [
        "Étagères en chêne, sur mesure",
        "Bannière en coton imprimé",
        "Visite et relevé sur place",
        "Joint de pompe",
        "Traduction du manuel",
        "Livraison et déballage",
        "Bol en grès",
        "Étalonnage de deux balances",
        "Gravier lavé, 20 mm",
        "Peinture murale satinée",
    ],
}
WORDS = {
    "en": {
        "title": "INVOICE",
        "no": "Invoice no.",
        "date": "Invoice date",
        "due": "Payment due",
        "to": "Bill to",
        "what": "Description",
        "qty": "Qty",
        "unit": "Unit price",
        "sum": "Amount",
        "net": "Subtotal",
        "tax": "VAT",
        "total": "Total due",
        "thanks": "Thank you for your order. Please quote the invoice number with your payment.",
    },
    "us": {
        "title": "Invoice",
        "no": "Invoice #",
        "date": "Date",
        "due": "Due date",
        "to": "Sold to",
        "what": "Item",
        "qty": "Quantity",
        "unit": "Price",
        "sum": "Line total",
        "net": "Subtotal",
        "tax": "Sales tax",
        "total": "Amount due",
        "thanks": "Please make checks payable to the company named above.",
    },
    "de": {
        "title": "RECHNUNG",
        "no": "Rechnungsnummer",
        "date": "Rechnungsdatum",
        "due": "Zahlbar bis",
        "to": "Rechnung an",
        "what": "Bezeichnung",
        "qty": "Menge",
        "unit": "Einzelpreis",
        "sum": "Betrag",
        "net": "Nettobetrag",
        "tax": "MwSt.",
        "total": "Gesamtbetrag",
        "thanks": "Wir danken für Ihren Auftrag. Bitte geben Sie die Rechnungsnummer an.",
    },
    "fr": {
        "title": "FACTURE",
        "no": "Facture n°",
        "date": "Date de facture",
        "due": "Échéance",
        "to": "Facturé à",
        "what": "Désignation",
        "qty": "Quantité",
        "unit": "Prix unitaire",
        "sum": "Montant",
        "net": "Total HT",
        "tax": "TVA",
        "total": "Total TTC",
        "thanks": "Merci de votre confiance. Veuillez rappeler le numéro de facture.",
    },
}
DATES = {
    "en": ["uk", "slash", "th", "short"],
    "us": ["us", "us-slash", "short"],
    "de": ["dot", "de"],
    "fr": ["fr", "slash"],
}
MONEY = {"en": ["GBP", "EUR"], "us": ["USD"], "de": ["EUR", "CHF"], "fr": ["EUR", "CHF"]}
RATES = {"en": "20", "us": "7.25", "de": "19", "fr": "20"}


@dataclass
class Bill:
    """What an invoice says."""

    place: str
    number: str
    seller: str
    buyer: str
    issued: date
    due: date | None
    form: str
    currency: str
    rate: Decimal | None
    lines: list[tuple[str, int, Decimal]]

    @property
    def net(self) -> Decimal:
        """Sum of the lines."""
        return sum((count * price for _, count, price in self.lines), Decimal(0))

    @property
    def tax(self) -> Decimal:
        """Tax on it."""
        return (self.net * (self.rate or 0) / 100).quantize(Decimal("0.01"))

    def date(self, when: date) -> str:
        """A date as this invoice prints dates."""
        return print_date(when, self.form)

    def money(self, value: Decimal) -> str:
        """A sum with its currency."""
        return print_money(value, self.currency, self.place)

    def number_of(self, value: Decimal) -> str:
        """A sum without it."""
        return print_number(value, self.place)


def make_invoices() -> list[Made]:
    """All of them, in order."""
    places = {
        "grid": ["en", "us", "de", "en"],
        "letter": ["us", "en", "us", "en"],
        "ledger": ["de", "fr", "en", "us"],
        "slip": ["en", "fr", "us", "de"],
    }
    makers = {"grid": _grid, "letter": _letter, "ledger": _ledger, "slip": _slip}
    made: list[Made] = []
    for layout, maker in makers.items():
        for number, place in enumerate(places[layout], start=1):
            chance = Random(f"invoice {layout} {number}")
            bill = _bill(chance, place, layout, number)
            sheet, story = maker(bill, chance)
            split = "train" if layout in {"grid", "letter"} else "test"
            made.append(
                Made(
                    f"invoices/{layout}-{number}.pdf",
                    f"invoice-{layout}",
                    split,
                    sheet,
                    story,
                    _truth(bill, layout),
                )
            )
    return made


def _bill(chance: Random, place: str, layout: str, number: int) -> Bill:
    seller, buyer = firms(chance, place)
    issued = day(chance)
    counts = {"ledger": (28, 36), "letter": (2, 4)}.get(layout, (3, 6))
    goods = GOODS["en" if place == "us" else place]
    count = chance.randint(*counts)
    names = (
        chance.sample(goods, count)
        if count <= len(goods)
        else [
            f"{chance.choice(goods)}, {chance.choice('ABCDEF')}{serial:02d}"
            for serial in range(1, count + 1)
        ]
    )
    lines = [
        (name, chance.randint(1, 24), Decimal(chance.randint(450, 42000)) / 100) for name in names
    ]
    stem = chance.choice(["INV-{y}-{n:04d}", "{n:05d}", "R{y}/{n:03d}", "{n:04d}-{y}"])
    due = None if number == 3 else issued + timedelta(days=chance.choice([14, 21, 30]))
    if due is not None and due.day < 13:
        due = due.replace(day=due.day + 13)
    rate = None if number == 4 else Decimal(RATES[place])
    return Bill(
        place,
        stem.format(y=issued.year, n=chance.randint(11, 989)),
        seller,
        buyer,
        issued,
        due,
        chance.choice(DATES[place]),
        chance.choice(MONEY[place]),
        rate,
        lines,
    )


def _truth(bill: Bill, layout: str) -> Gold:
    gold = Gold("invoice")
    gold.put("invoice_number", bill.number)
    gold.put("invoice_date", bill.issued.isoformat(), bill.date(bill.issued))
    gold.put(
        "due_date",
        bill.due.isoformat() if bill.due else None,
        bill.date(bill.due) if bill.due else "",
    )
    gold.put("seller", bill.seller)
    gold.put("buyer", bill.buyer)
    symbol = {"USD": "$", "GBP": "£", "EUR": "€", "CHF": "CHF"}[bill.currency]
    gold.put("currency", bill.currency, symbol, *([] if symbol == "CHF" else [symbol]))
    total = bill.net + bill.tax
    gold.put("total", str(total), bill.number_of(total))
    gold.put(
        "tax", str(bill.tax) if bill.rate else None, bill.number_of(bill.tax) if bill.rate else ""
    )
    lines = [
        {"description": name, "quantity": str(count), "amount": str(count * price)}
        for name, count, price in bill.lines
    ]
    if layout != "ledger":
        gold.put("lines", lines, [line["description"] for line in lines])
    when = print_date(bill.issued, "uk")
    gold.summary = (
        f"An invoice from {bill.seller} to {bill.buyer} of {when} for {len(lines)} items. The total to pay is {bill.number_of(total)} {bill.currency}"
        + (f", due by {print_date(bill.due, 'uk')}." if bill.due else ".")
    )
    gold.facts = [
        name_forms(bill.seller),
        name_forms(bill.buyer),
        [bill.number_of(total), str(total), f"{total:,.2f}"],
        [bill.date(bill.issued), when, print_date(bill.issued, "us")],
    ]
    return gold


def _rows(bill: Bill) -> list[list[str]]:
    words = WORDS[bill.place]
    rows = [[words["what"], words["qty"], words["unit"], words["sum"]]]
    return rows + [
        [name, str(count), bill.number_of(price), bill.number_of(count * price)]
        for name, count, price in bill.lines
    ]


def _sums(bill: Bill) -> list[list[str]]:
    words = WORDS[bill.place]
    rows = [[words["net"], bill.money(bill.net)]]
    if bill.rate:
        rows.append([f"{words['tax']} {bill.rate}%", bill.money(bill.tax)])
    return [*rows, [words["total"], bill.money(bill.net + bill.tax)]]


def _heads(bill: Bill) -> list[list[str]]:
    words = WORDS[bill.place]
    rows = [[words["no"], bill.number], [words["date"], bill.date(bill.issued)]]
    return [*rows, [words["due"], bill.date(bill.due)]] if bill.due else rows


def _place_lines(chance: Random, place: str) -> str:
    return "\n".join(address(chance, place))


def _grid(bill: Bill, chance: Random) -> tuple[Sheet, list[Flowable]]:
    words, text = WORDS[bill.place], style("Helvetica", 9, textColor=INK)
    sold = Paragraph(
        f"<b>{words['to']}</b><br/>{bill.buyer}<br/>"
        + _place_lines(chance, bill.place).replace("\n", "<br/>"),
        text,
    )
    lines = [
        ("FONT", (0, 0), (-1, -1), "Helvetica", 9),
        ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 9),
        ("GRID", (0, 0), (-1, -1), 0.4, GREY),
        ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
    ]
    return Sheet(title=f"{words['title']} {bill.number}", author=bill.seller), [
        Paragraph(bill.seller, style("Helvetica-Bold", 16, textColor=INK)),
        *paragraphs([_place_lines(chance, bill.place)], style("Helvetica", 8.5, textColor=GREY)),
        gap(8),
        Paragraph(words["title"], style("Helvetica-Bold", 13, textColor=INK)),
        gap(3),
        grid(
            [[sold, grid(_heads(bill), (36, 36), [("FONT", (0, 0), (-1, -1), "Helvetica", 9)])]],
            (90, 76),
            [("VALIGN", (0, 0), (-1, -1), "TOP")],
        ),
        gap(8),
        grid(_rows(bill), (86, 18, 30, 32), lines),
        gap(3),
        grid(
            _sums(bill),
            (36, 34),
            [
                ("FONT", (0, 0), (-1, -1), "Helvetica", 9),
                ("FONT", (0, -1), (-1, -1), "Helvetica-Bold", 10),
                ("ALIGN", (1, 0), (1, -1), "RIGHT"),
            ],
        ),
        gap(8),
        *paragraphs([words["thanks"]], style("Helvetica", 8.5, textColor=GREY)),
    ]


def _letter(bill: Bill, chance: Random) -> tuple[Sheet, list[Flowable]]:
    words, signer = WORDS[bill.place], person(chance)
    due = (
        f"Payment is due no later than {bill.date(bill.due)}."
        if bill.due
        else "Payment at your convenience will be appreciated."
    )
    rows = [
        [f"{name}, {count} at {bill.money(price)}", bill.money(count * price)]
        for name, count, price in bill.lines
    ]
    marks = [("FONT", (0, 0), (-1, -1), "Times-Roman", 10.5), ("ALIGN", (1, 0), (1, -1), "RIGHT")]
    look = body("Times-Roman", 11)
    sheet = Sheet(
        title=f"Invoice {bill.number}", author=bill.seller, size=LETTER, margins_mm=(28, 24, 28, 24)
    )
    return sheet, [
        Paragraph(bill.seller, style("Times-Bold", 15, textColor=INK)),
        *paragraphs([_place_lines(chance, bill.place)], look),
        *paragraphs([bill.date(bill.issued)], right("Times-Roman", 11)),
        *paragraphs(
            [
                f"{bill.buyer}\n{_place_lines(chance, bill.place)}",
                f"Re: {words['no']} {bill.number}",
                "For the work and goods of the past month we bill as follows:",
            ],
            look,
        ),
        grid([*rows, *_sums(bill)], (110, 40), marks),
        gap(6),
        *paragraphs([due, "Sincerely,", signer], look),
    ]


def _ledger(bill: Bill, chance: Random) -> tuple[Sheet, list[Flowable]]:
    """Two pages or three, a running head, the totals on the last."""
    words = WORDS[bill.place]

    def furniture(canvas: Canvas, page: int) -> None:
        canvas.setFont("Helvetica", 8)
        canvas.setFillColor(GREY)
        canvas.drawString(
            22 * mm, A4[1] - 12 * mm, f"{bill.seller} | {words['title']} {bill.number}"
        )
        canvas.drawRightString(A4[0] - 22 * mm, 10 * mm, f"{page}")

    marks = [
        ("FONT", (0, 0), (-1, -1), "Helvetica", 9),
        ("LINEBELOW", (0, 0), (-1, 0), 1, INK),
        ("ROWBACKGROUNDS", (0, 1), (-1, -1), [colors.white, colors.HexColor("#eef1f4")]),
        ("ALIGN", (2, 0), (-1, -1), "RIGHT"),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 7),
    ]
    rows = [[str(number) if number else "Pos.", *row] for number, row in enumerate(_rows(bill))]
    sheet = Sheet(title=f"{words['title']} {bill.number}", author=bill.seller, furniture=furniture)
    return sheet, [
        grid(
            _heads(bill),
            (45, 50),
            [
                ("FONT", (0, 0), (-1, -1), "Helvetica", 10),
                ("FONT", (0, 0), (0, -1), "Helvetica-Bold", 10),
            ],
        ),
        gap(4),
        *paragraphs(
            [
                f"<b>{bill.seller}</b>, {', '.join(address(chance, bill.place))}",
                f"{words['to']}: <b>{bill.buyer}</b>, {', '.join(address(chance, bill.place))}",
            ],
            body("Helvetica", 10),
        ),
        gap(4),
        grid(rows, (12, 80, 18, 28, 28), marks),
        gap(5),
        *paragraphs(
            [f"{label}: {value}" for label, value in _sums(bill)], right("Helvetica-Bold", 10.5)
        ),
        gap(5),
        *paragraphs([words["thanks"]], body("Helvetica", 9)),
    ]


def _slip(bill: Bill, chance: Random) -> tuple[Sheet, list[Flowable]]:
    """A small slip in typewriter type: labels and values in running lines."""
    words, look = WORDS[bill.place], style("Courier", 8.5, 1.3, textColor=INK)
    head = f"{bill.seller}\n{_place_lines(chance, bill.place)}"
    lines = [
        f"{count} x {name}\n&nbsp;&nbsp;&nbsp;&nbsp;@ {bill.number_of(price)} = {bill.number_of(count * price)}"
        for name, count, price in bill.lines
    ]
    sheet = Sheet(
        title=f"{words['title']} {bill.number}",
        author=bill.seller,
        size=A5,
        margins_mm=(16, 14, 16, 14),
    )
    return sheet, [
        *paragraphs([head], style("Courier-Bold", 9.5, 1.3, textColor=INK)),
        gap(4),
        *paragraphs([f"{label}: {value}" for label, value in _heads(bill)], look),
        *paragraphs([f"{words['to']}: {bill.buyer}", "-" * 48], look),
        *paragraphs(lines, look),
        *paragraphs(["-" * 48, *(f"{label}: {value}" for label, value in _sums(bill))], look),
        gap(4),
        *paragraphs([words["thanks"]], look),
    ]
