"""What regular expressions and first sentences get right: the figure to hold all others against.

In: a task and a document's text. Out: an answer of the task's form. An honest effort with the
labels that office documents carry in English, German and French. Written before the gold set's
documents were, and frozen: see sample_docs/gold/README.md.
"""

import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

from pipeline.evaluation.baseline_rules import RULES
from pipeline.evaluation.baseline_values import Found, find_amounts, find_currency, find_dates
from pipeline.records import Field, Task

_SENTENCES = 3
_NEAR_CHARS = 60  # how far after its label a value is looked for

# Of a field: its labels, the surest first.
_LABELS: dict[str, tuple[str, ...]] = {
    "invoice_date": (
        r"invoice date",
        r"date of (?:the )?invoice",
        r"rechnungsdatum",
        r"date de (?:la )?facture",
        r"issued?(?: on| date)?",
        r"bill date",
        r"\b(?:date|datum)\b",
    ),
    "due_date": (
        r"payment due",
        r"due (?:date|by|on)",
        r"pay(?:able)? (?:by|before|until)",
        r"no later than",
        r"zahlbar bis",
        r"f[äa]llig(?: am|keit)?",
        r"[ée]ch[ée]ance",
        r"[àa] r[ée]gler avant",
        r"\bdue\b",
    ),
    "total": (
        r"balance due",
        r"(?:grand total|total due|amount due|(?:amount|total) payable|invoice total)",
        r"(?:gesamt|rechnungs|end)betrag",
        r"total (?:ttc|[àa] payer)",
        r"\btotal\b",
    ),
    "tax": (
        r"(?:total|sales) tax",
        r"\b(?:vat|gst|mwst|ust|tva)\b",
        r"(?:mehrwert|umsatz)steuer",
        r"\btax\b",
    ),
    "effective_date": (
        r"effective (?:date|as of|from|on)",
        r"(?:start|commencement) date",
        r"(?:commenc\w+|begins?|starts?|takes effect)(?: on)?",
        r"(?:as of|dated|made (?:on|this))",
        r"\bfrom\b",
    ),
    "end_date": (
        r"(?:end|expiry|termination) date",
        r"(?:ends?|expires?|terminates?) on",
        r"\b(?:until|through|ending)\b",
    ),
    "amount": (
        r"\b(?:fixed |monthly |annual )?(?:fee|price|rent|remuneration|contract sum)\b",
        r"\bpay\b",
        r"\b(?:sum|amount)\b",
    ),
    "letter_date": (r"^(?:date|datum):?", r"\bden\b"),
    "reply_by": (
        (
            r"(?:reply|respond|answer|response|confirm|write|let (?:me|us) know|hear from)"
            r"[^.]{0,80}?(?:by|before|until|no later than)"
        ),
        r"no later than",
        r"antwort\w*[^.]{0,60}?bis(?: zum)?",
    ),
    "meeting_date": (r"meeting (?:of|held on)", r"held on", r"\bdate\b", r"minutes of"),
    "next_meeting": (
        r"next (?:regular )?meeting",
        r"n[äa]chste sitzung",
        r"prochaine r[ée]union",
        r"reconvene",
    ),
}
_FIRST_DATE = frozenset(("invoice_date", "letter_date", "meeting_date", "effective_date"))
_CLASSES = {
    "invoice": r"invoice|rechnung|facture|bill to|amount due|total due|\bvat\b",
    "contract": r"agreement|contract|parties|hereby|governed by|terminat|clause",
    "letter": r"^dear |sincerely|faithfully|regards|^subject:|freundlichen gr",
    "minutes": r"minutes|present:|apologies|motion|adjourn|next meeting|quorum",
    "report": r"introduction|section|figure|abstract|chapter|results|version",
}


def baseline_answer(task: Task, text: str) -> Any:
    """The baseline's answer to a task about a document.

    Args:
        task: Any task; a field that no rule knows is looked for by its name and type.
        text: The document's normalised text.

    Returns:
        As `Result.value`: text, a dict of typed values, or a class.
    """
    if task.kind == "text":
        return _first_sentences(text)
    if task.kind == "class":
        return _find_class(task, text)
    return {field.name: _find_field(field, text) for field in task.fields}


def _first_sentences(text: str) -> str:
    sentences = re.split(r"(?<=[.!?])\s+(?=[A-ZÀ-Þ\"“])", " ".join(text.split()))
    return " ".join(sentences[:_SENTENCES])


def _find_class(task: Task, text: str) -> str:
    def count(name: str) -> int:
        pattern = _CLASSES.get(name)
        return len(set(re.findall(pattern, text.lower(), re.MULTILINE))) if pattern else 0

    best = max(task.classes, key=count)
    return best if count(best) else task.classes[-1]


def _find_field(field: Field, text: str) -> Any:
    rule = RULES.get((field.name, field.type))
    if rule is not None:
        value = rule(text)
        return value[: field.max_chars] if isinstance(value, str) else value
    if field.type == "date":
        return _find_date(field.name, text)
    if field.type == "decimal":
        return _find_amount(field.name, text)
    if field.type == "enum":
        return next((value for value in field.values if value.lower() in text.lower()), None)
    return [] if field.type == "list" else _find_after_label(field, text)


def _find_after_label(field: Field, text: str) -> str | int | None:
    """What stands after the first label: the rest of the line, or a whole number."""
    pattern = {"integer": r"\D{0,30}(\d{1,9})\b", "string": r"[\s:.#]*([^\n]+)"}.get(field.type)
    end = next(_label_ends(field.name, text), None)
    found = re.match(pattern, text[end:]) if pattern and end is not None else None
    if found is None:
        return None
    return int(found[1]) if field.type == "integer" else found[1].strip()[: field.max_chars]


def _label_ends(name: str, text: str) -> Iterator[int]:
    """Where the labels of a field end, the surest first."""
    for label in _LABELS.get(name, (rf"\b{re.escape(name.replace('_', ' '))}\b",)):
        for match in re.finditer(label, text, re.IGNORECASE | re.MULTILINE):
            yield match.end()


def _find_date(name: str, text: str) -> date | None:
    dates = find_dates(text, month_first=find_currency(text) == "USD")
    for end in _label_ends(name, text):
        near = [found for found in dates if end <= found.start <= end + _NEAR_CHARS]
        if near:
            return near[0].value
    return dates[0].value if dates and name in _FIRST_DATE else None


def _find_amount(name: str, text: str) -> Decimal | None:
    """The last amount on the label's line, or the first soon after it."""
    amounts = list(find_amounts(text))
    for end in _label_ends(name, text):
        line_end = text.find("\n", end) if "\n" in text[end:] else len(text)
        line = [found for found in amounts if end <= found.start < line_end]
        near = [found for found in amounts if end <= found.start <= end + _NEAR_CHARS]
        if line or near:
            return (line[-1:] or near)[0].value
    return _largest(amounts) if name == "total" else None


def _largest(amounts: list[Found[Decimal]]) -> Decimal | None:
    return max((found.value for found in amounts), default=None)
