"""The records that travel from room to room, one type per arrow of the pipeline.

    find_documents -> FoundFile -> read_document -> Document, Page -> cut_chunks -> Chunk
    -> plan_jobs -> Job -> answer_job -> Result | Failure -> store -> publish

All are frozen; offsets are characters (Unicode code points) from 0, ends exclusive.
"""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pipeline.alignment import Alignment
from pipeline.evidence import Evidence
from pipeline.outline import OutlineEntry
from pipeline.page_frames import PageFrame

DocumentStatus = Literal["read", "failed"]
PageSource = Literal["pypdf", "ocr", "text", "html", "email"]
FieldType = Literal["string", "integer", "decimal", "date", "boolean", "enum", "list", "object"]
TaskKind = Literal["text", "fields", "class"]


@dataclass(frozen=True, slots=True)
class FoundFile:
    r"""One file in the folder, before it is read.

    Attributes:
        root: The folder that was searched, absolute.
        path: Where the file is, absolute; the real name, to open it.
        name: Path relative to the root as valid text, to be stored and shown: bytes that are not
            UTF-8 and control characters are escaped as \xNN.
        size_bytes: Size when it was found.
        modified_ns: Modification time when it was found, nanoseconds since the epoch.
    """

    root: Path
    path: Path
    name: str
    size_bytes: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a document; a text file has one page.

    Attributes:
        number: From 1.
        raw: The text as the reader gave it.
        text: The normalised text, which chunks, prompts and evidence refer to.
        alignment: From `text` back to `raw`.
        start_char: Where `text` begins in the document's normalised text.
        source: What read it; "ocr": it is a picture, and its letters were guessed.
        note: Why the page has no text or not all of it, in plain words; else empty.
        frame: Of a page of a PDF, what of it is shown.
    """

    number: int
    raw: str
    text: str
    alignment: Alignment
    start_char: int
    source: PageSource
    note: str = ""
    frame: PageFrame | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its identity is the SHA-256 of its bytes, wherever it lies.

    Attributes:
        sha256: Hex digest of the file's bytes.
        size_bytes: Size of the file.
        media_type: Such as "application/pdf".
        status: "read", or "failed": then `failure_kind` and `failure` say why.
        title: From the metadata or headers, or empty.
        text_sha256: Hex digest of the normalised text (UTF-8), empty if failed.
        pages: The pages; empty if failed, but for "no_text": their notes say what they hold.
        notes: What a user should know though it was read, as of pages without text.
        failure_kind: A short stable word, e.g. "encrypted", "damaged", "timeout", "too_large".
        failure: What happened and what to do, in plain words.
        outline: The headings that its format tells: a PDF's outline, those of HTML and Markdown.
    """

    sha256: str
    size_bytes: int
    media_type: str
    status: DocumentStatus
    title: str = ""
    text_sha256: str = ""
    pages: tuple[Page, ...] = ()
    notes: tuple[str, ...] = ()
    failure_kind: str = ""
    failure: str = ""
    outline: tuple[OutlineEntry, ...] = ()

    @property
    def text(self) -> str:
        """The document's normalised text: its pages joined by a form feed."""
        return "\f".join(page.text for page in self.pages)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document's normalised text that the model sees at once.

    `text[start_char:end_char]` is what the model sees; it owns `text[own_start:own_end]`. The
    owned spans of a document's chunks follow each other without gap or overlap, so each word is
    owned by exactly one chunk; what a chunk sees beyond its own span is context.

    Attributes:
        number: From 0, in the order of the text.
        page_first, page_last: Page numbers that the owned span touches.
        tokens: Tokens of the seen text under the model's tokenizer.
    """

    number: int
    start_char: int
    end_char: int
    own_start: int
    own_end: int
    page_first: int
    page_last: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a task's answer.

    Attributes:
        name: Column name, an identifier.
        type: See FieldType.
        description: Shown to the model.
        required: False lets the model answer null, or an empty list.
        values: The choices of an enum.
        items: The element of a list.
        fields: The members of an object.
        max_chars, max_items: Longest string, and longest list in one answer.
        max_merged_items: Longest list joined from the answers about the parts of a long document.
        labels: Words that stand near the value in documents, the surest first, or parts of the
            layout; see `pipeline.choices`.
        patterns: Regular expressions whose group "value" is the value, surer than labels.
        looks_like: A regular expression that all of a text must match to be a choice; empty: any.
        unlike: Words in which a label is none ("total vat" for "total"); of a list: none may stand
            in a choice, or before it and nearer than its label.
        take_all: Of a list: a small model is not asked, all choices near the labels are taken.
    """

    name: str
    type: FieldType
    description: str = ""
    required: bool = False
    values: tuple[str, ...] = ()
    items: "Field | None" = None
    fields: tuple["Field", ...] = ()
    max_chars: int = 200
    max_items: int = 10
    max_merged_items: int = 10
    labels: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    looks_like: str = ""
    unlike: tuple[str, ...] = ()
    take_all: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a task.

    Attributes:
        max_tokens: Longest answer, in tokens.
        chunk_tokens: Longest piece of a document the model sees at once, in tokens.
        overlap_tokens: Context that a chunk sees before its own words, in tokens.
        max_document_tokens: A longer document is a recorded failure, never cut; 1,000 dense pages.
        max_sentences: What text says after so many sentences is left out; 0 is no bound.
    """

    max_tokens: int = 256
    chunk_tokens: int = 1500
    overlap_tokens: int = 0
    max_document_tokens: int = 1_000_000
    max_sentences: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of a document; one TOML file in `prompts/`.

    Attributes:
        name: File name without ".toml"; an identifier.
        title: One line for people.
        kind: "text": the answer is prose. "fields": JSON with `fields`. "class": one of `classes`.
        globs: File names it is for; ("*",) means every document.
        classes: Document classes it is for; empty means any. (Of a "class" task: the choices.)
        system: System message.
        instructions: Comes after the document's text.
        merge: Instructions to join partial answers; empty for "fields", which merge by rules.
        fields: The answer's fields, for "fields".
        limits: Bounds.
        settings: Generation settings, as named in `pipeline.engine.interface.Sampling`.
        fingerprint, source: Hash of all above that can change an answer; the TOML file.
        examples: (answer, text) shown before the question; an answer about fields is JSON, quoted.
        words: Of a "class" task: (class, words that tell it).
        form: Of a "fields" task: how its fields are asked for, see `pipeline.forms`.
    """

    name: str
    title: str
    kind: TaskKind
    globs: tuple[str, ...]
    classes: tuple[str, ...]
    system: str
    instructions: str
    merge: str
    fields: tuple[Field, ...]
    limits: Limits
    settings: tuple[tuple[str, float | int], ...]
    fingerprint: str
    source: str
    examples: tuple[tuple[str, str], ...] = ()
    words: tuple[tuple[str, tuple[str, ...]], ...] = ()
    form: Literal["auto", "one_call", "per_field", "free"] = "auto"


@dataclass(frozen=True, slots=True)
class Job:
    """A document x a task under one model: the unit of work, and of redoing it.

    Attributes:
        key: Hex SHA-256 over (text_sha256, task fingerprint, model fingerprint).
        task: The task's name.
    """

    key: str
    document_sha256: str
    text_sha256: str
    task: str
    task_fingerprint: str
    model_fingerprint: str


@dataclass(frozen=True, slots=True)
class Result:
    """The validated answer to a job.

    Attributes:
        job_key: The job.
        value: For "text" a str; for "fields" a dict of typed values (str, int, Decimal, date,
            bool, list, dict, None); for "class" a str.
        probability: Of the class among those that were left; 1.0 for other kinds.
        chunks: Numbers of the chunks the model saw.
        calls: Model calls made, retries included.
        cut: True if an answer reached its token limit and was closed by the grammar or trimmed to
            its last full sentence, or if a merged list was longer than `max_merged_items`.
        prompt_tokens, cached_tokens, completion_tokens: Summed over the calls.
        model_s: Seconds in the engine, queueing left out, summed over the calls.
        evidence: What speaks for each value, in the order of the answer.
    """

    job_key: str
    value: Any
    probability: float
    chunks: tuple[int, ...]
    calls: int
    cut: bool
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    model_s: float
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Something of a run that did not work: one row of the table `failures`.

    Attributes:
        kind: A short stable word.
        message: What happened and what to do; never document text.
        name: The file (as in FoundFile.name), if it is about one.
        document_sha256: The document, if known.
        task: The task, if it is about one.
    """

    kind: str
    message: str
    name: str = ""
    document_sha256: str = ""
    task: str = ""
    job_key: str = ""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One row of the table `runs`: a run of the pipeline over a folder.

    Attributes:
        state: "running", "done", "stopped" (by the user, `--until`, or the engine) or "failed".
    """

    run_id: str
    folder: str
    started_at: datetime
    finished_at: datetime | None
    state: Literal["running", "done", "stopped", "failed"]
    model: str
    model_fingerprint: str
    files: int = 0
    documents: int = 0
    jobs_planned: int = 0
    jobs_done: int = 0
    jobs_failed: int = 0
    model_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tasks: tuple[str, ...] = field(default=())
