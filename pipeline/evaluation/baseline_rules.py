"""The baseline's rules for the fields of docflash's own tasks: names, lists, clauses.

In: a document's text. Out: one field's value. Frozen with `pipeline.evaluation.baseline`.
"""

import re
from collections.abc import Callable
from typing import Any

from pipeline.evaluation.baseline_values import find_amounts, find_currency, read_decimal

_AFTER_CLOSING_CHARS = 500
_MOST_LINES = 20
_MOST_DECISIONS = 8
_NAME = r"(?:[A-ZÀ-Þ][\w.\u2019'&+-]*,?[ ]?){1,6}"

_INVOICE_NUMBER = re.compile(
    r"(?:(?:invoice|bill|rechnungs?|facture)[ -]*"
    r"(?:no\b\.?|number|nr\b\.?|nummer|n°|num[ée]ro|#|id\b|ref\w*\b)|invoice\s+(?=[A-Z0-9-]*\d))"
    r"[\s:.#]*(?P<value>(?:[A-Z0-9][\w./-]*)?\d[\w./-]*)",
    re.IGNORECASE,
)
_BUYER = re.compile(
    r"(?:bill(?:ed)? to|invoiced? to|sold to|customer|client|rechnung an|kunde|factur[ée] [àa]"
    r"|\bto:)[\s:]*(?P<value>[^\n]+)",
    re.IGNORECASE,
)
_HEADERS = {
    "sender": re.compile(r"^from:\s*(?P<value>[^<\n]+)", re.IGNORECASE | re.MULTILINE),
    "recipient": re.compile(r"^to:\s*(?P<value>[^<\n]+)", re.IGNORECASE | re.MULTILINE),
    "subject": re.compile(
        r"^(?:re|subject|betreff|betr\.|objet)\s?[:.]\s*(?P<value>[^\n]+)",
        re.IGNORECASE | re.MULTILINE,
    ),
}
_DEAR = re.compile(
    rf"\b(?i:dear|sehr geehrte[rs]?|cher|ch[èe]re|hello|hi)[ ]+(?P<value>{_NAME})",
)
_CLOSING = re.compile(
    r"^(?:yours (?:sincerely|faithfully|truly)|sincerely(?: yours)?"
    r"|(?:(?:kind|best|warm) )?regards|respectfully(?: yours)?|(?:with )?best wishes"
    r"|mit freundlichen gr[üu](?:ß|ss)en"
    r"|cordialement)[,.]?\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_BETWEEN = re.compile(r"\bbetween\s+(?P<first>.{3,300}?)\s+and\s+(?P<second>.{3,200})", re.DOTALL)
_PARTY_END = re.compile(r"[,(;“\"]|\n\n|\. ")
_LAW = re.compile(
    r"(?:governed by|subject to|under)(?: and construed)?(?: in accordance with)?"
    r"\s+(?:the )?(?:laws?|substantive law)\s+of\s+(?:the )?"
    r"(?P<value>[A-Z]\w*(?: (?:of )?(?:the )?[A-Z]\w*)*)"
    r"|[Gg]overning law:?\s+(?:[Tt]he )?(?:[Ll]aws? of )?(?P<other>[A-Z]\w*(?: (?:and )?[A-Z]\w*)*)"
)
_DAYS = {"seven": 7, "ten": 10, "fourteen": 14, "thirty": 30, "sixty": 60, "ninety": 90}
_COUNT = r"\d{1,3}|" + "|".join(_DAYS)
_NOTICE = re.compile(
    rf"\b(?P<days>{_COUNT})\s*(?:\(\w+\)\s*)?(?:calendar |working )?days\b(?=[^.]{{0,60}}notice)"
    rf"|notice[^.]{{0,60}}?\b(?P<later>{_COUNT})\s*(?:\(\w+\)\s*)?(?:calendar )?days\b",
    re.IGNORECASE,
)
_PRESENT = re.compile(
    r"\b(?:present|attendees|in attendance|attended by|anwesend)\s*:?\s+(?P<names>.+?)"
    r"(?=\.\s|\n\n|\b(?:absent|apologies|also present|excused|entschuldigt)\b|$)",
    re.IGNORECASE | re.DOTALL,
)
_DECISION = re.compile(
    r"[^.\n]*\b(?:decided|agreed|resolved|approved|motion (?:passed|carried)|carried|beschlossen)\b"
    r"[^.]*\.?",
    re.IGNORECASE,
)
_BODY = re.compile(
    r"^[^.\n]*\b(?:board|committee|council|group|association|society|club|trustees|assembly)\b"
    r"[^.\n]*$",
    re.IGNORECASE | re.MULTILINE,
)
_ROW = re.compile(
    r"^(?P<text>\S.*?[A-Za-zÀ-þ].*?)\s+(?:(?P<quantity>\d[\d.,]*)\s+(?:\S+\s+)*?)?"
    r"(?P<amount>[$£€]?\s?\d[\d.,\u2019' ]*[.,]\d\d)\s*[$£€]?$",
    re.MULTILINE,
)
_NO_ROW = re.compile(r"total|vat|tax|mwst|tva|balance|due|deposit|summe|betrag", re.IGNORECASE)
_TITLE = re.compile(r"(?i)(?:tax )?(?:invoice|rechnung|facture)\b")


def _find_value(pattern: re.Pattern[str]) -> Callable[[str], str | None]:
    def find(text: str) -> str | None:
        match = pattern.search(text)
        return match["value"].strip(' ".,:') if match else None

    return find


def _heads(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _find_seller(text: str) -> str | None:
    return next((line for line in _heads(text) if not _TITLE.match(line)), None)


def _find_sender(text: str) -> str | None:
    header = _find_value(_HEADERS["sender"])(text)
    if header:
        return header
    for closing in _CLOSING.finditer(text):
        for line in text[closing.end() :][:_AFTER_CLOSING_CHARS].splitlines():
            if re.fullmatch(rf"\s*{_NAME}\s*", line):
                return line.strip()
    return None


def _find_recipient(text: str) -> str | None:
    return _find_value(_HEADERS["recipient"])(text) or _find_value(_DEAR)(text)


def _find_title(text: str) -> str | None:
    return _find_value(_HEADERS["subject"])(text) or next(iter(_heads(text)), None)


def _find_parties(text: str) -> list[str]:
    match = _BETWEEN.search(text)
    if match is None:
        return []
    parties = (_PARTY_END.split(part.strip())[0].strip() for part in match.groups())
    return [" ".join(party.split()) for party in parties if party]


def _find_law(text: str) -> str | None:
    match = _LAW.search(text)
    return (match["value"] or match["other"]) if match else None


def _find_notice(text: str) -> int | None:
    match = _NOTICE.search(text)
    if match is None:
        return None
    days = (match["days"] or match["later"]).lower()
    return _DAYS.get(days) or int(days)


def _find_attendees(text: str) -> list[str]:
    match = _PRESENT.search(text)
    if match is None:
        return []
    plain = re.sub(r"\([^)]*\)", "", match["names"])
    names = re.split(r"[,;\n]|\band\b|\bund\b", plain)
    return [name.strip(" .") for name in names if re.fullmatch(rf"\s*{_NAME}\s*\.?", name)]


def _find_decisions(text: str) -> list[str]:
    sentences = [" ".join(match[0].split()) for match in _DECISION.finditer(text)]
    return sentences[:_MOST_DECISIONS]


def _find_body(text: str) -> str | None:
    match = _BODY.search(text)
    return match[0].strip() if match else None


def _find_lines(text: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for match in _ROW.finditer(text):
        if not _NO_ROW.search(match["text"]):
            amount = next(find_amounts(match["amount"]), None)
            quantity = match["quantity"]
            rows.append(
                {
                    "description": match["text"].strip(),
                    "quantity": read_decimal(quantity.rstrip(".,")) if quantity else None,
                    "amount": amount.value if amount else None,
                }
            )
    return rows[:_MOST_LINES]


RULES: dict[tuple[str, str], Callable[[str], Any]] = {
    ("invoice_number", "string"): _find_value(_INVOICE_NUMBER),
    ("seller", "string"): _find_seller,
    ("buyer", "string"): _find_value(_BUYER),
    ("currency", "string"): find_currency,
    ("lines", "list"): _find_lines,
    ("parties", "list"): _find_parties,
    ("governing_law", "string"): _find_law,
    ("notice_days", "integer"): _find_notice,
    ("sender", "string"): _find_sender,
    ("recipient", "string"): _find_recipient,
    ("subject", "string"): _find_title,
    ("body", "string"): _find_body,
    ("attendees", "list"): _find_attendees,
    ("decisions", "list"): _find_decisions,
}
"""By the name and type of a field."""
