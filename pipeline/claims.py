"""What an answer claims: values with the words that are to speak for them.

`pipeline.grounding` makes these of an answer about a part of a document, `pipeline.reconcile` joins
those of all parts.
"""

from dataclasses import dataclass
from typing import Any

from pipeline.evidence import Support

NOT_FOUND = "the model found no such value in the document"
NOTHING_LIKE_IT = "the document holds nothing of this type"

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the model was shown of a document.

    Attributes:
        text: The whole document's normalised text.
        start, end: The model saw `text[start:end]`.
        context: The document's first date, for days without a year; empty if it has none.
    """

    text: str
    start: int
    end: int
    context: str = ""

    @property
    def shown(self) -> str:
        """The words that quotes are taken from."""
        return self.text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Claim:
    """A value that an answer gave, and what speaks for it.

    Attributes:
        field: Dotted path.
        item: What the whole item of a list compares by (see `sameness`); None outside lists.
        value: Typed; None if there is none.
        place: Where the quote stands in the document's text, None without a quote.
        support, reason, probability: As in `Evidence`.
    """

    field: str
    item: Any
    value: Any
    place: Place | None
    support: Support
    reason: str = ""
    probability: float | None = None

    @property
    def is_supported(self) -> bool:
        """Whether the document speaks for the value."""
        return self.support in ("verbatim", "derived")


@dataclass(frozen=True, slots=True)
class PartAnswer:
    """The answer about a piece of a document.

    Attributes:
        value: Typed values by field.
        claims: For each value of it, in order.
    """

    value: dict[str, Any]
    claims: tuple[Claim, ...]
