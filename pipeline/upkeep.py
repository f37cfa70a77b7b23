"""Looks after a library: takes documents out of it for good, compacts it, copies it.

In: a library's folder that no run is using. Out: what was done, in numbers. Nothing here touches
the documents themselves.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.serving.launch import engine_status, stop_engine
from pipeline.errors import InputError
from pipeline.parquet import publish_without
from pipeline.store import Store, Traces
from pipeline.store.database import FILE_NAME
from pipeline.store.removal import KEPT_DAYS
from pipeline.store.texts import folder_text

_DOCUMENT_ID = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Purged:
    """What was taken out of a library.

    Attributes:
        paths: The files that were known by it, copies of the same documents in other places, too.
        documents: How many documents those were.
        engine: "not running", "stopped" (what it remembered of prompts is gone), or "busy" (it
            works for another run; it forgets when it leaves).
    """

    paths: tuple[str, ...]
    documents: int
    engine: str


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """What was tidied up: old runs that were forgotten, and bytes that the store is smaller."""

    runs: int
    freed_bytes: int


def find_traces(out: Path, what: str) -> tuple[str, ...]:
    """The files of which `purge` would leave no trace.

    Raises:
        BusyError: A run is using the library.
        InputError: There is no library, or it knows nothing of that.
    """
    with _open(out) as store:
        return next(_find(store, what)).paths


def purge(out: Path, what: str) -> Purged:
    """Takes documents out of a library: texts, answers, names, published tables, prompts' memory.

    It can be repeated if it was interrupted; what is in the store last makes sure of that.

    Args:
        out: The library's folder.
        what: A file, a folder, or a document's id (64 hexadecimal digits).

    Raises:
        BusyError: A run is using the library.
        InputError: There is no library, it knows nothing of that, or the disk is full.
    """
    with _open(out) as store:
        documents: set[str] = set()
        paths: set[str] = set()
        for traces in _find(store, what):
            publish_without(store, traces)
            store.removal.forget(traces)
            documents |= set(traces.documents)
            paths |= set(traces.paths)
        store.compact()
    return Purged(tuple(sorted(paths)), len(documents), _empty_engine())


def vacuum(out: Path, kept_days: int = KEPT_DAYS) -> Vacuumed:
    """Forgets old runs to which nothing refers, and gives unused disk space back.

    Raises:
        BusyError: A run is using the library.
        InputError: There is no library, or too little disk space to write it anew.
    """
    with _open(out) as store:
        runs = store.removal.forget_old_runs(kept_days)
        return Vacuumed(runs, store.compact())


def backup(out: Path, copy: Path) -> int:
    """Copies a library's store into one file, which is complete once it has its name.

    To go back, put it in an empty folder as `store.duckdb` and run with that folder as `--out`.

    Returns:
        The copy's size in bytes.

    Raises:
        BusyError: A run is using the library.
        InputError: There is no library, or the copy can't be written there.
    """
    copy = copy.expanduser().absolute()
    if copy.is_dir() or not copy.parent.is_dir():
        raise InputError(
            f"the copy={str(copy)!r} must be a file in a folder that is there; choose another"
        )
    if copy.parent == out.absolute():
        raise InputError(
            f"the copy={str(copy)!r} would lie in the library itself; choose another folder"
        )
    with _open(out) as store:
        store.copy_to(copy)
    return copy.stat().st_size


def _open(out: Path) -> Store:
    path = out / FILE_NAME
    if not path.is_file():
        raise InputError(f"there is no library in out={str(out)!r}; give its folder with --out")
    return Store.open(out)


def _find(store: Store, what: str) -> Iterator[Traces]:
    """What is known of a place, by each way to name it."""
    path = Path(what).expanduser()
    places = {folder_text(path.absolute()), folder_text(path.resolve())}
    if _DOCUMENT_ID.fullmatch(what):
        places.add(what)
    found = [traces for place in sorted(places) if (traces := store.removal.find(place))]
    if not found:
        raise InputError(
            f"the library in out={str(store.out)!r} knows nothing of {what!r}; give a file, a "
            "folder, or a document_id of the table documents. If a purge of it was interrupted, "
            "`docflash vacuum` completes it"
        )
    yield from found


def _empty_engine() -> str:
    """The engine remembers the beginnings of prompts; an idle one is stopped, and so forgets."""
    status = engine_status()
    if status is None:
        return "not running"
    if status.in_flight:
        return "busy"
    stop_engine()
    return "stopped"
