"""What is published: snapshots of the tables, and the pointer to the newest.

In: a library's folder. Out: the folder of the snapshot, and what its manifest says is in it.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

SNAPSHOTS = "snapshots"
LATEST = "latest"
MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """One file of a snapshot.

    Attributes:
        name: The table.
        version: Another whenever its rows are.
        size_bytes: Of its file.
    """

    name: str
    version: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PublishedTask:
    """A task whose answers are in a snapshot."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is in a snapshot: the file `manifest.json` in it.

    Attributes:
        run_id: The run that published it.
        published_at: When, ISO 8601 in UTC.
        tables: Its tables.
        tasks: The tasks it was published for.
    """

    run_id: str
    published_at: str
    tables: tuple[PublishedTable, ...]
    tasks: tuple[PublishedTask, ...]


def current_snapshot(out: Path) -> Path | None:
    """The folder that `latest` points to, None if nothing is published."""
    with suppress(OSError):
        return (out / LATEST).resolve(strict=True)
    return None


def read_manifest(snapshot: Path) -> Manifest:
    """What is in a snapshot.

    Raises:
        OSError: The snapshot is gone.
        InputError: It is not one that this docflash can read.
    """
    text = (snapshot / MANIFEST).read_text(encoding="utf-8")
    try:
        values: dict[str, Any] = json.loads(text)
        if values["format"] != FORMAT:
            raise InputError(
                f"the tables in snapshot={str(snapshot)!r} have the unknown format="
                f"{values['format']!r}; update docflash, or publish again"
            )
        return Manifest(
            values["run_id"],
            values["published_at"],
            tuple(PublishedTable(**table) for table in values["tables"]),
            tuple(PublishedTask(**task) for task in values["tasks"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"the file {MANIFEST} in snapshot={str(snapshot)!r} is damaged; run again to publish"
        ) from error
