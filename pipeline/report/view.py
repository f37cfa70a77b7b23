"""The records that a report is made of, as its page gets them in JSON.

Offsets are UTF-16 units within a page's text, which is how a browser counts; `visible` text only.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where a quote stands on a page.

    Attributes:
        page: Place in `DocumentView.pages`, from 0.
        start, end: In that page's text, in UTF-16 units.
    """

    page: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Sketch:
    """A page with the lines of a quote, in points, as the page is read.

    Attributes:
        page: Place in `DocumentView.pages`, from 0.
        width, height: Of the page.
        boxes: For each line (left, top, width, height) from the page's upper left corner.
        where: Which part of the page they are in, in words.
    """

    page: int
    width: float
    height: float
    boxes: tuple[tuple[float, float, float, float], ...]
    where: str


@dataclass(frozen=True, slots=True)
class Proof:
    """What speaks for a value, or against it.

    Attributes:
        field: As in the table `evidence`.
        value: The value, as text.
        support: As in the table, "" if it is not known.
        flagged: Whether the value is one to be doubted.
        others: Places in `DocumentView.proofs` of the alternatives that lost.
        sketches: One for each page of a PDF with words of the quote whose place is known.
    """

    field: str
    value: str | None
    quote: str
    support: str
    confidence: float | None
    probability: float | None
    score: float | None
    reason: str
    chosen: bool
    flagged: bool
    places: tuple[Place, ...]
    others: tuple[int, ...] = ()
    sketches: tuple[Sketch, ...] = ()


@dataclass(frozen=True, slots=True)
class Value:
    """A value of an answer, or a group of them.

    Attributes:
        name: Its field; "" for an item of a list.
        kind: "value": `text` is it, None for null. "list" or "group": `members` are it. "prose":
            `members` are its pieces, which together are the text.
        proof: Place in `DocumentView.proofs`.
    """

    name: str
    kind: str
    text: str | None = None
    proof: int | None = None
    members: tuple["Value", ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one task for a document.

    Attributes:
        state: "done", "pending" or "failed", of the job as it is asked now.
        failure_kind, failure: Why it failed.
        values: The last answer there is; empty if there is none.
        outdated: Whether that answer is to an earlier form of the question or the text.
        unplaced: Places in `DocumentView.proofs` of what belongs to no value that is shown.
    """

    task: str
    state: str
    failure_kind: str = ""
    failure: str = ""
    values: tuple[Value, ...] = ()
    outdated: bool = False
    cut: bool = False
    model: str = ""
    model_s: float = 0.0
    tokens: int = 0
    unplaced: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PageView:
    """A page with its text."""

    number: int
    text: str
    note: str
    source: str


@dataclass(frozen=True, slots=True)
class DocumentView:
    """All that is shown of one document when it is opened."""

    pages: tuple[PageView, ...]
    answers: tuple[Answer, ...]
    proofs: tuple[Proof, ...]


@dataclass(frozen=True, slots=True)
class TaskState:
    """A document and a task, for the list of documents.

    Attributes:
        flags: How many of its values are flagged.
    """

    task: str
    state: str
    flags: int
    cut: bool
    outdated: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A document in the list.

    Attributes:
        folder: From the folder that all documents have in common.
        class_name: "" if it is not known.
    """

    id: str
    name: str
    folder: str
    paths: tuple[str, ...]
    title: str
    class_name: str
    class_probability: float | None
    class_confidence: float | None
    pages: int
    size_bytes: int
    failed: bool
    failure_kind: str
    failure: str
    notes: tuple[str, ...]
    tasks: tuple[TaskState, ...]


@dataclass(frozen=True, slots=True)
class RunView:
    """A run, for the table of runs; times are ISO 8601."""

    started_at: str
    seconds: float | None
    state: str
    folder: str
    model: str
    files: int
    documents: int
    answers: int
    failed: int
    model_calls: int


@dataclass(frozen=True, slots=True)
class FailureView:
    """A failure; `document` is its place in the list, if it has one there."""

    kind: str
    message: str
    path: str
    task: str
    document: int | None


@dataclass(frozen=True, slots=True)
class Index:
    """What is there as soon as the page opens."""

    published_at: str
    documents_all: int
    tasks: tuple[str, ...]
    runs: tuple[RunView, ...]
    failures: tuple[FailureView, ...]
    entries: tuple[Entry, ...]
