"""The published tables: for each, the SQL that makes it from the store.

In: the tasks, whose fields become columns. Out: `Table` records for `pipeline.parquet`. Only what
belongs to live files is shown. Rows of the last finished answer stay, with `is_current` false,
until the answer under a changed prompt, model or text is there.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from pipeline.calibration import CLASS_FIELD, Calibration
from pipeline.calibration_sql import CONFIDENCE, ON, calibration_rows
from pipeline.records import Field, Task
from pipeline.schema import duckdb_type

ANSWER_COLUMNS = (
    "document_id",
    "path",
    "paths",
    "task",
    "is_current",
    "job_key",
    "run_id",
    "finished_at",
    "model",
    "model_fingerprint",
    "prompt_fingerprint",
    "calls",
    "cut",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "model_s",
    "chunking",
    "chunks",
)
"""Columns of every table of answers, beside the answer itself."""

_ROWS = 16_384
_ROWS_OF_TEXT = 2_048  # a page may be long, and a group of rows is made in memory


@dataclass(frozen=True, slots=True)
class Table:
    """A published table.

    Attributes:
        name: Its name; its file is `<name>.parquet`.
        sql: The query that gives its rows.
        version_sql: A query over the store of one row that is another whenever the table is;
            cheap where hashing all rows is not. Empty: all rows are hashed.
        group_rows: Rows of a row group.
    """

    name: str
    sql: str
    version_sql: str = ""
    group_rows: int = _ROWS


_LIVE = """
WITH live_files AS (
    SELECT *, rtrim(folder, '/') || '/' || name AS path FROM files WHERE deleted_run_id IS NULL
),
live AS (
    SELECT document_sha256 AS sha256, min(path) AS path, list_sort(list(DISTINCT path)) AS paths
    FROM live_files WHERE document_sha256 IS NOT NULL GROUP BY document_sha256
),
answers AS (
    SELECT a.document_sha256 AS document_id, live.path, live.paths, a.task,
        a.job_key = a.done_key AS is_current, a.done_key AS job_key, r.run_id, r.finished_at,
        runs.model, j.model_fingerprint, j.task_fingerprint AS prompt_fingerprint,
        r.calls, r.cut, r.prompt_tokens, r.cached_tokens, r.completion_tokens, r.model_s,
        nullif(r.chunking, '') AS chunking, r.chunks, r.value, r.probability,
        j.text_sha256
    FROM assignments a JOIN live ON live.sha256 = a.document_sha256
    JOIN results r ON r.job_key = a.done_key JOIN jobs j ON j.key = a.done_key
    LEFT JOIN runs ON runs.run_id = r.run_id
)
"""

_RUNS = """
SELECT run_id, folder, started_at, finished_at, state, model, model_fingerprint, tasks,
    files, documents, jobs_planned, jobs_done, jobs_failed, model_calls, prompt_tokens,
    completion_tokens
FROM runs ORDER BY started_at, run_id
"""

_FILES = """
SELECT path, folder, name, document_sha256 AS document_id, size_bytes,
    make_timestamptz(modified_ns // 1000) AS modified_at, first_run_id, last_run_id
FROM live_files ORDER BY path, folder
"""

_DOCUMENTS = """
SELECT d.sha256 AS document_id, live.path, live.paths, d.title, c.class, c.class_probability,
    c.class_confidence, c.class_measured, d.media_type, d.size_bytes, d.status, d.page_count,
    d.char_count, d.notes,
    nullif(d.failure_kind, '') AS failure_kind, nullif(d.failure, '') AS failure,
    nullif(d.text_sha256, '') AS text_sha256, d.reader_version, d.read_run_id AS run_id, d.read_at
FROM documents d JOIN live USING (sha256) LEFT JOIN (
    SELECT a.document_id AS sha256, any_value(q.value) AS class,
        any_value(q.probability) AS class_probability,
        any_value({confidence}) AS class_confidence, any_value(m.measured) AS class_measured
    FROM answers a JOIN (
        -- Where the words of a document told its class, no model was asked.
        SELECT job_key, document_id, {class_field} AS field, true AS chosen, value->>'$' AS value,
            if(calls = 0, NULL, probability) AS probability
        FROM answers WHERE task = {class_task} AND json_type(value) = 'VARCHAR'
    ) q USING (job_key, document_id) LEFT JOIN ({calibration}) m ON {on}
    WHERE a.task = {class_task} GROUP BY a.document_id
) c USING (sha256)
ORDER BY live.path
"""

_PAGES = """
SELECT d.sha256 AS document_id, p.number AS page_number, p.text,
    coalesce(p.raw, p.text) AS raw_text, p.start_char, p.start_char + length(p.text) AS end_char,
    p.source, nullif(p.note, '') AS note, p.frame
FROM pages p JOIN documents d ON d.revision = p.document_revision JOIN live USING (sha256)
"""

_PAGES_VERSION = """
SELECT count(*), sum(hash(d.sha256, d.text_sha256, d.reader_version, d.read_at, d.revision))
FROM documents d JOIN live USING (sha256)
"""

_CHUNKS = """
SELECT cuts.document_sha256 AS document_id, cuts.chunking, c.number AS chunk_number,
    c.start_char, c.end_char, c.own_start, c.own_end, c.page_first, c.page_last, c.tokens
FROM chunks c JOIN cuts ON cuts.revision = c.cut_revision
JOIN live ON live.sha256 = cuts.document_sha256
"""

_CHUNKS_VERSION = """
SELECT count(*), sum(hash(c.document_sha256, d.text_sha256, c.chunking, c.chunk_count, c.revision))
FROM cuts c JOIN documents d ON d.sha256 = c.document_sha256
JOIN live ON live.sha256 = c.document_sha256
"""

_JOBS = """
SELECT j.key AS job_key, a.document_sha256 AS document_id, live.path, a.task, j.state,
    j.attempts, nullif(j.failure_kind, '') AS failure_kind, nullif(j.failure, '') AS failure,
    coalesce(runs.model, planned.model) AS model, j.model_fingerprint,
    j.task_fingerprint AS prompt_fingerprint, a.run_id AS planned_run_id, r.run_id,
    j.changed_at, r.calls, r.cut, r.prompt_tokens, r.cached_tokens, r.completion_tokens, r.model_s,
    nullif(r.chunking, '') AS chunking, r.chunks
FROM assignments a JOIN live ON live.sha256 = a.document_sha256 JOIN jobs j ON j.key = a.job_key
LEFT JOIN results r ON r.job_key = j.key LEFT JOIN runs ON runs.run_id = r.run_id
LEFT JOIN runs planned ON planned.run_id = j.run_id
ORDER BY live.path, a.document_sha256, a.task
"""

_EVIDENCE = """
SELECT a.document_id, a.path, a.task, q.field, q.item, q.span, q.value, q.quote, q.support,
    {confidence} AS confidence, m.measured, q.probability, q.score, q.chosen, q.reason,
    q.page_number, if(d.sha256 IS NULL, NULL, q.start_char) AS start_char,
    if(d.sha256 IS NULL, NULL, q.end_char) AS end_char, r.raw_start, r.raw_end, b.boxes,
    a.job_key
FROM answers a JOIN quoted_jobs e USING (job_key) JOIN quotes q ON q.quoted_revision = e.revision
-- The offsets of an answer about a text that is there no more lead nowhere.
LEFT JOIN documents d ON d.sha256 = a.document_id AND d.text_sha256 = a.text_sha256
LEFT JOIN raw_places r ON r.document_revision = d.revision
AND r.quoted_revision = e.revision AND r.number = q.number
LEFT JOIN quote_boxes b ON b.document_revision = d.revision
AND b.quoted_revision = e.revision AND b.number = q.number
LEFT JOIN ({calibration}) m ON {on}
ORDER BY a.path, a.document_id, a.task, q.number
"""

_FAILURES = """
SELECT f.last_run_id AS run_id, d.failure_kind AS kind, d.failure AS message, f.path,
    d.sha256 AS document_id, NULL::VARCHAR AS task, NULL::VARCHAR AS job_key, d.read_at AS failed_at
FROM live_files f JOIN documents d ON d.sha256 = f.document_sha256 WHERE d.status = 'failed'
UNION ALL
SELECT j.run_id, j.failure_kind, j.failure, live.path, a.document_sha256, a.task, j.key,
    j.changed_at
FROM assignments a JOIN live ON live.sha256 = a.document_sha256 JOIN jobs j ON j.key = a.job_key
WHERE j.state = 'failed'
UNION ALL
SELECT run_id, kind, message,
    CASE WHEN name <> '' THEN rtrim(folder, '/') || '/' || name END,
    nullif(document_sha256, ''), nullif(task, ''), nullif(job_key, ''), failed_at
FROM failures
ORDER BY path, task, kind
"""


def list_tables(
    tasks: Sequence[Task], calibrations: Sequence[Calibration] = ()
) -> tuple[Table, ...]:
    """The tables to publish for these tasks, summaries of all and one more for each with fields.

    Args:
        tasks: Whose answers are to be shown.
        calibrations: What makes probabilities confidences.
    """
    finder = next((task.name for task in tasks if task.kind == "class"), "")
    measured = {
        "confidence": CONFIDENCE,
        "calibration": calibration_rows(tasks, calibrations),
        "on": ON,
    }
    evidence = _EVIDENCE.format(**measured)
    documents = _DOCUMENTS.format(
        class_task=quoted(finder), class_field=quoted(CLASS_FIELD), **measured
    )
    return (
        _table("runs", _RUNS),
        _table("files", _FILES),
        _table("documents", documents),
        _table("pages", _PAGES, _PAGES_VERSION, _ROWS_OF_TEXT),
        _table("chunks", _CHUNKS, _CHUNKS_VERSION),
        _table("jobs", _JOBS),
        _table("summaries", _summaries(tasks)),
        *(
            _table(f"extractions_{task.name}", _extractions(task))
            for task in tasks
            if task.kind == "fields"
        ),
        _table("evidence", evidence),
        _table("failures", _FAILURES),
    )


def _table(name: str, sql: str, version_sql: str = "", group_rows: int = _ROWS) -> Table:
    return Table(name, _LIVE + sql, version_sql and _LIVE + version_sql, group_rows)


def _summaries(tasks: Sequence[Task]) -> str:
    names = ", ".join(quoted(task.name) for task in tasks if task.kind == "text") or "NULL"
    head, rest = ", ".join(ANSWER_COLUMNS[:4]), ", ".join(ANSWER_COLUMNS[4:])
    return (
        f"SELECT {head}, value->>'$' AS text, {rest} FROM answers "
        f"WHERE task IN ({names}) AND json_type(value) = 'VARCHAR' ORDER BY path, document_id, task"
    )


def _extractions(task: Task) -> str:
    """Answers of another schema give what still fits; the rest of their fields is null."""
    structure = json.dumps({field.name: _structure(field) for field in task.fields})
    fields = "".join(
        f"v[{quoted(field.name)}]::{duckdb_type(field)} AS {name_in_sql(field.name)}, "
        for field in task.fields
    )
    head, rest = ", ".join(ANSWER_COLUMNS[:4]), ", ".join(ANSWER_COLUMNS[4:])
    return (
        f"SELECT {head}, {fields}{rest} FROM "
        f"(SELECT *, json_transform(value, {quoted(structure)}) AS v FROM answers "
        f"WHERE task = {quoted(task.name)} AND json_type(value) = 'OBJECT') "
        "ORDER BY path, document_id"
    )


def _structure(field: Field) -> Any:
    """A field's type as `json_transform` wants it."""
    if field.type == "list":
        return [_structure(cast("Field", field.items))]
    if field.type == "object":
        return {member.name: _structure(member) for member in field.fields}
    return duckdb_type(field)


def quoted(text: str) -> str:
    """Text as a string of SQL."""
    return "'" + text.replace("'", "''") + "'"


def name_in_sql(text: str) -> str:
    """A name as SQL takes it, whatever is in it."""
    return '"' + text.replace('"', '""') + '"'
