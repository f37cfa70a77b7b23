"""Reads the pages of a document: PDF by pypdf, HTML, e-mail and text by their own modules.

In: the bytes of a file and its suffix. Out: its `Contents`. Parsers can be attacked, so this runs
in a process that can be killed (see `pipeline.reader`); nothing here limits time or memory.
"""

import io
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pypdf
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError

from pipeline.contents import MEDIA_TYPES, Contents, RawPage, begins_as_pdf, read_plain
from pipeline.encodings import valid_text
from pipeline.errors import DocumentError
from pipeline.markup import read_email, read_html
from pipeline.outline import MOST_READ, OutlineEntry, make_entry
from pipeline.page_frames import PageFrame, make_frame
from pipeline.pdf_lines import LineJoiner

_PDF_TRACES = re.compile(rb"%PDF-|startxref|%%EOF")
_HTML_START = re.compile(rb"\s*<(?:!doctype\s+html|html|head|body|\?xml)\b", re.IGNORECASE)
_LOSSES = ("Impossible to decode", "Exceeded ", "Page contents are not")
_BROKEN_PAGE = "this page is damaged and could not be read"


def read_contents(data: bytes, suffix: str) -> Contents:
    """Reads a document by what its bytes are, and notes where the suffix says otherwise.

    Args:
        data: The whole file.
        suffix: Lower case, with its dot.

    Raises:
        DocumentError: It can't be read; `kind` says why.
        MemoryError: It needs more than this process may have.
    """
    if suffix == ".pdf":
        return read_pdf(data) if _PDF_TRACES.search(data) else _read_false_pdf(data)
    if begins_as_pdf(data):
        return _add_note(read_pdf(data), f"the file is a PDF, though its name ends in {suffix}")
    if suffix == ".eml":
        return read_email(data)
    if suffix in {".html", ".htm"}:
        return read_html(data)
    return read_plain(data, MEDIA_TYPES.get(suffix, "text/plain"))


def _read_false_pdf(data: bytes) -> Contents:
    try:
        if _HTML_START.match(data):
            return _add_note(read_html(data), "the file is HTML, though its name ends in .pdf")
        contents = read_plain(data, "text/plain")
    except DocumentError as error:
        raise DocumentError(
            "damaged", "the file is not a PDF, though its name ends in .pdf; get it again"
        ) from error
    return _add_note(contents, "the file is text, though its name ends in .pdf")


def _add_note(contents: Contents, note: str) -> Contents:
    return replace(contents, notes=(note, *contents.notes))


def read_pdf(data: bytes) -> Contents:
    """Contents of a PDF, page by page.

    Raises:
        DocumentError: Kind "password", "encrypted" (in a way that can't be read) or "damaged".
        MemoryError: It needs more than this process may have.
    """
    # No program is started for JBIG2 images: only text is read.
    with pypdf.apply_configuration(
        jbig2dec_binary=None,
        disable_legacy_handling=True,
        outline_maximum_entries=MOST_READ,
        named_destinations_maximum_entries=MOST_READ,
    ):
        try:
            reader = pypdf.PdfReader(io.BytesIO(data))
            notes = _decrypt(reader)
            count = len(reader.pages)
        except (DocumentError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001
            # pypdf meets broken files in more ways than it has errors for.
            raise _explain(error) from None
        if count == 0:
            raise DocumentError("damaged", "this PDF has no pages; get it again")
        pages = _read_pages(reader, count)
        if all(page.note.startswith(_BROKEN_PAGE) for page in pages):
            raise DocumentError("damaged", f"none of this PDF's {count} pages can be read")
        title, outline = _read_title(reader), _read_outline(reader)
        return Contents(MEDIA_TYPES[".pdf"], tuple(pages), title, notes, outline)


def _decrypt(reader: pypdf.PdfReader) -> tuple[str, ...]:
    if not reader.is_encrypted:
        return ()
    if not reader.decrypt(""):
        raise DocumentError(
            "password",
            "this PDF can't be opened without a password; save a copy without one",
        )
    return ("the PDF is encrypted with an empty password, so anyone can open it",)


def _explain(error: Exception) -> DocumentError:
    """The error in plain words; pypdf's own message may quote the document."""
    if isinstance(error, FileNotDecryptedError):
        return DocumentError("password", "this PDF needs a password; save a copy without one")
    if isinstance(error, (DependencyError, NotImplementedError)):
        return DocumentError(
            "encrypted", "this PDF is encrypted in a way that is not supported; save it without"
        )
    return DocumentError("damaged", f"this PDF is damaged ({_reason(error)}); get it again")


def _reason(error: Exception) -> str:
    reasons: dict[type[Exception], str] = {
        LimitReachedError: "it is larger inside than is safe to unpack",
        RecursionError: "it is nested without end",
    }
    name = type(error).__name__
    known = next((text for kind, text in reasons.items() if isinstance(error, kind)), "")
    return known or f"its structure can't be followed: {name}"


class _LossCounter(logging.Handler):
    """Counts pypdf's warnings that text was lost; their words are not kept."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.losses = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Looks at the template alone: the arguments may quote the document."""
        if str(record.msg).startswith(_LOSSES):
            self.losses += 1


def _read_pages(reader: pypdf.PdfReader, count: int) -> list[RawPage]:
    logger = logging.getLogger("pypdf")
    counter = _LossCounter()
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(counter)
    try:
        pages: list[RawPage] = []
        for index in range(count):
            counter.losses = 0
            page = _read_page(reader, index)
            if counter.losses and not page.note:
                page = replace(page, note="a part of this page could not be read")
            pages.append(page)
        return pages
    finally:
        logger.removeHandler(counter)
        logger.propagate = propagates


def _read_page(reader: pypdf.PdfReader, index: int) -> RawPage:
    try:
        page = reader.pages[index]
        fields = _read_fields(page)
        text = _read_lines(page)
        shown = f"{text}\n\n{fields}" if fields else text
        return RawPage(valid_text(shown), "pypdf", frame=_read_frame(page))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (see read_pdf)
        return RawPage("", "pypdf", f"{_BROKEN_PAGE} ({_reason(error)})")


def _read_lines(page: pypdf.PageObject) -> str:
    """The page's text with the rows of tables on one line each."""
    joiner = LineJoiner()
    plain = page.extract_text(visitor_text=joiner.add)
    joined = joiner.text()
    return joined if joined.split() == plain.split() else plain  # never another text


def _read_frame(page: pypdf.PageObject) -> PageFrame | None:
    try:
        return make_frame(page.cropbox, page.rotation)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 (a frame is no reason to lose a page)
        return None


def _read_fields(page: pypdf.PageObject) -> str:
    """What was filled into the page's form; it is drawn over the page, not part of its text."""
    lines: list[str] = []
    for annotation in page.get("/Annots") or ():
        widget: Any = annotation.get_object()
        if not isinstance(widget, dict) or widget.get("/Subtype") != "/Widget":
            continue
        # A field shown in one place is one object with its widget, else the widget's parent.
        holder: Any = widget if "/T" in widget else widget.get("/Parent", widget).get_object()
        kind = widget.get("/FT") or holder.get("/FT")
        value = widget.get("/V") or holder.get("/V")
        if kind in {"/Tx", "/Ch"} and isinstance(value, str) and value.strip():
            lines.append(f"{holder.get('/T', '')}: {value}")
    return "\n".join(lines)


def _read_title(reader: pypdf.PdfReader) -> str:
    try:
        title: Any = reader.metadata and reader.metadata.title
        return valid_text(str(title or ""))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 (a title is no reason to lose a document)
        return ""


def _read_outline(reader: pypdf.PdfReader) -> tuple[OutlineEntry, ...]:
    try:
        return tuple(_walk_outline(reader, reader.outline, 1))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 (an outline is no reason to lose a document)
        return ()


def _walk_outline(reader: pypdf.PdfReader, items: Any, level: int) -> Iterator[OutlineEntry]:
    """The entries in their order; pypdf puts those below an entry into a list after it."""
    for item in items:
        if isinstance(item, list):
            yield from _walk_outline(reader, item, level + 1)
            continue
        page = reader.get_destination_page_number(item)
        if page is not None:
            yield make_entry(level, valid_text(str(item.title or "")), page + 1)
