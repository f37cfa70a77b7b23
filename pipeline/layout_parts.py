"""Where letters, invoices and the like put their parts: by layout, not by words before them.

In: a text. Out: places of names and subjects. As labels of a field they are written with an @:

- "@letterhead": who stands at the top with an address below.
- "@addressee": the name above the address that is written to.
- "@greeted": the person whom the salutation greets, as named above that address.
- "@signature": the name below the closing words.
- "@subject": the line that stands alone before or after the salutation.
- "@largest": the largest amount of money.

Only the beginning of a text is looked at, and the first closing words in it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.derive import read_values
from pipeline.derive_dates import read_dates
from pipeline.records import Field

Span = tuple[int, int]

MOST_LINES = 60
_MOST_LINE_CHARS = 300
_MOST_NAME_LINES = 4
_MOST_NAME_CHARS = 70
_MOST_SUBJECT_CHARS = 110
_BELOW_CLOSING = 5
_WORDS_OF_SUBJECT = 2

_LINE = re.compile(r"[^\n\f]*(?:[\n\f]|$)")
_STREETS = (
    "Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Row|Square|Court|Ct|Place|Way|Walk|Close|Mews"
    "|Terrace|Hill|Boulevard|Blvd|Crescent|Gardens|Rise|Parade|Park|Quay|Highway|Green|Gate"
)
_ADDRESS = re.compile(
    r"\b\d+[A-Za-z]?(?:[-/]\d+)?,?\ "
    rf"(?:(?:[A-Z]|\d+(?:st|nd|rd|th)\b)[\w'’.-]*\ ){{1,3}}?(?:{_STREETS})\b"  # noqa: RUF001
    r"|\b[A-Z]{1,2}\d[\dA-Z]?\ \d[A-Z]{2}\b|\b[A-Z][a-z]+,?\ (?:[A-Z]{2,3}|[A-Z][a-z]+)\ \d{4,5}\b"
    r"|(?i:\b(?:p\.?o\.?\ box|postfach)\b)"
    r"|^(?:Flat|Apartment|Apt\.?|Unit|Suite|Room|Floor|Block|Plot|Wohnung|Appt\.?)\ [\w-]{1,6}\b"
    r"|\b\w+(?:stra(?:ße|sse)|str\.|weg|gasse|platz|allee|ring)\ \d"
    r"|\b\d+(?:\ bis)?,?\ (?i:rue|avenue|place|boulevard|quai|chemin|allée)\ |^\d{4,5}\ [A-ZÀ-Þ]",
    re.VERBOSE,
)
_POSTCODE_LINE = re.compile(r"(?:[A-Z]{1,2}\d[\dA-Z]? \d[A-Z]{2}|\d{4,5})\b.*")
_ATTENTION = re.compile(r"(?i:attn|attention|z\. ?h[dä]|à l.attention)\b.*")
_SHORT_END = re.compile(r"\w{5}\.$")
_HEADING = re.compile(
    r"(?i:(?:tax |proforma )?(?:invoice|rechnung|facture|bill to|billed to|sold to|agreement"
    r"|memorandum|letter|lettre|brief)\b.*|.*[:#].*)"
)
_ONLY_TITLE = re.compile(
    r"(?i:private.*|strictly.*|confidential|by (?:hand|e-?mail|post)|via .*|einschreiben|an|to"
    r"|herrn?|frau|firma|mr|mrs|ms|m|mme|attn\.?|z\.\s?h(?:d|d\.)?)[.:]?"
)
_SALUTATION = re.compile(
    r"^[ ]*(?:(?:My[ ])?[Dd]ear|Hello|Hi|Hallo|Guten Tag|Sehr geehrte[rs]?|Liebe[rs]?|Cher|Chère"
    r"|Madame|Monsieur)\b(?P<name>[^\n]{0,60}?)[,:!]?[ ]*$",
    re.MULTILINE,
)
_CLOSING = re.compile(
    r"^[ ]*(?:(?:(?:\w+[ ])?[Yy]ours|Very truly|Sincerely|Faithfully|Respectfully|Cordially|Kind"
    r"|Best|Warm|With)\b[^\n.]{0,40}|(?:Many )?[Tt]hanks[^\n.]{0,20}|Mit [^\n]{0,30}Gr(?:üßen|uß)"
    r"|Hochachtungsvoll|Cordialement|[^\n]{0,60}\bsalutations?\b[^\n]{0,40})[,.]?[ ]*$",
    re.MULTILINE,
)
_TITLES = re.compile(
    r"(?:(?:Mr|Mrs|Ms|Miss|Dr|Prof|Revd?|Capt(?:ain)?|Cllr|Councillor|Herrn?|Frau|Mme|Mlle|M|Sir"
    r"|pp|i\. ?A|i\. ?V)\.?[ ])+(?=\S)"
)
_PERSON = re.compile(
    r"(?:[A-ZÀ-Þ][\w'’-]*\.?|(?:de|da|la|le|van|von|der|den)\b)"  # noqa: RUF001
    r"(?:[ ](?:[A-ZÀ-Þ][\w'’-]*\.?|(?:de|da|la|le|van|von|der|den)\b)){1,4}"  # noqa: RUF001
)
_HOUSE_LINE = re.compile(r"[A-ZÀ-Þ][^0-9:]{2,40}[ ][0-9]{1,4}[ ]?[a-z]?")
_LEAD = re.compile(r"^[ ]*(?:(?i:re|subject|betreff|betr|objet|ref)\b[ ]?[.:]*)[ ]*")


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    text: str

    @property
    def span(self) -> Span:
        return self.start, self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines of names, and whether an address follows on the same line as the name."""

    names: tuple[_Line, ...]
    start: int


def find_part(name: str, text: str) -> list[Span]:
    """The places of a part, the likeliest first; none if the text has no such part.

    Args:
        name: As above, with its @; other names have no places.
        text: What the model is shown.
    """
    finder = _FINDERS.get(name)
    return list(finder(text)) if finder else []


def _lines(text: str) -> list[_Line]:
    lines: list[_Line] = []
    for match in _LINE.finditer(text):
        if len(lines) >= MOST_LINES or match.start() == match.end():
            break
        words = match[0][:_MOST_LINE_CHARS].strip()
        lines.append(_Line(match.start() + match[0].find(words) if words else match.start(), words))
    return lines


def _is_name(line: str) -> bool:
    return (
        1 < len(line) <= _MOST_NAME_CHARS
        and line[0].isupper()
        and not any(mark.isdigit() for mark in line)
        and not _SHORT_END.search(line)
        and "@" not in line
        and not _HEADING.fullmatch(line)
        and not read_dates(line, "2000-01-01")
    )


def _blocks(text: str) -> list[_Block]:
    """Names with an address below, or behind them in the same line."""
    blocks: list[_Block] = []
    names: list[_Line] = []
    in_address = in_town = False  # the last line was of an address, or names a town below one
    lines = _lines(text)
    following_lines = [*lines[1:], *[_Line(len(text), "")] * bool(lines)]
    for line, following in zip(lines, following_lines, strict=True):
        if _ATTENTION.fullmatch(line.text):
            names = [*names, line] if names else []
        elif _is_address(line.text, following.text):
            goes_on = in_town and _POSTCODE_LINE.fullmatch(line.text)
            if not in_address and not goes_on:
                head = _name_before_address(line)
                blocks.append(_Block((*names, *head)[:_MOST_NAME_LINES], line.start))
            in_address, names = True, []
        elif _is_name(line.text):
            in_town = in_address
            names = [*names, line][-_MOST_NAME_LINES:]
            in_address = False
        else:
            names, in_address, in_town = [], False, False
    return blocks


def _is_address(line: str, following: str) -> bool:
    """Whether a line is of an address: it looks so, or has a number and one follows."""
    if _ADDRESS.search(line):
        return True
    if line[:1].isdigit():
        return bool(_ADDRESS.search(following))
    return bool(_HOUSE_LINE.fullmatch(line) and _POSTCODE_LINE.fullmatch(following))


def _name_before_address(line: _Line) -> tuple[_Line, ...]:
    """The name in a line such as "Kurt Brandis · Uferweg 9 · 24103 Kiel"."""
    head = re.split(r"[ ]*[·•|][ ]*|[ ][-–][ ]", line.text)[0]  # noqa: RUF001
    return (_Line(line.start, head),) if head != line.text and _is_name(head) else ()


def _letterhead(text: str) -> Iterator[Span]:
    for block in _blocks(text)[:1]:
        yield from (line.span for line in block.names[:1])


def _addressee(text: str) -> Iterator[Span]:
    names = [line for line in _written_to(text) if not _ATTENTION.fullmatch(line.text)]
    yield from map(_untitled, names)


def _greeted(text: str) -> Iterator[Span]:
    salutation = _SALUTATION.search(text)
    greeted = _person_greeted(salutation) if salutation else ""
    if not salutation or not greeted:
        return
    above = _lines(text[: salutation.start()])  # also where no address is known for one
    signed = next((text[start:end] for start, end in _signature(text)), "")
    names = ((line, _TITLES.sub("", line.text)) for line in above)
    alone = [line for line, name in names if _PERSON.fullmatch(name) and name != signed]
    for line in {line.start: line for line in (*_written_to(text), *alone)}.values():
        named = re.search(rf"(?:[A-ZÀ-Þ][\w.'’-]*[ ])*\b{re.escape(greeted)}\b", line.text)  # noqa: RUF001
        if named:
            yield _untitled(_Line(line.start + named.start(), named[0]))


def _person_greeted(salutation: re.Match[str]) -> str:
    """The last word of the name that is greeted, without titles; or empty."""
    return next(reversed(_TITLES.sub("", salutation["name"].strip()).split()), "")


def _written_to(text: str) -> list[_Line]:
    """The names above the address that is written to: the last before the salutation."""
    salutation = _SALUTATION.search(text)
    end = salutation.start() if salutation else len(text)
    blocks = [block for block in _blocks(text) if block.start < end]
    sender = blocks[0].names[0].text if blocks and blocks[0].names else ""
    found = [b for b in blocks[1:] if b.names and not _is_again(b.names[0].text, sender)]
    if not found and salutation and not _signed_by_first(text, blocks):
        found = [block for block in blocks[:1] if not _is_letterhead(text, block, salutation)]
    if not found:
        return []
    names = found[-1 if salutation else 0].names
    return [line for line in names if not _ONLY_TITLE.fullmatch(line.text)]


def _is_letterhead(text: str, block: _Block, salutation: re.Match[str]) -> bool:
    """Whether the only address is the sender's: above the date, without the person greeted."""
    before = [line for line in _lines(text[: salutation.start()]) if line.text]
    if not _TITLES.match(salutation["name"].strip()) or not block.names:
        return False
    if before[0].start != block.names[0].start:
        return False
    person = _person_greeted(salutation)
    dated = any(read_dates(line.text, "2000-01-01") for line in before if line.start > block.start)
    return dated and not any(person in line.text for line in block.names)


def _is_again(name: str, sender: str) -> bool:
    """Whether a name is the sender's, as above the window of an envelope."""
    words = set(name.casefold().split())
    return bool(words) and words <= set(sender.casefold().split())


def _signed_by_first(text: str, blocks: list[_Block]) -> bool:
    """Whether the first name of a letter is the one that signs it."""
    signed = next(_signature(text), None)
    first = blocks[0].names[0].text if blocks and blocks[0].names else ""
    return signed is None or text[signed[0] : signed[1]] in first


def _untitled(line: _Line) -> Span:
    title = _TITLES.match(line.text)
    return line.start + (title.end() if title else 0), line.start + len(line.text)


def _signature(text: str) -> Iterator[Span]:
    for closing in _CLOSING.finditer(text):
        place = closing.end() + 1
        for line in _lines(text[place:])[:_BELOW_CLOSING]:
            start, end = _untitled(_Line(place + line.start, line.text))
            match = _PERSON.match(text, start, end)
            if match and text[match.end() : end].lstrip()[:1] in ("", ",", "(", "|", "-", "·"):
                yield _fuller(text, match.span())
                return
            if line.text and line.text[0].isdigit():
                break


def _fuller(text: str, span: Span) -> Span:
    """The same person's name with the first name in full, if it stands elsewhere."""
    words = text[span[0] : span[1]].split()
    if len(words[0].rstrip(".")) > 1:
        return span
    full = re.search(rf"\b{re.escape(words[0][0])}[a-zß-ÿ]+[ ]{re.escape(words[-1])}\b", text)
    return full.span() if full else span


def _subject(text: str) -> Iterator[Span]:
    salutation = _SALUTATION.search(text)
    if not salutation:
        return
    after = [line for line in _lines(text[salutation.end() + 1 :])[:4] if line.text]
    before = [line for line in _lines(text[: salutation.start()]) if line.text]
    addresses = {line.start for block in _blocks(text) for line in block.names}
    if len(after) > 1 and _stands_alone(after[0].text) and after[1].text[0].isupper():
        start = salutation.end() + 1 + after[0].start
        yield _without_lead(text, (start, start + len(after[0].text)))
    if before and _stands_alone(before[-1].text) and before[-1].start not in addresses:
        yield _without_lead(text, before[-1].span)


def _stands_alone(line: str) -> bool:
    return (
        len(line) <= _MOST_SUBJECT_CHARS
        and line[-1] not in ".,;!?"
        and len(line.split()) >= _WORDS_OF_SUBJECT
        and not _ADDRESS.match(line)
        and not (len(line.split()) < 5 and _ADDRESS.search(line))  # noqa: PLR2004
        and not (len(line.split()) < 5 and read_dates(line, "2000-01-01"))  # noqa: PLR2004
    )


def _without_lead(text: str, span: Span) -> Span:
    lead = _LEAD.match(text[span[0] : span[1]])
    return span[0] + (lead.end() if lead else 0), span[1]


def _largest(text: str) -> Iterator[Span]:
    amounts = [found for found in read_values(Field("amount", "decimal"), text) if found.is_amount]
    if amounts:
        best = max(amounts, key=lambda found: (found.values[0], -found.start))
        yield best.start, best.end


_FINDERS: dict[str, Callable[[str], Iterator[Span]]] = {
    "@letterhead": _letterhead,
    "@addressee": _addressee,
    "@greeted": _greeted,
    "@signature": _signature,
    "@subject": _subject,
    "@largest": _largest,
}
