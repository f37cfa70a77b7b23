"""Evidence: where a value of an answer stands in its document, exactly.

In: a document's normalised text and a place in it. Out: spans, one for each page that is touched.
"""

from dataclasses import dataclass
from typing import Literal

Support = Literal["verbatim", "derived", "unsupported", "not_found"]

PAGE_BREAK = "\f"
"""Joins the pages of a document's normalised text, and stands nowhere else in it."""


@dataclass(frozen=True, slots=True)
class Span:
    """Words of one page.

    Attributes:
        page_number: From 1.
        start_char: Where they begin in the document's normalised text.
        end_char: One past their last character; never the page break.
        quote: `text[start_char:end_char]`.
    """

    page_number: int
    start_char: int
    end_char: int
    quote: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for one value of an answer, or why there is none.

    Attributes:
        field: Dotted path of the field, such as "total" or "lines.amount"; "text" for a sentence
            of a summary.
        item: Place in the list, or number of the sentence, both from 0; 0 if there is neither.
        value: The value as text (dates as YYYY-MM-DD, numbers without separators, true or false);
            None where there is none.
        support: "verbatim": the value's words stand in the quote. "derived": the value follows
            from the quote by the rules of `pipeline.derive`, or a sentence from its source.
            "unsupported": there is a value, but nothing in the document speaks for it.
            "not_found": there is no value.
        spans: The quote, page by page; none if there is no quote.
        probability: 0 to 1: geometric mean of the probabilities of the value's tokens among those
            that the grammar allowed; None if it is not known. See `pipeline.probabilities`.
        score: 0 to 1: how much of a summary's sentence stands in its source; None for fields.
        chosen: False for a value that lost against another part's, kept as an alternative.
        reason: Why a value is missing or unsupported, or what else to know; never document text.
    """

    field: str
    item: int
    value: str | None
    support: Support
    spans: tuple[Span, ...] = ()
    probability: float | None = None
    score: float | None = None
    chosen: bool = True
    reason: str = ""


def page_spans(text: str, start: int, end: int) -> tuple[Span, ...]:
    """The spans of `text[start:end]`, one for each page with some of it.

    Args:
        text: A document's normalised text, all of it.
        start: Where the quote begins.
        end: One past its last character; `0 <= start <= end <= len(text)`.
    """
    spans: list[Span] = []
    page = 1 + text.count(PAGE_BREAK, 0, start)
    for piece in text[start:end].split(PAGE_BREAK):
        if piece:
            spans.append(Span(page, start, start + len(piece), piece))
        start += len(piece) + 1
        page += 1
    return tuple(spans)
