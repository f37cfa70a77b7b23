"""Who makes a contract: the names in its opening, beside the parties' roles, or at its signatures.

In: a text. Out: the places of the names. Tried in this order, until there are two:

1. After "between" (or the heading "Parties") and the "and" that follow it, up to the first clause;
   before what they are called from then on ('(the "Supplier")').
2. Beside a role: "Landlord: ...", "Party A: ...", a line "Customer" with the name below.
3. After "for" or "on behalf of" where it is signed.
4. The letterhead and the addressee, of an agreement in the form of a letter.
"""

import re
from collections.abc import Iterator

from pipeline.company_names import BRACKETED, FORM, OVER
from pipeline.layout_parts import find_part

Span = tuple[int, int]

OPENING_CHARS = 3000
_REGION_CHARS = 900
_ENOUGH = 2

_ROLE = (
    "Landlord|Tenant|Lessor|Lessee|Supplier|Customer|Client|Provider|Contractor|Consultant|Company"
    "|Employer|Employee|Buyer|Seller|Purchaser|Vendor|Licensor|Licensee|Lender|Borrower|Owner|Agent"
    "|Principal|Guarantor|Service Provider|Party|Party [AB12]|First Party|Second Party|Auftraggeber"
    "|Auftragnehmer|Vermieter|Mieter|Verkäufer|Käufer|Arbeitgeber|Arbeitnehmer|Bailleur|Locataire"
    "|Prestataire|Vendeur|Acheteur"
)
_WORD = r"(?:[A-ZÀ-Þ](?:[\w&'’/-]|\.(?=\w)){0,40}\.?|&)"  # noqa: RUF001
_JOINED = r"(?:(?:of|de|da|la|le|du|van|von|der|den|für|zu)[ ])?"
_NAME = rf"{_WORD}(?:{OVER}(?:{FORM}|[ ]{_JOINED}{_WORD}|{BRACKETED})){{0,9}}"
_BROKEN_NAME = _NAME.replace(f"[ ]{_JOINED}", rf"[ \n]{_JOINED}")  # in text, over a line's end
_BETWEEN = re.compile(
    r"\b(?i:between|zwischen|entre)\b|\bBY AND BETWEEN\b"
    r"|^[ ]*(?:THE[ ])?(?:PARTIES|Parties)[ ]*:?[ ]*$",
    re.MULTILINE,
)
_FIRST_CLAUSE = re.compile(
    r"\n[ ]*(?:1\b|§|I\.|Article|ARTICLE|Section|WHEREAS|RECITALS?|Background|BACKGROUND|A\.[ ])"
    r"|\b(?i:the parties|it is agreed|agree as follows|wird folgend|es wird|il est convenu)\b"
)
_LED = re.compile(
    r"(?:(?i:\bbetween|\band|\bzwischen|\bund|\bentre|\bet)[ :\n]+|\([1-4ab]\)[ \n]+)"
    r"(?:(?:the|der|die|dem|den|la|le|the firm of|der Firma)[ \n])?"
    rf"(?P<name>{_BROKEN_NAME})"
    r"(?=[ ]*(?:[,;(\n“\"]|[ ](?:of|whose|a|an|located|having|and|und|et|with)\b"
    r"|[-–]|\.|$))",  # noqa: RUF001
    re.MULTILINE,
)
_BY_ROLE = re.compile(
    rf"^[ ]*(?:\d+[.)][ ])?(?:The[ ])?(?i:{_ROLE})(?:[ ]?\([^)\n]*\))?"
    r"(?:[ ]*[:.–-][ ]*\n?[ ]*|[ ]*\n[ ]*|[ ])"  # noqa: RUF001
    rf"(?P<name>{_NAME})(?:[ ](?:and|und|et)[ ](?P<other>{_NAME}))?"
    r"(?=[ ]*(?:[,;(\n]|$|[ ](?:of|a|trading)\b|[ ]+[A-Z]+:))",
    re.MULTILINE,
)
_CALLED = re.compile(
    r"\((?:hereinafter|hereafter|referred to as|each|together|collectively|the|,|[ ])*"
    r"[\"“„](?:the[ ])?(?P<as>[^\"”“\n]{2,40})[\"”“]\)"
)
_NO_PARTY = re.compile(
    r"(?i:.*(?:agreement|contract|date|term|purpose|premises|property|services?|goods|work|fees?"
    r"|deposit|parties|lease|rent|act|products?|software|territory|confidential information).*)"
)
_BEFORE_CALLED = 260
_BEGUN = re.compile(
    r"(?:\b(?:by|between|and|with|und|et)[ \n]+|\([1-4ab]\)[ \n]+|^[ ]*)(?:the[ ])?"
    rf"(?P<name>{_BROKEN_NAME})"
    r"(?=[ ]*(?:[,;(\n]|[ ](?:of|whose|a|an|with)\b))",
    re.MULTILINE,
)
_SIGNED = re.compile(
    r"(?:^|[ ])(?:For and on behalf of|On behalf of|Signed for|Agreed for|Accepted for|I accept:"
    r"|Accepted by:?|Agreed by:?|For|Für|for)[ ]"
    rf"(?:the[ ])?(?P<name>{_NAME})(?=[ ]*(?:\n|:|$|,|[ ](?:For|for|Für)[ ]))",
    re.MULTILINE,
)
_SENTENCE_END = re.compile(r"\w{4}\.$")
_OF_PLACE = re.compile(r"(\S+\s\S+(?:\s\S+)*?)\sof\s")
_FORM = re.compile(r"\b(?:plc|Ltd|Limited|LLP|LLC|Inc|GmbH)\b\.?$")
_NO_NAME = re.compile(
    rf"(?i:(?:the )?(?:{_ROLE}|both|each|either|whereas|this .*|agreement|contract|law|laws|date"
    r"|address|signed|agreed terms|name|title|wales|england|january|february|march|april"
    r"|may|june|july|august|september|october|november|december|parties|collectively|services?|fees?))"
    r"|.*\b(?i:agreement|contract|deed)|.*\b(?:Street|Road|Avenue|Lane|House|Row|Drive|Terrace|Way)"
)
_ROLE_CASE = re.compile(rf"^(?:{_ROLE}|{_ROLE.upper()})\b", re.MULTILINE)


def find_parties(text: str) -> list[Span]:
    """The places of the parties' names, in the order of the text, each name once."""
    names: dict[str, Span] = {}
    for finder in (_in_opening, _defined, _by_role, _signed, _in_letter):
        shortened = [(start, start + len(_shorten(text[start:end]))) for start, end in finder(text)]
        for start, end in [(a, b) for a, b in shortened if _is_party(text[a:b])]:
            key = " ".join(text[start:end].split()).casefold().strip(".,")
            if not any(key in known or known in key for known in names):
                names[key] = (start, end)
        if len(names) >= _ENOUGH:
            break
    return sorted(names.values())


def _is_party(name: str) -> bool:
    return len(name) > 2 and not _NO_NAME.fullmatch(name)  # noqa: PLR2004


def _shorten(name: str) -> str:
    """A name without the place after "of", and the full stop of a sentence."""
    place = _OF_PLACE.match(name)
    short = place[1] if place and not _FORM.search(name) else name
    return short.removesuffix(".") if _SENTENCE_END.search(short) else short


def _in_opening(text: str) -> Iterator[Span]:
    start = _BETWEEN.search(text, 0, OPENING_CHARS)
    if not start:
        return
    end = min(len(text), start.end() + _REGION_CHARS)
    clause = _FIRST_CLAUSE.search(text, start.end(), end)
    region = text[start.start() : clause.start() if clause else end]
    for match in _LED.finditer(region):
        first, last = match.span("name")
        yield start.start() + first, start.start() + last


def _defined(text: str) -> Iterator[Span]:
    last = 0
    for called in _CALLED.finditer(text, 0, min(len(text), OPENING_CHARS)):
        is_party = not _NO_PARTY.fullmatch(called["as"])
        begin = max(last, called.start() - _BEFORE_CALLED)
        found = [match.span("name") for match in _BEGUN.finditer(text, begin, called.start() + 1)]
        found = [span for span in found if _is_party(text[span[0] : span[1]])]
        if is_party and found:
            yield found[0]
        last = called.end()


def _by_role(text: str) -> Iterator[Span]:
    for match in _BY_ROLE.finditer(text):
        line = match[0].lstrip(" 0123456789.)")
        name = match["name"]
        if _ROLE_CASE.match(line.removeprefix("The ")) and name[:1].isupper():
            yield from _one_or_two(match)


def _one_or_two(match: re.Match[str]) -> Iterator[Span]:
    """The names behind a role: what "and" joins are two if both are whole and no company's."""
    other = match["other"]
    whole = other and min(len(match["name"].split()), len(other.split())) > 1
    if whole and not _FORM.search(other):
        yield from (match.span("name"), match.span("other"))
    elif other:
        yield match.start("name"), match.end("other")
    else:
        yield match.span("name")


def _signed(text: str) -> Iterator[Span]:
    for match in _SIGNED.finditer(text):
        if len(match["name"].split()) > 1:
            yield match.span("name")


def _in_letter(text: str) -> Iterator[Span]:
    yield from find_part("@letterhead", text)[:1]
    yield from find_part("@addressee", text)[:1]
