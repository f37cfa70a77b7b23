"""Places in a folder where a drive or a share was mounted: what is gone with one is not deleted.

An empty folder is left where a drive is not mounted, which looks just as if all files of it had
been deleted. In: where other file systems begin, as a search found it. Out: those of before that
are none any more, and in which nothing is left of what was there. What was copied to a folder of
the same name is there, so that one is judged as any other folder.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pipeline.store.database import Session
from pipeline.store.texts import storable


def is_below(name: str, place: str) -> str:
    """A condition: whether a file's name lies in a place of the same folder; "." is all of it."""
    return f"({place} = '.' OR {name} = {place} OR starts_with({name}, {place} || '/'))"


def find_lost(
    session: Session,
    folder: str,
    mounts: Sequence[str],
    began: datetime,
    seen: tuple[str, *tuple[Any, ...]],
) -> tuple[str, ...]:
    """The places where something was mounted before, and nothing is now.

    Args:
        session: The store.
        folder: As `folder_text`.
        mounts: Where file systems begin now.
        began: When this search began. What was first seen after a drive was, does not tell of it.
        seen: A query, with its values, for the names of the files that this search has found.
    """
    sql, *values = seen
    rows = session.rows(
        f"WITH seen AS ({sql}), live AS (SELECT f.name, f.name IN (SELECT name FROM seen) "
        "AS is_seen, coalesce(r.started_at, '-infinity'::TIMESTAMPTZ) AS since "
        "FROM files f LEFT JOIN runs r ON r.run_id = f.first_run_id "
        "WHERE f.folder = ? AND f.deleted_run_id IS NULL) "
        "SELECT m.name FROM mounts m WHERE m.folder = ? AND NOT list_contains(?::VARCHAR[], m.name)"
        " AND (SELECT count(*) > 0 AND NOT bool_or(is_seen AND since < coalesce(m.lost_at, ?)) "
        f"FROM live WHERE {is_below('live.name', 'm.name')}) ORDER BY m.name",
        *values,
        folder,
        folder,
        [storable(name) for name in mounts],
        began,
    )
    return tuple(name for (name,) in rows)


def save_mounts(
    session: Session, folder: str, mounts: Sequence[str], lost: Sequence[str], began: datetime
) -> None:
    """Replaces what is known of a folder: where file systems begin, and where one is away."""
    there, away = ([storable(name) for name in names] for names in (mounts, lost))
    session.run(
        "DELETE FROM mounts WHERE folder = ? AND NOT list_contains(?::VARCHAR[], name)",
        folder,
        there + away,
    )
    session.run(
        "UPDATE mounts SET lost_at = if(list_contains($1::VARCHAR[], name), "
        "coalesce(lost_at, $2), NULL) WHERE folder = $3",
        away,
        began,
        folder,
    )
    session.run(
        "INSERT INTO mounts SELECT DISTINCT $1, name, NULL::TIMESTAMPTZ "
        "FROM unnest($2::VARCHAR[]) u(name) "
        "WHERE name NOT IN (SELECT name FROM mounts WHERE folder = $1)",
        folder,
        there,
    )
