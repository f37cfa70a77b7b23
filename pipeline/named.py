"""The names of people and places in a text, by written rules.

In: a text. Out: where the names stand, each once.

- A person is a name after a title ("Dr Helena Lindqvist"), or one that begins with a common first
  name, signs, is greeted or was present; not with a word in it of a street or a body.
- A place is a country, a state or a large city; the town of an address; or the capitalised words
  after "in", "near" or "at", if they are no month, person or body.

Rare first names and small towns are missed where nothing beside them tells what they are.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from pipeline.layout_parts import find_part
from pipeline.listings import find_listed

Span = tuple[int, int]

MOST_CHARS = 200_000
_TITLE = (
    r"(?:Mr|Mrs|Ms|Miss|Dr|Prof|Sir|Dame|Revd?|Capt|Captain|Cllr|Herrn?|Frau|Mme|Monsieur|Madame)"
)
_PART = r"(?:[A-ZÀ-Þ][a-zß-ÿ]+(?:['’-][A-ZÀ-Þ]?[a-zß-ÿ]+)?|[A-ZÀ-Þ]\.)"  # noqa: RUF001
_LAST = rf"(?:(?:de|da|van|von|der|den|la|le|O['’])[ ]?){{0,2}}{_PART}"  # noqa: RUF001
_TITLED = re.compile(
    rf"\b{_TITLE}\.?[ ](?:(?:Dr|Prof)\.?[ ])?(?P<name>{_PART}(?:[ ]{_LAST}){{0,2}})"
)
_FULL = re.compile(rf"(?<![\w.@/-])(?P<name>{_PART}(?:[ ]{_LAST}){{1,2}})(?![\w@])")
_FIRST_NAME_WORDS = """
Aaron Abigail Adam Adrian Agnes Ahmed Alan Albert Alexander Alexandra Alfred Ali Alice Alison
Amanda Amara Amelia Amy Ana Andrea Andreas Andrew Angela Anita Ann Anna Anne Annette Anthony Anton
Antonio Arthur Astrid Barbara Beatrice Beatrix Ben Benjamin Bernard Bernd Bettina Birgit Brian
Bruno Camille Carl Carla Carlos Carmen Caroline Catherine Cecilia Charles Charlotte Chloe Chris
Christian Christina Christine Christoph Christopher Claire Clara Claudia Colin Dale Daniel Daniela
David Deborah Delia Denis Dennis Derek Devika Diana Diane Dieter Dirk Dmitri Dominic Donald
Dorothy Douglas Edith Edward Elaine Eleanor Elena Elin Elisabeth Elizabeth Ellen Emil Emily Emma
Eric Erik Erika Ernst Esther Eugene Eva Eve Evelyn Farid Fatima Felix Florian Frances Francis
Frank Franz Fred Frederick Friedrich Gareth Gary Georg George Gerald Gerhard Gisela Giulia Gloria
Gordon Graham Greg Gregory Greta Guillaume Gwen Günter Günther Hannah Hans Harold Harriet Harry
Heather Heinrich Heinz Helen Helena Helga Henri Henry Herbert Hilda Holger Howard Hugo Ian Ingrid
Irene Isaac Isabel Isabelle Ivan Jack Jacob Jacqueline Jacques James Jan Jane Janet Jason Javier
Jean Jeffrey Jennifer Jessica Jim Joan Joanna Joe Johannes John Jonas Jonathan Jorge Jose Josef
Joseph José Juan Judith Julia Julian Julie Jürgen Karen Karin Karl Katharina Katherine Kathleen
Katrin Keiko Keith Kenneth Kevin Kurt Larry Lars Laura Laurent Lawrence Leah Lena Leo Leon Leonard
Lewis Liam Linda Lisa Lise Lorna Louis Louise Lucas Lucia Lucy Luis Lukas Lydia Manfred Marcel
Marcus Margaret Maria Marian Marie Marion Mark Markus Marta Martha Martin Mary Matthew Matthias
Maurice Max Melissa Michael Michel Michelle Miguel Mohamed Mohammed Monica Monika Nadia Nancy
Natalie Nathan Nicholas Nicola Nicole Nina Nora Norman Olga Oliver Olivia Omar Oscar Otto Owen
Patricia Patrick Paul Paula Pedro Peter Petra Philip Philippe Pierre Priya Rachel Rafael Ralf
Ralph Raymond Rebecca Renate Richard Rita Robert Robin Roger Roland Ronald Rosa Rose Roy Rudolf
Ruth Ryan Sabine Sally Sam Samantha Samira Samuel Sandra Sara Sarah Scott Sean Sebastian Sharon
Silas Simon Sofia Sonia Sophie Stefan Stefanie Stephen Steven Stuart Susan Susanne Sven Sylvia
Tamsin Teresa Theo Theresa Thomas Timothy Tobias Tom Tomasz Ulrich Ulrike Ursula Uwe Valerie Vera
Veronica Victor Victoria Vincent Virginia Walter Wanda Wayne Wendy Werner Willem William Wolfgang
Yusuf Yves Yvonne Zoe
"""
_FIRST_NAMES = frozenset(_FIRST_NAME_WORDS.split())
_NO_PERSON = re.compile(
    r".*\b(?:Street|Road|Avenue|Lane|Drive|Row|Square|Court|House|Hall|Park|Hill|School|College"
    r"|University|Church|Hospital|Bank|Trust|Society|Council|Committee|Company|Group|Agency"
    r"|Institute|Museum|Library|Press|Services?|Works|Partners|Associates|Ltd|Limited|Inc|LLC|LLP"
    r"|GmbH|Act|Agreement|River|Lake|County|City|State|Foundation|Association|Department|Office)"
)
_KNOWN_PLACES = """
Argentina Australia Austria Belgium Brazil Bulgaria Canada Chile China Croatia Cyprus Denmark
Egypt England Estonia Finland France Germany Greece Hungary Iceland India Indonesia Ireland Israel
Italy Japan Kenya Latvia Lithuania Luxembourg Malaysia Malta Mexico Morocco Netherlands Nigeria
Norway Pakistan Poland Portugal Romania Russia Scotland Serbia Singapore Slovakia Slovenia Spain
Sweden Switzerland Thailand Turkey Ukraine Vietnam Wales Deutschland Österreich Schweiz Alabama
Alaska Arizona Arkansas California Colorado Connecticut Delaware Florida Hawaii Idaho Illinois
Indiana Iowa Kansas Kentucky Louisiana Maine Maryland Massachusetts Michigan Minnesota Mississippi
Missouri Montana Nebraska Nevada Ohio Oklahoma Oregon Pennsylvania Tennessee Texas Utah Vermont
Wisconsin Wyoming Amsterdam Athens Barcelona Berlin Birmingham Bordeaux Boston Bristol Brussels
Budapest Cambridge Cardiff Chicago Copenhagen Dublin Edinburgh Frankfurt Geneva Glasgow Hamburg
Helsinki Istanbul Köln Leeds Lisbon Liverpool London Lyon Madrid Manchester Marseille Melbourne
Milan Montreal Moscow München Munich Oslo Oxford Paris Philadelphia Portland Prague Rome Rotterdam
Seattle Stockholm Stuttgart Sydney Tokyo Toronto Vancouver Vienna Warsaw Washington Wien Zurich
Zürich
"""
_TWO_WORDS = """
United States, United Kingdom, New York, New Zealand, New Jersey, New Mexico, New Hampshire, South
Africa, South Korea, North Carolina, South Carolina, North Dakota, South Dakota, West Virginia,
Rhode Island, Northern Ireland, Los Angeles, San Francisco, San Diego, Hong Kong, Saudi Arabia,
Czech Republic
"""
_PLACE = re.compile(
    r"\b(?:"
    + "|".join([*" ".join(_TWO_WORDS.split()).split(", "), *_KNOWN_PLACES.split()])
    + r")\b(?![-’']|[ ](?:Street|Road|Lane))"  # noqa: RUF001
)
_TOWN = re.compile(
    r"(?P<a>[A-Z][a-z]+(?:[ -][A-Z][a-z]+)?)(?=,?[ ](?:[A-Z]{2}[ ]\d{5}\b|[A-Z][a-z]+[ ]\d{5}\b"
    r"|[A-Z]{1,2}\d[\dA-Z]?[ ]\d[A-Z]{2}\b))"
    r"|^\d{4,5}[ ](?P<b>[A-ZÀ-Þ][a-zß-ÿ]+(?:[ -][A-ZÀ-Þ][a-zß-ÿ]+)?)",
    re.MULTILINE,
)
_LED = re.compile(
    r"\b(?:in|near|at)[ ](?P<name>[A-ZÀ-Þ][a-zß-ÿ]{2,}(?:[ -][A-ZÀ-Þ][a-zß-ÿ]+){0,2})(?![\w’'])"  # noqa: RUF001
)
_NO_PLACE = re.compile(
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December|Spring"
    r"|Summer|Autumn|Winter|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday|Article|Section"
    r"|Schedule|Appendix|Annex|Chapter|Part|Table|Figure|Exhibit|Clause|English|German|French|Court"
    r"|Congress|Parliament|Law|God|Unit|The|This|Which|Any|Euro|Python|Windows|Linux|Addition)\b.*"
)
_PRESENT = ("present", "those present", "attendees", "in attendance", "participants", "anwesend")
_NOT_PRESENT = ("apologies", "absent", "regrets", "entschuldigt")
_STREET_BEFORE = re.compile(r"\d[A-Za-z]?,?[ ]$")


@lru_cache(64)
def find_people(text: str) -> tuple[Span, ...]:
    """Where people are named, each once, without titles."""
    found = [match.span("name") for match in _TITLED.finditer(text[:MOST_CHARS])]
    for match in _FULL.finditer(text[:MOST_CHARS]):
        start = match.start("name")
        is_known = match["name"].split()[0] in _FIRST_NAMES
        if is_known and not _STREET_BEFORE.search(text[max(0, start - 4) : start]):
            found.append((start, _end_of_name(match["name"], start)))
    found += [*find_part("@signature", text), *find_part("@greeted", text)]
    found += [
        (start, end)
        for start, end in find_listed(text, _PRESENT, _NOT_PRESENT)
        if _FULL.fullmatch(text, start, end)
    ]
    return _once(text, (span for span in found if not _NO_PERSON.match(text[span[0] : span[1]])))


@lru_cache(64)
def find_places(text: str) -> tuple[Span, ...]:
    """Where cities, countries and other places are named, each once."""
    shown = text[:MOST_CHARS]
    people = {text[start:end] for start, end in find_people(text)}
    found = [match.span() for match in _PLACE.finditer(shown)]
    found += [match.span(match.lastgroup or 0) for match in _TOWN.finditer(shown)]
    for match in _LED.finditer(shown):
        name = match["name"]
        if not _NO_PLACE.match(name) and name not in people and not _NO_PERSON.match(name):
            found.append(match.span("name"))
    return _once(text, [span for span in found if not _NO_PERSON.match(text[span[0] : span[1]])])


def _end_of_name(name: str, start: int) -> int:
    """Where a name ends: before the next one's first name, in a column of signatures."""
    words = name.split()
    if len(words) > 2 and words[2] in _FIRST_NAMES:  # noqa: PLR2004
        return start + len(" ".join(words[:2]))
    return start + len(name)


def _once(text: str, spans: Iterator[Span] | list[Span]) -> tuple[Span, ...]:
    """Each name once, where it stands first; a part of a longer one is none."""
    names: dict[str, Span] = {}
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        name = text[start:end]
        if not any(start >= first and end <= last for first, last in names.values()):
            names.setdefault(name, (start, end))
    longer = " ".join(name for name in names if " " in name).split()
    return tuple(span for name, span in names.items() if " " in name or name not in longer)
