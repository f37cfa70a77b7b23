"""Publishes the store as parquet: a whole snapshot at once, behind one pointer.

In: an open store and the tasks. Out: `snapshots/<run_id>/<table>.parquet` and the link `latest`,
which is replaced in one step, so that a reader sees one run or the next, never half of one. Tables
that did not change are hard links to the snapshot before.
"""

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from pipeline.calibration import Calibration
from pipeline.errors import InputError
from pipeline.records import Task
from pipeline.settings import private_folder
from pipeline.snapshots import (
    FORMAT,
    LATEST,
    MANIFEST,
    SNAPSHOTS,
    Manifest,
    PublishedTable,
    PublishedTask,
    current_snapshot,
    read_manifest,
)
from pipeline.store import Session, Store, Traces
from pipeline.store.database import sync
from pipeline.tables import Table, list_tables, quoted

_BUILDING = ".building"
_NEW_LINK = ".latest.new"
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
_PUBLISHING = threading.Lock()


def publish(
    store: Store, tasks: Sequence[Task], run_id: str, calibrations: Sequence[Calibration] = ()
) -> Path:
    """Publishes the store as it is now. The store may be written meanwhile.

    Args:
        store: The open store.
        tasks: All tasks whose answers are to be shown, not just those of this run.
        run_id: Names the snapshot; a second one of the same run gets a number after it.
        calibrations: What makes the probabilities of values confidences.

    Returns:
        The snapshot's folder.

    Raises:
        InputError: It can't be written, because the disk is full, say. What was published before
            stays as it was.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(
            f"run_id={run_id!r} can't be a folder's name; use letters, digits, - and _"
        )
    with _PUBLISHING, _building(store.out) as building:
        previous = current_snapshot(store.out)
        store.evidence.place_all()
        with store.snapshot() as session:
            tables = [
                _write_table(session, table, building, previous)
                for table in list_tables(tasks, calibrations)
            ]
        manifest = Manifest(
            run_id,
            datetime.now(UTC).isoformat(),
            tuple(tables),
            tuple(PublishedTask(task.name, task.kind) for task in tasks),
        )
        snapshot = _put_in_place(store.out, building, manifest)
        # The one before stays for who is still reading it.
        kept = {snapshot.name, previous.name if previous else ""}
        _remove_others(store.out / SNAPSHOTS, kept)
        return snapshot


@contextmanager
def _building(out: Path) -> Generator[Path]:
    """A folder for a snapshot that is being made; gone if it did not get its name."""
    building = out / SNAPSHOTS / _BUILDING
    try:
        private_folder(out / SNAPSHOTS)
        shutil.rmtree(building, ignore_errors=True)  # of a run that was killed
        building.mkdir(mode=0o700)
        yield building
    except OSError as error:
        raise InputError(
            f"the tables can't be published in out={str(out)!r} "
            f"({error.strerror or error}); check the free disk space and permissions and run "
            "again: what was published before is unharmed"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _put_in_place(out: Path, building: Path, manifest: Manifest) -> Path:
    """Makes the folder the snapshot that is published."""
    snapshots = building.parent
    _write_manifest(building, manifest)
    sync(building)
    snapshot = snapshots / _free_name(snapshots, manifest.run_id)
    building.rename(snapshot)
    sync(snapshots)
    _point_to(out, snapshot)
    return snapshot


def publish_without(store: Store, traces: Traces) -> Path | None:
    """Publishes what is published now without some documents, and removes every older snapshot.

    Returns:
        The snapshot's folder, None if nothing is published.

    Raises:
        InputError: It can't be read or written; what was published before stays as it was.
    """
    previous = current_snapshot(store.out)
    if previous is None:
        return None
    with _PUBLISHING, _building(store.out) as building:
        manifest = read_manifest(previous)
        with store.snapshot() as session:
            tables = [
                PublishedTable(
                    name, "", _filter_table(session, previous / file, building / file, traces)
                )
                for name, file in (
                    (table.name, f"{table.name}.parquet") for table in manifest.tables
                )
            ]
        changed = replace(
            manifest, published_at=datetime.now(UTC).isoformat(), tables=tuple(tables)
        )
        snapshot = _put_in_place(store.out, building, changed)
        _remove_others(store.out / SNAPSHOTS, {snapshot.name})
        return snapshot


def _filter_table(session: Session, before: Path, after: Path, traces: Traces) -> int:
    """Writes a published table without the rows about some documents; its bytes."""
    source = f"read_parquet({quoted(str(before))})"
    columns = {name for name, *_ in session.rows(f"DESCRIBE FROM {source}")}
    gone: list[str] = []
    for column, values in (
        ("document_id", traces.documents),
        ("path", traces.paths),
        ("run_id" if before.stem == "runs" else "", traces.run_ids),
    ):
        if column in columns and values:
            gone.append(f"{column} IN ({', '.join(map(quoted, values))})")
    if "path" in columns:
        place = quoted(traces.place)
        gone.append(f"path = {place} OR starts_with(path, {place} || '/')")
    condition = f"WHERE NOT coalesce({' OR '.join(gone)}, false)" if gone else ""
    session.run(
        f"COPY (FROM {source} {condition}) TO {quoted(str(after))} "
        "(FORMAT parquet, COMPRESSION zstd)"
    )
    after.chmod(0o600)
    sync(after)
    return after.stat().st_size


def _write_table(
    session: Session, table: Table, building: Path, previous: Path | None
) -> PublishedTable:
    file = building / f"{table.name}.parquet"
    version = _find_version(session, table)
    if previous is None or not _link(previous, file, version):
        session.run(
            f"COPY ({table.sql}) TO {quoted(str(file))} "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {table.group_rows})"
        )
        file.chmod(0o600)
        sync(file)
    return PublishedTable(table.name, version, file.stat().st_size)


def _find_version(session: Session, table: Table) -> str:
    sql = table.version_sql or f"SELECT count(*), sum(hash(t)) FROM ({table.sql}) t"
    state = (FORMAT, duckdb.__version__, table.sql, table.group_rows, session.rows(sql)[0])
    return hashlib.sha256(repr(state).encode()).hexdigest()[:32]


def _link(previous: Path, file: Path, version: str) -> bool:
    """Links an unchanged table from the snapshot before."""
    before = previous / file.name
    try:
        for table in read_manifest(previous).tables:
            if (table.name, table.version) == (file.stem, version):
                if before.stat().st_size != table.size_bytes:
                    return False
                os.link(before, file)
                return True
    except (OSError, InputError):  # gone, damaged, or a file system without hard links
        file.unlink(missing_ok=True)
    return False


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    path = folder / MANIFEST
    path.touch(mode=0o600)
    with path.open("w", encoding="utf-8") as file:
        json.dump({"format": FORMAT, **asdict(manifest)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _free_name(snapshots: Path, run_id: str) -> str:
    name, number = run_id, 1
    while (snapshots / name).exists():
        number += 1
        name = f"{run_id}.{number}"
    return name


def _point_to(out: Path, snapshot: Path) -> None:
    new = out / _NEW_LINK
    new.unlink(missing_ok=True)
    new.symlink_to(Path(SNAPSHOTS) / snapshot.name)
    new.replace(out / LATEST)
    sync(out)


def _remove_others(snapshots: Path, kept: set[str]) -> None:
    for folder in snapshots.iterdir():
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)
