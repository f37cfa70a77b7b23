"""Reads documents, each PDF, HTML page and e-mail in a process of its own that can be killed.

In: a `FoundFile`. Out: a `Document`, read or failed. Small text files are read here; everything
else goes to a child of the read server (`pipeline.readserver`), which has the parsers loaded, so
that a document that takes too long, too much memory, or its parser down with it, is one failed
row. The bytes that are hashed are the bytes that are parsed.
"""

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.contents import (
    MEDIA_TYPES,
    FileBytes,
    begins_as_pdf,
    decode_document,
    fail_document,
    read_document,
    read_plain,
)
from pipeline.documents import describe_os_error
from pipeline.errors import DocflashError, DocumentError
from pipeline.ocr import ocr_version
from pipeline.orders import ENDED_FULL, ENDED_KILLED, ENDED_LATE, Order
from pipeline.quote_places import Boxes, Query, decode_boxes
from pipeline.read_client import Answer, Server
from pipeline.records import Document, FoundFile
from pipeline.scans import decode_texts, read_scans, scans_at_once

# Changes whenever the same bytes may give another Document, so that stored ones are read again.
READER_VERSION = f"4 pypdf-{version('pypdf')} lxml-{version('lxml')} {ocr_version()}".strip()

_SMALL_TEXT_BYTES = 65_536
_ATTEMPTS = 3
_READ_BYTES = 1 << 20


class Reader:
    """Reads documents under limits. Safe to use from many threads; close it after use.

    Attributes:
        timeout_s: Wall-clock seconds that one document may take.
        memory_bytes: The most memory that the reading of one document may take. (Enforced by the
            kernel on Linux; on macOS watched five times a second.)
        max_bytes: A larger text or HTML file is not read. A PDF or e-mail may have a quarter of
            `memory_bytes`.
        reads_scans: Whether pages without text are read by OCR, each few of them within the same
            limits; as a rule if the extra `ocr` is installed.
        follows_links: Whether a symbolic link on the way from the root to a file is followed. A
            search that finds none may still be followed by one: somebody puts it there meanwhile.
    """

    def __init__(
        self,
        timeout_s: float = 60.0,
        memory_bytes: int = 1 << 30,
        max_bytes: int = 16 << 20,
        *,
        reads_scans: bool | None = None,
        follows_links: bool = True,
    ) -> None:
        self.timeout_s = timeout_s
        self.memory_bytes = memory_bytes
        self.max_bytes = max_bytes
        self.reads_scans = bool(ocr_version()) if reads_scans is None else reads_scans
        self.follows_links = follows_links
        self._lock = threading.Lock()
        self._scans = threading.BoundedSemaphore(scans_at_once(memory_bytes))
        self._server: Server | None = None
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the read server and any document it is still reading."""
        with self._lock:
            self._is_closed = True
            if self._server is not None:
                self._server.close()
                self._server = None

    def read(self, found: FoundFile) -> Document:
        """Reads one document.

        Returns:
            The document; with status "failed" if its bytes can't be read as one. Kinds: "empty",
            "too_large", "binary", "encoding", "password", "encrypted", "damaged", "no_text",
            "timeout", "memory", "crashed".

        Raises:
            DocumentError: There are no bytes: the file vanished, may not be read ("no_permission"),
                is "not_a_file", or its disk fails ("unreadable").
            DocflashError: The read server can't be started.
        """
        try:
            file_fd = _open(found.path) if self.follows_links else _open_below(found)
            try:
                return self._read_open(file_fd, found)
            finally:
                os.close(file_fd)
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                raise DocumentError(
                    "not_a_file",
                    f"name={found.name!r} was a file when it was found, and is now behind a "
                    "symbolic link; exclude it, or follow links with --symlinks",
                ) from error
            raise DocumentError(*describe_os_error(error, found.name)) from error

    def find_boxes(self, path: Path, sha256: str, queries: Sequence[Query]) -> list[Boxes]:
        """Where quotes stand on the pages of a PDF, found under the limits of reading it.

        Args:
            path: The PDF.
            sha256: Of its bytes when it was read; a file that has changed has no boxes.
            queries: What to look for.

        Returns:
            For each query its boxes, or None: what fails here costs the boxes, nothing else.

        Raises:
            DocflashError: The read server can't be started, or this Reader is closed.
        """
        order = Order(
            ".pdf",
            self.timeout_s,
            self.memory_bytes,
            self.memory_bytes // 4,
            quotes=tuple(queries),
        )
        try:
            file_fd = _open(path)
        except OSError:
            return [None] * len(queries)
        try:
            answer = self._ask(order, file_fd)
        finally:
            os.close(file_fd)
        return decode_boxes(answer.contents_of(sha256), queries)

    def _read_open(self, file_fd: int, found: FoundFile) -> Document:
        status = os.fstat(file_fd)
        if not stat.S_ISREG(status.st_mode):
            raise DocumentError(
                "not_a_file", f"name={found.name!r} is a folder, a pipe or a device; exclude it"
            )
        suffix = found.path.suffix.lower()
        if suffix in {".txt", ".md"} and status.st_size <= _SMALL_TEXT_BYTES:
            data = os.read(file_fd, _SMALL_TEXT_BYTES + 1)
            if len(data) <= _SMALL_TEXT_BYTES and not begins_as_pdf(data):
                return _read_small(data, suffix)
        return self._read_apart(file_fd, suffix)

    def _read_apart(self, file_fd: int, suffix: str) -> Document:
        is_text = suffix in {".txt", ".md", ".html", ".htm"}
        max_bytes = self.max_bytes if is_text else self.memory_bytes // 4
        order = Order(suffix, self.timeout_s, self.memory_bytes, max_bytes)
        answer = self._ask(order, file_fd)
        if answer.contents:
            document = decode_document(answer.contents)
            return self._read_scans(document, order, file_fd) if self.reads_scans else document
        kind, message = self._describe_end(answer.end)
        if answer.file is None and answer.end == ENDED_LATE:
            raise DocumentError(kind, message)  # even its bytes took too long
        return fail_document(answer.file or _identify(file_fd, suffix), kind, message)

    def _ask(self, order: Order, file_fd: int) -> Answer:
        answer = Answer(None, b"", ENDED_KILLED)
        for _ in range(_ATTEMPTS):
            answer = self._running_server().ask(order, file_fd)
            # A child that someone else killed is no fault of the document's, the first times.
            if answer.contents or answer.end != ENDED_KILLED:
                break
        return answer

    def _read_scans(self, document: Document, order: Order, file_fd: int) -> Document:
        """Has pages without text read by OCR; each few pages have the time of a document."""

        def read(numbers: Sequence[int]) -> list[str] | str:
            with self._scans:
                answer = self._ask(replace(order, pictures=tuple(numbers)), file_fd)
            return decode_texts(answer.contents_of(document.sha256), len(numbers), answer.end)

        return read_scans(document, read)

    def _describe_end(self, end: bytes) -> tuple[str, str]:
        """Kind and message for a reader that ended before it was done."""
        if end == ENDED_LATE:
            return "timeout", (
                "reading this document took longer than it may: "
                f"timeout_s={self.timeout_s!r}; raise the limit if the document is trusted"
            )
        if end == ENDED_FULL:
            return "memory", (
                "reading this document took more memory than it may: "
                f"memory_bytes={self.memory_bytes!r}; raise the limit if the document is trusted"
            )
        return "crashed", "the process that read this document broke down; run again, or exclude it"

    def _running_server(self) -> Server:
        with self._lock:
            if self._is_closed:
                raise DocflashError("this Reader is closed; make a new one")
            if self._server is None or not self._server.is_running():
                if self._server is not None:
                    self._server.close()
                self._server = Server()
            return self._server


def _open(path: Path) -> int:
    # Without O_NONBLOCK a pipe put in a file's place would never open.
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _open_below(found: FoundFile) -> int:
    """Opens a file step by step from its root on, and follows no link on the way."""
    *folders, name = found.path.relative_to(found.root).parts
    kept = os.O_RDONLY | os.O_CLOEXEC
    folder_fd = os.open(found.root, kept | os.O_DIRECTORY)
    try:
        for folder in folders:
            inner_fd = os.open(folder, kept | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder_fd)
            os.close(folder_fd)
            folder_fd = inner_fd
        return os.open(name, kept | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=folder_fd)
    finally:
        os.close(folder_fd)


def _read_small(data: bytes, suffix: str) -> Document:
    file = FileBytes(hashlib.sha256(data).hexdigest(), len(data), MEDIA_TYPES[suffix])
    return read_document(file, data, lambda whole: read_plain(whole, file.media_type))


def _identify(file_fd: int, suffix: str) -> FileBytes:
    """What was to be read, if its reader did not live to tell."""
    digest = hashlib.sha256()
    size = 0
    os.lseek(file_fd, 0, os.SEEK_SET)
    while piece := os.read(file_fd, _READ_BYTES):
        digest.update(piece)
        size += len(piece)
    return FileBytes(digest.hexdigest(), size, MEDIA_TYPES.get(suffix, "text/plain"))
