"""Names, dates, sums and the truth about a document: what the gold set's documents are made of.

In: a chance seeded by the document's name. Out: facts and how they are printed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from random import Random
from typing import Any

from reportlab.platypus import Flowable
from sheets import Sheet

FIRST = [
    "Amara",
    "Bram",
    "Celeste",
    "Dmitri",
    "Elin",
    "Farid",
    "Greta",
    "Hugo",
    "Imani",
    "Jonas",
    "Keiko",
    "Lars",
    "Mireille",
    "Nadia",
    "Oscar",
    "Paloma",
    "Quentin",
    "Rosa",
    "Silas",
    "Tamar",
    "Ulrich",
    "Vera",
    "Wanda",
    "Yusuf",
    "Zofia",
    "Agnes",
    "Boris",
    "Clara",
    "Dario",
    "Edith",
]
LAST = [
    "Abbott",
    "Bergström",
    "Castellano",
    "Dorsey",
    "Eckhart",
    "Fontaine",
    "Grimaldi",
    "Halloran",
    "Iwasaki",
    "Jankowski",
    "Kestrel",
    "Lindholm",
    "Moreau",
    "Nakamura",
    "Oduya",
    "Petrov",
    "Quist",
    "Ramires",
    "Sandoval",
    "Thackeray",
    "Ueda",
    "Vance",
    "Whitcombe",
    "Yilmaz",
    "Zeller",
    "Brennan",
    "Colley",
    "Drummond",
    "Esposito",
    "Farrow",
]
STEMS = [
    "Alder",
    "Beacon",
    "Copperfield",
    "Dunmore",
    "Eastgate",
    "Fenwick",
    "Greystone",
    "Hollow",
    "Ironbridge",
    "Juniper",
    "Kingfisher",
    "Larkspur",
    "Marlow",
    "Northwind",
    "Oakhurst",
    "Pembroke",
    "Quarry",
    "Redfern",
    "Saltmarsh",
    "Thornbury",
    "Underhill",
    "Vinehall",
    "Westbrook",
    "Yarrow",
    "Ashgrove",
    "Birchwood",
    "Cobalt",
    "Dovecote",
    "Elmstead",
    "Foxglove",
]
TRADES = [
    "Joinery",
    "Textiles",
    "Roofing",
    "Catering",
    "Printing",
    "Surveying",
    "Ceramics",
    "Instruments",
    "Logistics",
    "Gardens",
    "Optics",
    "Bakeries",
    "Plumbing",
    "Acoustics",
    "Software",
    "Glassworks",
]
FORMS = {
    "en": ["Ltd", "LLP", "plc"],
    "us": ["Inc.", "LLC", "Corporation"],
    "de": ["GmbH", "AG", "KG"],
    "fr": ["SARL", "SA", "SAS"],
}
TOWNS = {
    "en": ["Norwich NR2 4TH", "Leeds LS6 1QD", "Truro TR1 3PA", "Perth PH1 5EN", "Galway H91 K2D"],
    "us": [
        "Dayton, Ohio 45402",
        "Salem, Oregon 97301",
        "Macon, Georgia 31201",
        "Fargo, North Dakota 58102",
    ],
    "de": ["24937 Flensburg", "99084 Erfurt", "8400 Winterthur", "79098 Freiburg"],
    "fr": ["35000 Rennes", "21000 Dijon", "1204 Genève", "44000 Nantes"],
}
STREETS = {
    "en": ["Mill Lane", "Quay Street", "Station Road", "Abbey Walk", "Canal Row"],
    "us": ["Maple Avenue", "Fifth Street", "Railroad Avenue", "Lakeview Drive"],
    "de": ["Lindenstraße", "Am Markt", "Hafenweg", "Schillerstraße"],
    "fr": ["rue des Tilleuls", "quai de la Loire", "avenue Foch", "rue Neuve"],
}
MONTHS = {
    "en": [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    "de": [
        "Januar",
        "Februar",
        "März",
        "April",
        "Mai",
        "Juni",
        "Juli",
        "August",
        "September",
        "Oktober",
        "November",
        "Dezember",
    ],
    "fr": [
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ],
}
SYMBOLS = {"USD": "$", "GBP": "£", "EUR": "€", "CHF": "CHF"}


@dataclass
class Gold:
    """The truth about one document.

    Attributes:
        kind: Its class, and the task for its fields.
        fields: The true values, as JSON has them.
        printed: How each stands in the document; one for each item of a list.
        also: Other values that are right.
        summary: A good summary.
        facts: What a good summary names; each as a list of forms.
    """

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    printed: dict[str, list[str]] = field(default_factory=dict)
    also: dict[str, list[Any]] = field(default_factory=dict)
    summary: str = ""
    facts: list[list[str]] = field(default_factory=list)

    def put(self, name: str, value: Any, printed: str | Sequence[str] = "", *also: Any) -> None:
        """Notes a field; without `printed` it is printed as its value is."""
        self.fields[name] = value
        if value is not None and value != []:
            forms = [printed or str(value)] if isinstance(printed, str) else list(printed)
            self.printed[name] = forms
        if also:
            self.also[name] = list(also)


@dataclass
class Made:
    """One document of the gold set, before it is typeset."""

    name: str
    layout: str
    split: str
    sheet: Sheet
    story: list[Flowable]
    gold: Gold


def person(chance: Random) -> str:
    """A name of two words."""
    return f"{chance.choice(FIRST)} {chance.choice(LAST)}"


def people(chance: Random, count: int) -> list[str]:
    """Different persons."""
    firsts, lasts = chance.sample(FIRST, count), chance.sample(LAST, count)
    return [f"{first} {last}" for first, last in zip(firsts, lasts, strict=True)]


def firms(chance: Random, place: str, count: int = 2) -> list[str]:
    """Different firms of a country."""
    stems, trades = chance.sample(STEMS, count), chance.sample(TRADES, count)
    return [
        f"{stem} {trade} {chance.choice(FORMS[place])}"
        for stem, trade in zip(stems, trades, strict=True)
    ]


def address(chance: Random, place: str) -> tuple[str, str]:
    """Street and town."""
    number, street = chance.randint(2, 240), chance.choice(STREETS[place])
    line = f"{street} {number}" if place == "de" else f"{number} {street}"
    return line, chance.choice(TOWNS[place])


def day(chance: Random, first: int = 2023, last: int = 2027) -> date:
    """A day; never one whose day and month could be swapped unseen."""
    return date(chance.randint(first, last), chance.randint(1, 12), chance.randint(13, 28))


def ordinal(number: int) -> str:
    """1st, 2nd, ..."""
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if 10 < number < 20 else ends.get(number % 10, 'th')}"


def print_date(when: date, form: str) -> str:
    """A date in one of many forms."""
    month = MONTHS["en"][when.month - 1]
    forms = {
        "uk": f"{when.day} {month} {when.year}",
        "us": f"{month} {when.day}, {when.year}",
        "iso": when.isoformat(),
        "slash": f"{when.day:02d}/{when.month:02d}/{when.year}",
        "us-slash": f"{when.month:02d}/{when.day:02d}/{when.year}",
        "dot": f"{when.day:02d}.{when.month:02d}.{when.year}",
        "short": f"{when.day:02d}-{month[:3]}-{when.year}",
        "th": f"{ordinal(when.day)} {month} {when.year}",
        "legal": f"the {ordinal(when.day)} day of {month} {when.year}",
        "de": f"{when.day}. {MONTHS['de'][when.month - 1]} {when.year}",
        "fr": f"{when.day} {MONTHS['fr'][when.month - 1]} {when.year}",
    }
    return forms[form]


def print_number(value: Decimal, place: str) -> str:
    """A sum with two decimals, as a country writes it."""
    text = f"{value:,.2f}"
    if place == "de":
        return text.translate(str.maketrans(",.", ".,"))
    return text.replace(",", " ").replace(".", ",") if place == "fr" else text


def print_money(value: Decimal, currency: str, place: str) -> str:
    """A sum with its currency."""
    number, symbol = print_number(value, place), SYMBOLS[currency]
    if place in {"de", "fr"} or len(symbol) > 1:
        return f"{symbol} {number}" if len(symbol) > 1 else f"{number} {symbol}"
    return f"{symbol}{number}"


def name_forms(name: str) -> list[str]:
    """A name, and its first two words: enough to be named by a summary."""
    return [name, " ".join(name.split()[:2])]
