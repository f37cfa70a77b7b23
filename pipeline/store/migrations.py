"""The schema of the store, as steps from an empty file to today's tables.

A step that was released is never changed; a new one is added. What was applied is written in
`schema_versions`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from pipeline.errors import InputError


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema.

    Attributes:
        version: From 1, without gaps.
        title: What it is for.
        sql: Its statements.
    """

    version: int
    title: str
    sql: str


MIGRATIONS = (
    Migration(
        1,
        "runs, files, documents, pages, chunks, jobs, results, evidence, failures",
        """
        CREATE TABLE runs (
            run_id VARCHAR PRIMARY KEY, folder VARCHAR NOT NULL,
            started_at TIMESTAMPTZ NOT NULL, finished_at TIMESTAMPTZ, state VARCHAR NOT NULL,
            model VARCHAR NOT NULL, model_fingerprint VARCHAR NOT NULL,
            files BIGINT NOT NULL, documents BIGINT NOT NULL,
            jobs_planned BIGINT NOT NULL, jobs_done BIGINT NOT NULL, jobs_failed BIGINT NOT NULL,
            model_calls BIGINT NOT NULL, prompt_tokens BIGINT NOT NULL,
            completion_tokens BIGINT NOT NULL,
            tasks VARCHAR[] NOT NULL, updated_at TIMESTAMPTZ NOT NULL
        );
        -- document_sha256 is null while the file can't be read. A file is deleted when a later
        -- search of its folder did not find it.
        CREATE TABLE files (
            folder VARCHAR, name VARCHAR, size_bytes BIGINT NOT NULL, modified_ns BIGINT NOT NULL,
            document_sha256 VARCHAR, read_started_ns BIGINT NOT NULL,
            first_run_id VARCHAR NOT NULL, last_run_id VARCHAR NOT NULL, deleted_run_id VARCHAR,
            PRIMARY KEY (folder, name)
        );
        CREATE SEQUENCE revisions;
        CREATE TABLE documents (
            sha256 VARCHAR PRIMARY KEY, size_bytes BIGINT NOT NULL, media_type VARCHAR NOT NULL,
            status VARCHAR NOT NULL, title VARCHAR NOT NULL, text_sha256 VARCHAR NOT NULL,
            page_count INTEGER NOT NULL, char_count BIGINT NOT NULL, notes VARCHAR[] NOT NULL,
            failure_kind VARCHAR NOT NULL, failure VARCHAR NOT NULL,
            reader_version VARCHAR NOT NULL, read_run_id VARCHAR NOT NULL,
            read_at TIMESTAMPTZ NOT NULL, revision BIGINT NOT NULL
        );
        -- Pages and chunks are found by a rising number, so that DuckDB looks at few blocks of
        -- them and not at all. raw is null where it equals text.
        CREATE TABLE pages (
            document_revision BIGINT NOT NULL, number INTEGER NOT NULL, raw VARCHAR,
            text VARCHAR NOT NULL, alignment BLOB NOT NULL, start_char BIGINT NOT NULL,
            source VARCHAR NOT NULL, note VARCHAR NOT NULL
        );
        CREATE TABLE cuts (
            document_sha256 VARCHAR NOT NULL, chunking VARCHAR NOT NULL,
            chunk_count INTEGER NOT NULL, revision BIGINT NOT NULL,
            PRIMARY KEY (document_sha256, chunking)
        );
        CREATE TABLE chunks (
            cut_revision BIGINT NOT NULL, number INTEGER NOT NULL,
            start_char BIGINT NOT NULL, end_char BIGINT NOT NULL,
            own_start BIGINT NOT NULL, own_end BIGINT NOT NULL,
            page_first INTEGER NOT NULL, page_last INTEGER NOT NULL, tokens BIGINT NOT NULL
        );
        CREATE TABLE jobs (
            key VARCHAR PRIMARY KEY, text_sha256 VARCHAR NOT NULL, task VARCHAR NOT NULL,
            task_fingerprint VARCHAR NOT NULL, model_fingerprint VARCHAR NOT NULL,
            state VARCHAR NOT NULL CHECK (state IN ('pending', 'done', 'failed')),
            attempts INTEGER NOT NULL, failure_kind VARCHAR NOT NULL, failure VARCHAR NOT NULL,
            run_id VARCHAR NOT NULL, changed_at TIMESTAMPTZ NOT NULL
        );
        -- Which tasks a document has by the latest plan, the job that answers it, and the latest
        -- job that did: another one until the answer under a changed prompt is there.
        CREATE TABLE assignments (
            document_sha256 VARCHAR, task VARCHAR, job_key VARCHAR NOT NULL, done_key VARCHAR,
            run_id VARCHAR NOT NULL,
            PRIMARY KEY (document_sha256, task)
        );
        CREATE INDEX assignments_by_job ON assignments (job_key);
        CREATE TABLE results (
            job_key VARCHAR PRIMARY KEY, value JSON NOT NULL, probability DOUBLE NOT NULL,
            chunking VARCHAR NOT NULL, chunks INTEGER[] NOT NULL, calls INTEGER NOT NULL,
            cut BOOLEAN NOT NULL, prompt_tokens BIGINT NOT NULL, cached_tokens BIGINT NOT NULL,
            completion_tokens BIGINT NOT NULL, model_s DOUBLE NOT NULL,
            run_id VARCHAR NOT NULL, finished_at TIMESTAMPTZ NOT NULL
        );
        -- One row per span: a quote over the border of pages has several.
        CREATE TABLE evidence (
            job_key VARCHAR NOT NULL, document_sha256 VARCHAR NOT NULL, task VARCHAR NOT NULL,
            field VARCHAR NOT NULL, item INTEGER NOT NULL, span INTEGER NOT NULL,
            quote VARCHAR NOT NULL, page_number INTEGER NOT NULL,
            start_char BIGINT NOT NULL, end_char BIGINT NOT NULL,
            raw_start BIGINT NOT NULL, raw_end BIGINT NOT NULL
        );
        CREATE TABLE failures (
            run_id VARCHAR NOT NULL, folder VARCHAR NOT NULL, kind VARCHAR NOT NULL,
            message VARCHAR NOT NULL, name VARCHAR NOT NULL, document_sha256 VARCHAR NOT NULL,
            task VARCHAR NOT NULL, job_key VARCHAR NOT NULL, failed_at TIMESTAMPTZ NOT NULL
        );
        """,
    ),
    Migration(
        2,
        "evidence: values with their quotes, support and alternatives",
        """
        DROP TABLE evidence;
        -- The evidence of a job, found by a rising number as pages are.
        CREATE TABLE quoted_jobs (job_key VARCHAR PRIMARY KEY, revision BIGINT NOT NULL);
        -- One row for each span of a quote, or one without a quote. Offsets are in the normalised
        -- text, which all documents of a job share.
        CREATE TABLE quotes (
            quoted_revision BIGINT NOT NULL, number INTEGER NOT NULL,
            field VARCHAR NOT NULL, item INTEGER NOT NULL, span INTEGER NOT NULL,
            value VARCHAR, quote VARCHAR, support VARCHAR NOT NULL,
            confidence DOUBLE, score DOUBLE, chosen BOOLEAN NOT NULL, reason VARCHAR,
            page_number INTEGER, start_char BIGINT, end_char BIGINT
        );
        -- Where quotes stand in the raw pages of each document, as it was last read.
        CREATE TABLE placed (
            document_revision BIGINT, quoted_revision BIGINT,
            PRIMARY KEY (document_revision, quoted_revision)
        );
        CREATE TABLE raw_places (
            document_revision BIGINT NOT NULL, quoted_revision BIGINT NOT NULL,
            number INTEGER NOT NULL, raw_start BIGINT NOT NULL, raw_end BIGINT NOT NULL
        );
        """,
    ),
    Migration(
        3,
        "documents: how often they failed alike, so that they are tried again more and more rarely",
        "ALTER TABLE documents ADD COLUMN attempts INTEGER DEFAULT 1",
    ),
    Migration(
        4,
        "mounts: where drives and shares were, so that one that is away takes no documents along",
        """
        CREATE TABLE mounts (
            folder VARCHAR, name VARCHAR, lost_at TIMESTAMPTZ, PRIMARY KEY (folder, name)
        );
        """,
    ),
    Migration(
        5,
        "boxes: where quotes stand on the pages of PDFs",
        """
        -- Whose quotes were looked for, found or not; PDFs are opened once for it.
        CREATE TABLE measured (
            document_revision BIGINT, quoted_revision BIGINT,
            PRIMARY KEY (document_revision, quoted_revision)
        );
        CREATE TABLE quote_boxes (
            document_revision BIGINT NOT NULL, quoted_revision BIGINT NOT NULL,
            number INTEGER NOT NULL,
            boxes STRUCT(page INTEGER, x0 DOUBLE, y0 DOUBLE, x1 DOUBLE, y1 DOUBLE)[] NOT NULL
        );
        """,
    ),
    Migration(
        6,
        "evidence: how sure the model was is a probability; a confidence is what was measured",
        "ALTER TABLE quotes RENAME COLUMN confidence TO probability",
    ),
    Migration(
        7,
        "documents, pages: outlines and frames; calls: what a stopped job was answered already",
        """
        ALTER TABLE documents
            ADD COLUMN outline STRUCT("level" INTEGER, title VARCHAR, page INTEGER)[] DEFAULT [];
        ALTER TABLE pages
            ADD COLUMN frame STRUCT(x0 DOUBLE, y0 DOUBLE, x1 DOUBLE, y1 DOUBLE, rotation INTEGER);
        CREATE TABLE calls (
            job_key VARCHAR, call_key VARCHAR, completion VARCHAR NOT NULL,
            PRIMARY KEY (job_key, call_key)
        );
        """,
    ),
)


def migrate(connection: duckdb.DuckDBPyConnection, migrations: Sequence[Migration]) -> None:
    """Brings a store to the newest schema, each step in a transaction of its own.

    Raises:
        InputError: The store was written by a newer docflash.
    """
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_versions ("
        "version INTEGER PRIMARY KEY, title VARCHAR NOT NULL, applied_at TIMESTAMPTZ NOT NULL)"
    )
    row = connection.execute("SELECT coalesce(max(version), 0) FROM schema_versions").fetchone()
    found = int(row[0]) if row else 0
    newest = migrations[-1].version
    if found > newest:
        raise InputError(
            f"the store has the schema version={found!r}, written by a newer docflash; this one "
            f"knows versions up to {newest}. Update docflash, or choose another folder with --out"
        )
    for migration in migrations:
        if migration.version > found:
            _apply(connection, migration)


def _apply(connection: duckdb.DuckDBPyConnection, migration: Migration) -> None:
    connection.execute("BEGIN")
    try:
        connection.execute(migration.sql)
        connection.execute(
            "INSERT INTO schema_versions VALUES (?, ?, now())",
            [migration.version, migration.title],
        )
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
