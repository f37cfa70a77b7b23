"""Letters of the gold set: four layouts, most in English, some in German.

`block` (letterhead) and `typed` are for training, `din` (information block, subject in bold) and
`mail` (a printed e-mail) for the test.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

from gold_facts import Gold, Made, address, day, firms, name_forms, people, print_date
from reportlab.lib.pagesizes import A4, LETTER
from reportlab.platypus import Flowable, Paragraph
from sheets import GREY, INK, Sheet, body, gap, grid, paragraphs, right, style

# Subject, two paragraphs, the words before the date by which an answer is asked for, and the gist.
TOPICS = {
    "en": [
        (
            "Damp in the cellar of the reading room",
            "Since the rain of last month the north wall of the cellar has been wet to a height of half a metre. The shelves have been moved, and no book was lost.",
            "A mason has looked at the wall and thinks that a drain outside is broken. His offer is enclosed.",
            "Please let us know by {by} whether you agree to the repair",
            "damp in the cellar",
        ),
        (
            "Change of the delivery route from next month",
            "From next month our vans will come from the new depot, so that deliveries reach you before nine in the morning instead of after eleven.",
            "Nothing changes in prices or in the people you know. The gate should be open from half past seven.",
            "Kindly confirm by {by} that somebody will be there",
            "deliveries",
        ),
        (
            "Loan of the harbour model for an exhibition",
            "We are preparing an exhibition on the old port and would like to show your model of the harbour from March to June.",
            "Transport and insurance would be at our cost, and a guard is in the room at all hours.",
            "May we hear from you no later than {by}",
            "harbour model",
        ),
        (
            "Missing pages in the audit report",
            "The copy of the report that reached us lacks pages 14 to 19. We have checked both envelopes.",
            "The committee meets soon and can’t approve the accounts without them.",
            "Would you send them so that they are here before {by}",
            "missing pages",
        ),
        (
            "Noise from the ventilation at night",
            "The new fan on your roof runs all night and can be heard in the bedrooms of three families.",
            "A measurement by a neighbour showed 48 decibels at two in the morning, which is more than the permit allows.",
            "Please tell us by {by} what will be done",
            "ventilation",
        ),
        (
            "Volunteers for the orchard day",
            "The orchard day was a success last year: two hundred guests, and forty crates of apples pressed.",
            "This year we need six people for the press and four for the stall with cakes.",
            "If you can help, please reply by {by}",
            "orchard day",
        ),
    ],
    "de": [
        (
            "Angebot für die Reparatur der Turmuhr",
            "wir haben die Turmuhr am vergangenen Dienstag besichtigt. Das Werk ist in gutem Zustand, doch zwei Zahnräder sind verschlissen.",
            "Die Arbeiten dauern etwa drei Tage; ein Gerüst ist nicht nötig.",
            "Bitte antworten Sie uns bis zum {by}",
            "Turmuhr",
        ),
        (
            "Verlegung der Chorprobe in die Aula",
            "der Gemeindesaal wird ab Herbst renoviert. Die Proben finden deshalb in der Aula der Schule statt.",
            "Der Schlüssel liegt beim Hausmeister; die Noten können in den Schränken bleiben.",
            "Bitte bestätigen Sie den Termin bis zum {by}",
            "Chorprobe",
        ),
        (
            "Rückgabe der geliehenen Messgeräte",
            "vor einem Jahr haben wir Ihnen vier Messgeräte geliehen. Für ein neues Projekt brauchen wir sie zurück.",
            "Die Kosten der Versendung tragen wir gern.",
            "Bitte antworten Sie bis zum {by}",
            "Messgeräte",
        ),
    ],
}


@dataclass
class Note:
    """What a letter says."""

    place: str
    sender: str
    firm: str
    recipient: str
    sent: date
    by: date | None
    form: str
    subject: str
    gist: str
    texts: list[str]

    def date(self, when: date) -> str:
        """A date as this letter prints dates."""
        return print_date(when, self.form)


def make_letters() -> list[Made]:
    """All of them, in order."""
    makers = {"block": _block, "typed": _typed, "din": _din, "mail": _mail}
    forms = {
        "block": ["uk", "us", "th", "de"],
        "typed": ["us", "us", "uk", "short"],
        "din": ["de", "dot", "de", "uk"],
        "mail": ["uk", "us", "iso", "dot"],
    }
    topics = {
        "block": [0, 1, 2, 0],
        "typed": [3, 4, 1, 5],
        "din": [1, 2, 0, 3],
        "mail": [4, 5, 2, 2],
    }
    made: list[Made] = []
    for layout, maker in makers.items():
        for number, form in enumerate(forms[layout], start=1):
            chance = Random(f"letter {layout} {number}")
            note = _note(chance, form, topics[layout][number - 1], number)
            sheet, story = maker(note, chance)
            split = "train" if layout in {"block", "typed"} else "test"
            made.append(
                Made(
                    f"letters/{layout}-{number}.pdf",
                    f"letter-{layout}",
                    split,
                    sheet,
                    story,
                    _truth(note),
                )
            )
    return made


def _note(chance: Random, form: str, topic: int, number: int) -> Note:
    lang = "de" if form in {"de", "dot"} else "en"
    place = "us" if form == "us" else lang
    sender, recipient = people(chance, 2)
    subject, first, second, ask, gist = TOPICS[lang][topic]
    sent = day(chance)
    by = None if number == 2 else sent + timedelta(days=chance.choice([21, 28, 35]))
    if by is not None and by.day < 13:
        by = by.replace(day=by.day + 13)
    note = Note(
        place, sender, firms(chance, place, 1)[0], recipient, sent, by, form, subject, gist, []
    )
    end = (
        ask.format(by=note.date(by)) + "."
        if by
        else {"de": "Über Ihre Nachricht freuen wir uns."}.get(
            lang, "We would be glad to hear from you."
        )
    )
    note.texts = [first, second, end]
    return note


def _truth(note: Note) -> Gold:
    gold = Gold("letter")
    gold.put("sender", note.sender, "", note.firm, f"{note.sender}, {note.firm}")
    gold.put("recipient", note.recipient)
    gold.put("letter_date", note.sent.isoformat(), note.date(note.sent))
    gold.put("subject", note.subject)
    gold.put(
        "reply_by", note.by.isoformat() if note.by else None, note.date(note.by) if note.by else ""
    )
    when = print_date(note.sent, "uk")
    gold.summary = (
        f"A letter of {when} from {note.sender} of {note.firm} to {note.recipient} about this: {note.subject}."
        + (f" An answer is asked for by {print_date(note.by, 'uk')}." if note.by else "")
    )
    gold.facts = [
        [note.sender, note.sender.split()[1]],
        [note.recipient, note.recipient.split()[1]],
        [note.gist, note.subject],
        name_forms(note.firm),
    ]
    return gold


def _greeting(note: Note) -> tuple[str, str]:
    if note.place == "de":
        return f"Guten Tag {note.recipient},", "Mit freundlichen Grüßen"
    return f"Dear {note.recipient},", "Yours sincerely,"


def _block(note: Note, chance: Random) -> tuple[Sheet, list[Flowable]]:
    hello, end = _greeting(note)
    look = body("Helvetica", 10.5)
    return Sheet(title=note.subject, author=note.firm), [
        Paragraph(note.firm, style("Helvetica-Bold", 15, textColor=INK)),
        *paragraphs(
            [", ".join(address(chance, note.place))], style("Helvetica", 8.5, textColor=GREY)
        ),
        gap(12),
        *paragraphs(
            [
                f"{note.recipient}\n" + "\n".join(address(chance, note.place)),
                note.date(note.sent),
                f"<b>{note.subject}</b>",
                hello,
                *note.texts,
                end,
            ],
            look,
        ),
        gap(8),
        *paragraphs([note.sender], look),
    ]


def _typed(note: Note, chance: Random) -> tuple[Sheet, list[Flowable]]:
    hello, end = _greeting(note)
    look = style("Courier", 10, 1.25, spaceAfter=10, textColor=INK)
    sheet = Sheet(title="", author=note.sender, size=LETTER, margins_mm=(30, 26, 26, 24))
    return sheet, [
        *paragraphs(
            [
                f"{note.sender}\n{note.firm}\n" + "\n".join(address(chance, note.place)),
                note.date(note.sent),
                f"{note.recipient}\n" + "\n".join(address(chance, note.place)),
                f"RE: {note.subject}",
                hello,
                *note.texts,
                end,
            ],
            look,
        ),
        gap(8),
        *paragraphs([note.sender], look),
    ]


def _din(note: Note, chance: Random) -> tuple[Sheet, list[Flowable]]:
    """An address window on the left, an information block on the right."""
    hello, end = _greeting(note)
    german = note.place == "de"
    small = style("Times-Roman", 9.5, textColor=INK)
    phone = f"0{chance.randint(200, 990)} {chance.randint(10000, 99999)}"
    window = Paragraph(
        f"<font size=7>{note.firm}, {', '.join(address(chance, note.place))}</font><br/>{note.recipient}<br/>"
        + "<br/>".join(address(chance, note.place)),
        small,
    )
    labels = (
        ("Ihr Zeichen", "Bearbeitet von", "Telefon", "Datum")
        if german
        else ("Your reference", "Handled by", "Telephone", "Date")
    )
    values = (
        f"{chance.choice('ABKT')}-{chance.randint(100, 999)}",
        note.sender,
        phone,
        note.date(note.sent),
    )
    info = Paragraph(
        "<br/>".join(f"{label}: {value}" for label, value in zip(labels, values, strict=True)),
        small,
    )
    look = body("Times-Roman", 11)
    return Sheet(title=note.subject, author=note.firm, margins_mm=(25, 30, 20, 22)), [
        grid([[window, info]], (95, 65), [("VALIGN", (0, 0), (-1, -1), "TOP")]),
        gap(14),
        Paragraph(note.subject, style("Times-Bold", 11.5, spaceAfter=8, textColor=INK)),
        *paragraphs([hello, *note.texts, f"{end}\n{note.firm}"], look),
        gap(8),
        *paragraphs([f"{'i. A.' if german else 'pp'} {note.sender}"], look),
    ]


def _mail(note: Note, chance: Random) -> tuple[Sheet, list[Flowable]]:
    hello, _ = _greeting(note)
    host = note.firm.split()[0].lower()

    def box(name: str) -> str:
        return f"{name} &lt;{name.split(maxsplit=1)[0].lower()}@{host}.example&gt;"

    head = [
        ["From:", Paragraph(box(note.sender), style("Helvetica", 9))],
        [
            "Sent:",
            note.date(note.sent) + f" {chance.randint(8, 18):02d}:{chance.randint(0, 59):02d}",
        ],
        ["To:", Paragraph(note.recipient, style("Helvetica", 9))],
        ["Subject:", Paragraph(note.subject, style("Helvetica", 9))],
    ]
    earlier = print_date(note.sent - timedelta(days=4), note.form)
    quoted = f"&gt; On {earlier} {note.recipient} wrote:\n&gt; Is there any news of this? We would like to plan ahead."
    sheet = Sheet(title=note.subject, author=note.sender, size=A4, margins_mm=(20, 18, 20, 18))
    return sheet, [
        *paragraphs([f"{note.recipient} - printed message"], right("Helvetica", 8)),
        grid(
            head,
            (20, 140),
            [
                ("FONT", (0, 0), (0, -1), "Helvetica-Bold", 9),
                ("FONT", (1, 0), (1, -1), "Helvetica", 9),
                ("LINEBELOW", (0, -1), (-1, -1), 0.6, GREY),
            ],
        ),
        gap(5),
        *paragraphs(
            [
                hello,
                *note.texts,
                f"--\n{note.sender}\n{note.firm}\n" + ", ".join(address(chance, note.place)),
            ],
            body("Helvetica", 10),
        ),
        *paragraphs([quoted], style("Helvetica-Oblique", 9, textColor=GREY)),
    ]
