"""Brings the store up to date with a folder: finds files, reads new and changed ones, saves them.

In: a folder and an open store. Out: the store knows every file of the folder and what is in it;
what could not be read is a failure there. Reading is spread over processes, saving is done here.
"""

import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from pipeline.documents import Selection, Tally, describe_unmounted, find_documents
from pipeline.errors import DocflashError, DocumentError, InputError
from pipeline.progress import Progress
from pipeline.reader import READER_VERSION, Reader
from pipeline.records import Document, Failure, FoundFile
from pipeline.store import Store

# Each batch is looked for in the whole table of files: many at once, or a million take a day.
_FILES_AT_ONCE = 4000
_DOCUMENTS_AT_ONCE = 2000
_CHARS_AT_ONCE = 4_000_000
_WAITING_PER_READER = 2
_LOOK_S = 0.5  # how often a wish to stop is looked for


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked through.

    Attributes:
        folder: The folder, absolute.
        out: Where the tables go; it is passed over if it lies inside the folder.
        selection: Which files are taken.
        retry: Documents that could not be read before are tried again.
    """

    folder: Path
    out: Path
    selection: Selection = field(default_factory=Selection)
    retry: bool = False


@dataclass(slots=True)
class Ingest:
    """What a search came to; see `ingest_folder`."""

    files: int = 0
    documents_read: int = 0
    is_complete: bool = False
    unreachable: list[str] = field(default_factory=list[str])
    tally: Tally = field(default_factory=Tally)


def check_folder(search: Search) -> None:
    """Makes sure that there is something to do, before anything is started.

    Raises:
        InputError: The folder can't be searched, or holds nothing that docflash reads. Tables of
            an earlier run are left as they are: a drive that isn't mounted looks just like this.
    """
    tally = Tally()
    if next(search_files(search, tally), None) is not None:
        return
    raise InputError(
        f"there is no document in the folder={str(search.folder)!r} "
        f"({describe_passed_over(tally) or 'it is empty'}); "
        "docflash reads .pdf, .txt, .md, .html and .eml. "
        "Nothing was changed; if documents that were there are gone for good, `docflash purge`"
    )


def describe_passed_over(tally: Tally) -> str:
    """What a search left out, with numbers and how to have it taken; empty if nothing."""
    others = ", ".join(
        f"{count} {suffix or 'without a suffix'}"
        for suffix, count in tally.unsupported.most_common(5)
    )
    passed = [f"files that docflash can't read: {others}"] if others else []
    passed += [
        f"{name}: {count}"
        for name, count in (
            ("left out by --include or --exclude", tally.excluded),
            ("hidden (see --hidden)", tally.hidden),
            ("symbolic links (see --symlinks)", tally.symlinks),
        )
        if count
    ]
    return "; ".join(passed)


def readers_of_a_run() -> int:
    """How many documents are read at the same time."""
    return os.cpu_count() or 1


def ingest_folder(store: Store, run_id: str, search: Search, progress: Progress) -> Ingest:
    """Brings the store up to date with a folder.

    Stops between two documents when `progress` says so; what was read is kept.

    Args:
        store: The open store; this run has begun in it.
        run_id: This run.
        search: The folder, and what to take of it.
        progress: Is told what was found and read.

    Raises:
        InputError: The folder can't be searched, or the store can't be written.
    """
    done = Ingest()
    readers = readers_of_a_run()
    links = search.selection.symlinks
    with Reader(follows_links=links) as reader, ThreadPoolExecutor(readers) as pool:
        reading = _Reading(store, run_id, reader, pool, readers)
        for batch in batch_files(_found(store, run_id, search, done)):
            checked = store.files.check(run_id, batch, READER_VERSION, retry=search.retry)
            done.files += len(batch)
            progress.add(files=len(batch), files_done=len(checked.unchanged))
            for number in reading.read(checked.to_read, progress):
                done.documents_read += number
            if progress.is_stopping():
                return done
    _finish(store, run_id, search, done)
    done.is_complete = True
    return done


def _finish(store: Store, run_id: str, search: Search, done: Ingest) -> None:
    """Files that were not seen are deleted, but where a drive or a share is away."""
    mounts = done.tally.mounts
    lost = store.files.find_lost(run_id, search.folder, mounts)
    for name in lost:
        store.runs.record_failure(run_id, describe_unmounted(name))
    store.files.finish_search(run_id, search.folder, done.unreachable, mounts, lost)


def search_files(search: Search, tally: Tally) -> Iterator[FoundFile | Failure]:
    """The files of a search, without those of the library; counts what is passed over."""
    inside = search.out.is_relative_to(search.folder) and search.out != search.folder
    for found in find_documents(search.folder, search.selection, tally):
        if not (inside and isinstance(found, FoundFile) and found.path.is_relative_to(search.out)):
            yield found


def _found(store: Store, run_id: str, search: Search, done: Ingest) -> Iterator[FoundFile]:
    """The files; what can't be reached is recorded on the way."""
    for found in search_files(search, done.tally):
        if isinstance(found, FoundFile):
            yield found
        else:
            store.runs.record_failure(run_id, found)
            done.unreachable.append(found.name)


def batch_files(files: Iterator[FoundFile]) -> Iterator[list[FoundFile]]:
    """Files, some thousands at once."""
    batch: list[FoundFile] = []
    for file in files:
        batch.append(file)
        if len(batch) == _FILES_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(slots=True)
class _Reading:
    """Reads files in several threads and saves what comes of it in this one."""

    store: Store
    run_id: str
    reader: Reader
    pool: ThreadPoolExecutor
    readers: int
    _unsaved: list[tuple[FoundFile, Document]] = field(
        default_factory=list[tuple[FoundFile, Document]]
    )
    _unsaved_chars: int = 0

    def read(self, files: tuple[FoundFile, ...], progress: Progress) -> Iterator[int]:
        """Reads files; gives how many documents came of each step. Few are in memory at once."""
        waiting: dict[Future[Document], FoundFile] = {}
        rest = iter(files)
        while True:
            if progress.is_stopping():
                self.reader.close()  # ends what is being read
            else:
                room = self.readers * _WAITING_PER_READER - len(waiting)
                for file in islice(rest, room):
                    waiting[self.pool.submit(self.reader.read, file)] = file
            if not waiting:
                break
            ended, _ = wait(waiting, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
            documents = sum(self._take(waiting.pop(future), future, progress) for future in ended)
            progress.add(files_done=len(ended), documents_read=documents)
            yield documents
        self._save()

    def _take(self, file: FoundFile, future: "Future[Document]", progress: Progress) -> bool:
        try:
            document = future.result()
        except DocumentError as error:
            failure = Failure(error.kind, str(error), name=file.name)
            self.store.runs.record_failure(self.run_id, failure)
            self.store.files.record_unreadable(self.run_id, [file])
            return False
        except DocflashError:
            if progress.is_stopping():
                return False
            raise
        self._unsaved.append((file, document))
        self._unsaved_chars += sum(len(page.raw) + len(page.text) for page in document.pages)
        if len(self._unsaved) >= _DOCUMENTS_AT_ONCE or self._unsaved_chars >= _CHARS_AT_ONCE:
            self._save()
        return True

    def _save(self) -> None:
        if self._unsaved:
            self.store.documents.save(self.run_id, READER_VERSION, self._unsaved)
        self._unsaved, self._unsaved_chars = [], 0
