"""Minutes of the gold set: four layouts.

`prose` and `table` are for training, `actions` (each item with its decision, two pages) and
`bulletin` (names one below the other, a box of decisions) for the test.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

from gold_facts import Gold, Made, day, people, print_date
from reportlab.lib.pagesizes import A4, LETTER, landscape
from reportlab.platypus import Flowable, PageBreak, Paragraph
from sheets import GREY, INK, Sheet, body, gap, grid, justified, paragraphs, style

BODIES = {
    "prose": [
        "Parish Council of Little Wendover",
        "Board of Trustees of the Hadley Museum",
        "Allotment Society of Fernhill",
        "School Board of Tamarack County",
    ],
    "table": [
        "Elm Road bridge project group",
        "Steering group for the new archive",
        "Works committee of the Tarn dam",
        "Safety committee of the Kiln Lane plant",
    ],
    "actions": [
        "Finance Committee of the Merrow Hospital Trust",
        "Ferry Users Advisory Group",
        "Housing Association of Castle Quarter",
        "Editorial Board of the Coastal Review",
    ],
    "bulletin": [
        "Chess Club of Upper Haven",
        "Beekeepers Association of the Vale",
        "Committee of the Lowland Choir",
        "Friends of the Lighthouse Society",
    ],
}
# What was talked about, and what was decided.
ITEMS = [
    (
        "Heating",
        "The boiler is twenty-two years old, and the last repair cost more than the two before it.",
        "a new boiler is ordered before the winter",
    ),
    (
        "Website",
        "The site is not readable on telephones, and half of the visitors use one.",
        "the website is rebuilt by a student in the summer",
    ),
    (
        "Parking",
        "Visitors park in front of the gate, so that the fire engine could not pass.",
        "two signs are put up at the gate",
    ),
    (
        "Insurance",
        "The premium rises by a tenth. Two other insurers were asked.",
        "the policy stays with the present insurer for a year",
    ),
    (
        "Summer fair",
        "The field is free on both days, and the band has said yes.",
        "the summer fair is held on the last weekend of June",
    ),
    (
        "Membership fee",
        "The fee has not changed for six years, while costs have.",
        "the fee is raised to 24 a year from January",
    ),
    (
        "Kitchen",
        "The oven heats on one side only, and the floor is worn.",
        "three offers for a new kitchen floor are asked for",
    ),
    (
        "Newsletter",
        "Printing costs have doubled. Most readers would take it by e-mail.",
        "the newsletter is sent by e-mail four times a year",
    ),
    (
        "Trees",
        "A branch of the old lime fell on the path in the storm.",
        "the lime tree is cut back by a qualified gardener",
    ),
    (
        "Accounts",
        "The accounts show a small surplus, and the auditors had no remarks.",
        "the accounts of last year are accepted without changes",
    ),
]

KEYS = (
    "boiler",
    "website",
    "signs",
    "policy",
    "fair",
    "fee",
    "kitchen floor",
    "newsletter",
    "lime tree",
    "accounts",
)


@dataclass
class Meeting:
    """What minutes say."""

    place: str
    body: str
    held: date
    present: list[str]
    absent: list[str]
    items: list[tuple[str, str, str]]
    following: date | None
    form: str

    def date(self, when: date) -> str:
        """A date as these minutes print dates."""
        return print_date(when, self.form)

    @property
    def next_words(self) -> str:
        """The sentence about the next meeting, empty if there is none."""
        return f"The next meeting is on {self.date(self.following)}." if self.following else ""


def make_minutes() -> list[Made]:
    """All of them, in order."""
    makers = {"prose": _prose, "table": _table, "actions": _actions, "bulletin": _bulletin}
    forms = {
        "prose": ["uk", "us", "th", "us"],
        "table": ["uk", "iso", "slash", "short"],
        "actions": ["short", "uk", "dot", "us"],
        "bulletin": ["th", "uk", "iso", "slash"],
    }
    made: list[Made] = []
    for layout, maker in makers.items():
        for number, form in enumerate(forms[layout], start=1):
            chance = Random(f"minutes {layout} {number}")
            meeting = _meeting(chance, form, BODIES[layout][number - 1], number)
            sheet, story = maker(meeting, chance)
            split = "train" if layout in {"prose", "table"} else "test"
            made.append(
                Made(
                    f"minutes/{layout}-{number}.pdf",
                    f"minutes-{layout}",
                    split,
                    sheet,
                    story,
                    _truth(meeting),
                )
            )
    return made


def _meeting(chance: Random, form: str, name: str, number: int) -> Meeting:
    names = people(chance, chance.randint(5, 8))
    held = day(chance)
    following = None if number == 3 else held + timedelta(days=chance.choice([28, 56, 63]))
    if following is not None and following.day < 13:
        following = following.replace(day=following.day + 13)
    absent = names[-1:] if chance.random() < 0.6 else []
    present = names[: len(names) - len(absent)]
    return Meeting(
        "us" if form == "us" else "en",
        name,
        held,
        present,
        absent,
        chance.sample(ITEMS, chance.randint(3, 5)),
        following,
        form,
    )


def _truth(meeting: Meeting) -> Gold:
    gold = Gold("minutes")
    gold.put("body", meeting.body)
    gold.put("meeting_date", meeting.held.isoformat(), meeting.date(meeting.held))
    gold.put("attendees", meeting.present, meeting.present)
    decided = [decision for _, _, decision in meeting.items]
    gold.put("decisions", decided, [text[1:] for text in decided])
    gold.put(
        "next_meeting",
        meeting.following.isoformat() if meeting.following else None,
        meeting.date(meeting.following) if meeting.following else "",
    )
    when = print_date(meeting.held, "uk")
    gold.summary = (
        f"Minutes of the meeting of the {meeting.body} on {when}. It was decided that {', and that '.join(decided[:3])}."
        + (
            f" The next meeting is on {print_date(meeting.following, 'uk')}."
            if meeting.following
            else ""
        )
    )
    gold.facts = [
        [meeting.body, " ".join(meeting.body.split()[-2:])],
        [when, meeting.date(meeting.held), print_date(meeting.held, "us")],
        *([_key(text), text] for text in decided[:3]),
    ]
    return gold


def _key(decision: str) -> str:
    """The word that tells a decision from the others."""
    return next(word for word in KEYS if word in decision)


def _prose(meeting: Meeting, chance: Random) -> tuple[Sheet, list[Flowable]]:
    look = justified("Times-Roman", 11)
    chair = meeting.present[0]
    absent = f" Absent: {', '.join(meeting.absent)}." if meeting.absent else ""
    sheet = Sheet(title="Minutes", author=meeting.body, size=LETTER, margins_mm=(28, 24, 28, 24))
    return sheet, [
        Paragraph(meeting.body, style("Times-Bold", 14, textColor=INK)),
        Paragraph(
            f"Minutes of the meeting held on {meeting.date(meeting.held)}",
            style("Times-Italic", 11, spaceAfter=10, textColor=INK),
        ),
        *paragraphs(
            [
                f"Present: {', '.join(meeting.present[:-1])} and {meeting.present[-1]}.{absent} {chair} took the chair and opened the meeting at {chance.randint(5, 7)} p.m."
            ],
            look,
        ),
        *paragraphs(
            [
                f"<b>{number}. {name}.</b> {text} After some discussion it was agreed that {decision}."
                for number, (name, text, decision) in enumerate(meeting.items, start=1)
            ],
            look,
        ),
        *paragraphs(
            [
                f"{meeting.next_words} The meeting closed at 9:10 p.m.".strip(),
                f"Minutes taken by {meeting.present[1]}",
            ],
            look,
        ),
    ]


def _table(meeting: Meeting, _: Random) -> tuple[Sheet, list[Flowable]]:
    cell = style("Helvetica", 8.5, textColor=INK)
    heads = [
        ["Body", meeting.body],
        ["Date", meeting.date(meeting.held)],
        ["Present", Paragraph(", ".join(meeting.present), cell)],
    ]
    if meeting.absent:
        heads.append(["Apologies", ", ".join(meeting.absent)])
    rows = [["No.", "Subject", "Discussed", "Decision"]] + [
        [str(number), name, Paragraph(text, cell), Paragraph(f"Decided: {decision}.", cell)]
        for number, (name, text, decision) in enumerate(meeting.items, start=1)
    ]
    marks = [
        ("FONT", (0, 0), (-1, -1), "Helvetica", 8.5),
        ("GRID", (0, 0), (-1, -1), 0.4, GREY),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ]
    return Sheet(title="Minutes", author=meeting.body, size=landscape(A4)), [
        Paragraph("Minutes", style("Helvetica-Bold", 16, spaceAfter=6, textColor=INK)),
        grid(heads, (30, 215), marks),
        gap(5),
        grid(rows, (12, 38, 105, 90), marks),
        gap(5),
        *paragraphs(
            [
                f"Next meeting: {meeting.date(meeting.following)}."
                if meeting.following
                else "Further meetings are called when needed."
            ],
            body("Helvetica", 9),
        ),
    ]


def _actions(meeting: Meeting, chance: Random) -> tuple[Sheet, list[Flowable]]:
    """Names with their offices; the second page begins within the items."""
    look, head = (
        body("Helvetica", 10),
        style("Helvetica-Bold", 11, spaceBefore=6, spaceAfter=3, textColor=INK),
    )
    offices = ["Chair", "Treasurer", "Secretary", "Member", "Member", "Member", "Member", "Member"]
    names = "; ".join(
        f"{name} ({office})" for name, office in zip(meeting.present, offices, strict=False)
    )
    middle = len(meeting.items) // 2
    items = [
        (
            Paragraph(f"{number} {name}", head),
            Paragraph(text, look),
            Paragraph(f"Resolved: {decision}.", look),
            Paragraph(f"Action: {chance.choice(meeting.present)}", look),
        )
        for number, (name, text, decision) in enumerate(meeting.items, start=1)
    ]
    first = [part for item in items[:middle] for part in item]
    second = [part for item in items[middle:] for part in item]
    apologies = [f"Apologies: {', '.join(meeting.absent)}"] if meeting.absent else []
    return Sheet(title="Minutes", author=meeting.body), [
        Paragraph(
            f"MINUTES: {meeting.body}", style("Helvetica-Bold", 13, spaceAfter=6, textColor=INK)
        ),
        *paragraphs(
            [
                f"Date of meeting: {meeting.date(meeting.held)}",
                f"In attendance: {names}",
                *apologies,
            ],
            look,
        ),
        *first,
        PageBreak(),
        *second,
        *paragraphs(
            [
                meeting.next_words or "No date was set for another meeting.",
                "Circulated to all who attended.",
            ],
            look,
        ),
    ]


def _bulletin(meeting: Meeting, chance: Random) -> tuple[Sheet, list[Flowable]]:
    look = body("Times-Roman", 10.5)
    offices = ["chair", "clerk", "treasurer", *["member"] * 6]
    names = [[name, office] for name, office in zip(meeting.present, offices, strict=False)]
    sheet = Sheet(title="Minutes", author=meeting.body, margins_mm=(30, 24, 30, 24))
    box = "<br/>".join(f"* {decision}" for _, _, decision in meeting.items)
    story = [
        Paragraph(meeting.body, style("Times-BoldItalic", 16, textColor=INK)),
        *paragraphs(
            [
                f"Notes of our meeting of {meeting.date(meeting.held)}, in the {chance.choice(['old school', 'village hall', 'back room of the inn'])}"
            ],
            look,
        ),
        Paragraph("Who was there", style("Times-Bold", 11.5, spaceAfter=2, textColor=INK)),
        grid(names, (60, 40), [("FONT", (0, 0), (-1, -1), "Times-Roman", 10.5)]),
        gap(3),
        *paragraphs([f"<b>{name}.</b> {text}" for name, text, _ in meeting.items], look),
        Paragraph("What we decided", style("Times-Bold", 11.5, spaceAfter=2, textColor=INK)),
        Paragraph(box, look),
    ]
    if meeting.absent:
        story += paragraphs([f"{meeting.absent[0]} could not come and sends greetings."], look)
    return sheet, [
        *story,
        *paragraphs(
            [
                f"We meet again on {meeting.date(meeting.following)}."
                if meeting.following
                else "We meet again in the autumn."
            ],
            look,
        ),
    ]
