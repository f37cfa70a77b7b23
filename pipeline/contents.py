"""What a parser found in a file, and how that becomes a `Document`.

Parsers give `Contents`: raw pages in order. `make_document` normalises them and fills in offsets,
hashes and notes; `encode_document` and `decode_document` carry it from the process that parsed it.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from pipeline.alignment import Alignment, Run
from pipeline.encodings import decode_text
from pipeline.errors import DocumentError
from pipeline.headings import outline_markdown
from pipeline.normalise import normalise
from pipeline.ocr import INSTALL as INSTALL_OCR
from pipeline.outline import OutlineEntry, highest_entries, make_entry
from pipeline.page_frames import PageFrame, decode_frame, encode_frame
from pipeline.records import Document, DocumentStatus, Page, PageSource
from pipeline.running_heads import set_heads_apart

NO_TEXT = (
    "no text on this page: it is blank, a drawing or a scan; "
    f"what reads scans is not installed ({INSTALL_OCR})"
)
NOTHING_FOUND = "no text on this page: OCR found none, so it is blank or a drawing"
UNREADABLE = "most characters of this page can't be read: its fonts don't say what they mean"
READ_BY_OCR = "read by OCR, which may take one letter or digit for another"

MEDIA_TYPES = {
    ".pdf": "application/pdf",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".html": "text/html",
    ".htm": "text/html",
    ".eml": "message/rfc822",
}

_TITLE_CHARS = 300
_PAGES_NAMED = 20
_MOST_BYTES = 2**63 - 1
_SHA256 = re.compile("[0-9a-f]{64}")
# Private use characters and U+FFFD: glyphs whose fonts don't say which letters they are.
_UNREADABLE = re.compile("[\ue000-\uf8ff\ufffd]")


@dataclass(frozen=True, slots=True)
class RawPage:
    """A page as a parser gives it: its text, or a note why there is none; of a PDF its frame."""

    text: str
    source: PageSource
    note: str = ""
    frame: PageFrame | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What a parser found in a file."""

    media_type: str
    pages: tuple[RawPage, ...]
    title: str = ""
    notes: tuple[str, ...] = ()
    outline: tuple[OutlineEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class FileBytes:
    """What identifies the bytes that were read: their hash, number and guessed type."""

    sha256: str
    size_bytes: int
    media_type: str


def begins_as_pdf(data: bytes) -> bool:
    """Whether a file that is not called one is a PDF, by its first bytes."""
    return data[:32].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"%PDF-")


def read_plain(data: bytes, media_type: str) -> Contents:
    """Contents of a text file: one page.

    Raises:
        DocumentError: It isn't text, or in no known encoding.
    """
    text, note = decode_text(data)
    outline = outline_markdown(text) if media_type == MEDIA_TYPES[".md"] else ()
    notes = (note,) if note else ()
    return Contents(media_type, (RawPage(text, "text"),), notes=notes, outline=outline)


def read_document(file: FileBytes, data: bytes, parse: Callable[[bytes], Contents]) -> Document:
    """The document that these bytes are, read or failed.

    Raises:
        MemoryError: It needs more than this process may have.
    """
    if not data:
        return fail_document(file, "empty", "the file has no bytes; get it again")
    try:
        return make_document(file, parse(data))
    except DocumentError as error:
        return fail_document(file, error.kind, str(error))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (parsers fail in more ways than they have errors for)
        return fail_document(
            file,
            "damaged",
            f"this document can't be parsed ({type(error).__name__}); get or save it again",
        )


def make_document(file: FileBytes, contents: Contents) -> Document:
    """Normalises the pages of a file; a file without any text is a failure that keeps them."""
    pages: list[Page] = []
    start_char = 0
    texts = set_heads_apart([normalise(raw.text) for raw in contents.pages])
    for number, (raw, (text, alignment)) in enumerate(
        zip(contents.pages, texts, strict=True), start=1
    ):
        note = raw.note or _judge(text, raw.source)
        found = (raw.text, text, alignment, start_char, raw.source, note, raw.frame)
        pages.append(Page(number, *found))
        start_char += len(text) + 1
    document = Document(
        file.sha256,
        file.size_bytes,
        contents.media_type,
        "read",
        title=normalise(contents.title)[0].replace("\n", " ")[:_TITLE_CHARS],
        pages=tuple(pages),
        notes=contents.notes + _note_pages(pages),
        outline=tuple(_normalise_entry(each) for each in highest_entries(contents.outline)),
    )
    if any(page.text for page in pages):
        digest = hashlib.sha256(document.text.encode()).hexdigest()
        return replace(document, text_sha256=digest)
    return replace(
        document,
        status="failed",
        failure_kind="no_text",
        failure=_explain_no_text(contents),
    )


def _normalise_entry(entry: OutlineEntry) -> OutlineEntry:
    """An entry with its title as the text of the pages is written, so that it is found there."""
    return make_entry(entry.level, normalise(entry.title)[0], entry.page)


def replace_pages(document: Document, pages: Mapping[int, RawPage]) -> Document:
    """The document with some of its pages read in another way, by their numbers."""
    raws = tuple(
        replace(
            pages.get(page.number) or RawPage(page.raw, page.source, page.note), frame=page.frame
        )
        for page in document.pages
    )
    notes = document.notes[: len(document.notes) - len(_note_pages(document.pages))]
    file = FileBytes(document.sha256, document.size_bytes, document.media_type)
    return make_document(
        file, Contents(document.media_type, raws, document.title, notes, document.outline)
    )


def _explain_no_text(contents: Contents) -> str:
    if contents.media_type != MEDIA_TYPES[".pdf"]:
        return "there is no text in this document, only white space or markup; exclude it"
    if any(page.source == "ocr" for page in contents.pages):
        return "there is no text in this document, and OCR found none; its pages' notes say more"
    return (
        "there is no text in this document: it is blank or scanned, and what reads scans (OCR) is "
        f"not installed; install it ({INSTALL_OCR}) and run again"
    )


def fail_document(file: FileBytes, kind: str, message: str) -> Document:
    """A document that could not be read."""
    return Document(
        file.sha256,
        file.size_bytes,
        file.media_type,
        "failed",
        failure_kind=kind,
        failure=message,
    )


def fail_too_large(file: FileBytes, max_bytes: int) -> Document:
    """A file over the limit of its kind."""
    return fail_document(
        file,
        "too_large",
        f"the file is too large to read: size_bytes={file.size_bytes!r}, limit={max_bytes!r}; "
        "split it, or raise the limit (max_bytes for text, memory_bytes for PDF and e-mail)",
    )


def _judge(text: str, source: PageSource) -> str:
    if not text:
        notes = {"pypdf": NO_TEXT, "ocr": NOTHING_FOUND}
        return notes.get(source, "there is no text in this file")
    if source == "pypdf" and len(_UNREADABLE.findall(text)) * 5 > len(text):
        return UNREADABLE
    return ""


def _note_pages(pages: Sequence[Page]) -> tuple[str, ...]:
    """One note per kind of trouble with the numbers of the pages that have it."""
    numbers: dict[str, list[int]] = {}
    for page in pages:
        note = page.note or (READ_BY_OCR if page.source == "ocr" else "")
        if note:
            numbers.setdefault(note, []).append(page.number)
    notes: list[str] = []
    for note, found in numbers.items():
        named = ", ".join(map(str, found[:_PAGES_NAMED]))
        more = f" and {len(found) - _PAGES_NAMED} more" if len(found) > _PAGES_NAMED else ""
        plural = "s" if len(found) > 1 else ""
        notes.append(f"page{plural} {named}{more} of {len(pages)}: {note}")
    return tuple(notes)


def encode_document(document: Document) -> bytes:
    """A document as JSON: unlike a pickle, it can't run anything where it is decoded."""
    pages = [
        [
            *(page.raw, page.text, _flatten(page.alignment), page.source, page.note),
            encode_frame(page.frame),
        ]
        for page in document.pages
    ]
    record = {
        "sha256": document.sha256,
        "size_bytes": document.size_bytes,
        "media_type": document.media_type,
        "status": document.status,
        "title": document.title,
        "text_sha256": document.text_sha256,
        "notes": document.notes,
        "failure_kind": document.failure_kind,
        "failure": document.failure,
        "outline": [[entry.level, entry.title, entry.page] for entry in document.outline],
    }
    return json.dumps([record, pages], ensure_ascii=False, separators=(",", ":")).encode()


def decode_document(data: bytes) -> Document:
    """The document that `encode_document` encoded.

    Raises:
        DocumentError: Kind "crashed": the bytes are not such a document, or not all of it. The
            process that made them may have been taken over by what it read.
    """
    try:
        record, pages = json.loads(data)
        outline = tuple(make_entry(*entry) for entry in record["outline"])
        parts = {"notes": tuple(record["notes"]), "pages": _read_pages(pages), "outline": outline}
        document = Document(**record | parts)
        _check(document)
        return document  # noqa: TRY300
    except (
        ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError
    ) as error:  # fmt: skip
        raise DocumentError(
            "crashed", "the process that read this document gave no whole answer; run again"
        ) from error


def _read_pages(records: list[list[Any]]) -> tuple[Page, ...]:
    pages: list[Page] = []
    start_char = 0
    for number, (raw, text, flat, source, note, frame) in enumerate(records, start=1):
        runs = tuple(map(Run, flat[::4], flat[1::4], flat[2::4], flat[3::4]))
        found = (raw, text, Alignment(runs), start_char, source, note, decode_frame(frame))
        pages.append(Page(number, *found))
        start_char += len(text) + 1
    return tuple(pages)


def _check(document: Document) -> None:
    """Raises ValueError if a value is none of its type: the store could not be written then."""
    texts = [document.sha256, document.media_type, document.title, document.text_sha256]
    texts += [document.failure_kind, document.failure, *document.notes]
    texts += [entry.title for entry in document.outline]
    for page in document.pages:
        texts += [page.raw, page.text, page.note]
        ends = (len(page.text), len(page.text), len(page.raw), len(page.raw))
        for run in page.alignment.runs:
            bounds = (run.text_start, run.text_end, run.raw_start, run.raw_end)
            if not all(_is_count(at, end) for at, end in zip(bounds, ends, strict=True)):
                raise ValueError(bounds)
    is_sound = (
        all(isinstance(text, str) for text in texts)  # pyright: ignore[reportUnnecessaryIsInstance]
        and _SHA256.fullmatch(document.sha256)
        and _is_count(document.size_bytes, _MOST_BYTES)
        and document.media_type in MEDIA_TYPES.values()
        and document.status in get_args(DocumentStatus)
        and all(page.source in get_args(PageSource) for page in document.pages)
    )
    if not is_sound:
        raise ValueError(document.status)


def _is_count(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _flatten(alignment: Alignment) -> list[int]:
    return [
        bound
        for run in alignment.runs
        for bound in (run.text_start, run.text_end, run.raw_start, run.raw_end)
    ]
