"""The store: everything docflash knows of a library, in one DuckDB file with one owner.

A library is a folder: `store.duckdb` (here), `snapshots/<run>/*.parquet` and `latest`, a link to
the newest of them (`pipeline.parquet`). It may hold the documents of several folders.

    with Store.open(out) as store:
        store.runs.save(run)                     # begin; reaped as "stopped" if we are killed
        store.files.check(run_id, found, ...)    # what must be read?
        store.documents.save(run_id, ...)        # documents, pages, and their files
        store.files.finish_search(run_id, root)  # what is gone?
        store.chunks.save([CutDocument(...)])
        store.jobs.plan(run_id, plan_jobs(...))  # what must be done?
        store.jobs.finish(run_id, job, result)   # or .fail(...)

Every method is one transaction, and may be called from any thread.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.store.boxes import QuoteBoxes
from pipeline.store.calls import Calls
from pipeline.store.chunks import Chunks, CutDocument
from pipeline.store.database import Database, Session
from pipeline.store.documents import Documents, StoredText
from pipeline.store.evidence import EvidencePlaces
from pipeline.store.files import CheckedFiles, Files
from pipeline.store.jobs import Counts, Jobs, Workload
from pipeline.store.memory import make_room
from pipeline.store.removal import Removal, Traces
from pipeline.store.runs import Runs

__all__ = [
    "CheckedFiles",
    "Counts",
    "CutDocument",
    "Session",
    "Store",
    "StoredText",
    "Traces",
    "Workload",
]


class Store:
    """An open library; this process is its only owner until it is closed.

    Attributes:
        out: The library's folder.
        runs: Runs and their failures.
        files: Files and what became of them.
        documents: Documents and pages.
        chunks: Chunks of documents.
        jobs: Jobs and results, with their evidence.
        calls: What the model has answered for jobs that are not done yet.
        evidence: Where quotes stand in raw pages.
        boxes: Where quotes stand on the pages of PDFs.
        removal: Takes documents out for good.
    """

    def __init__(self, database: Database) -> None:
        """Use `Store.open`."""
        self.out: Path = database.out
        self.runs = Runs(database)
        self.files = Files(database)
        self.documents = Documents(database)
        self.chunks = Chunks(database)
        self.jobs = Jobs(database)
        self.calls = Calls(database)
        self.evidence = EvidencePlaces(database)
        self.boxes = QuoteBoxes(database)
        self.removal = Removal(database)
        self._database = database

    @classmethod
    def open(cls, out: Path) -> Self:
        """Opens a library, made if it is not there; runs that were killed become "stopped".

        Args:
            out: The library's folder; made private to this user.

        Raises:
            BusyError: Another run has it open.
            InputError: It can't be opened, or was written by a newer docflash.
        """
        store = cls(Database(out))
        try:
            with store._database.transaction() as session:
                make_room(session)
            store.runs.reap()
        except BaseException:
            store.close()
            raise
        return store

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
        """Closes the library and lets the next run have it."""
        self._database.close()

    def compact(self) -> int:
        """Writes the file anew without what was deleted; returns how many bytes it is smaller.

        Raises:
            InputError: There is too little disk space; the store is as it was.
        """
        return self._database.compact()

    def copy_to(self, path: Path) -> None:
        """Writes a whole copy of the store.

        Args:
            path: The new file; a file that is there is replaced once the copy is complete.

        Raises:
            InputError: It can't be written.
        """
        self._database.copy_to(path)

    def snapshot(self) -> AbstractContextManager[Session]:
        """The store as it is now, to read from while others write; for `pipeline.parquet`."""
        return self._database.snapshot()
