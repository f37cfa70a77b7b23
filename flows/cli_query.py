"""`docflash sql` and `docflash status`: what is in the published tables."""

import json
import os
import resource
import sys
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli_output import print_json, print_table, stderr_console
from flows.cli_records import print_rows
from pipeline.errors import InputError
from pipeline.settings import out_folder

Out = Annotated[
    Path | None, typer.Option(help="The folder for the tables, as for `run`.", readable=False)
]

_TABLE_ROWS = 1000
_LEAST_MEMORY_BYTES = 4 << 30


class Format(StrEnum):
    """How rows are printed."""

    AUTO = "auto"
    TABLE = "table"
    RECORDS = "records"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def sql(
    statement: Annotated[
        str | None, typer.Argument(help="One statement that reads; none: lists the tables.")
    ] = None,
    out: Out = None,
    as_format: Annotated[
        Format,
        typer.Option(
            "--format",
            "-f",
            help="How rows are printed; auto: a table where it fits the terminal, else records, a "
            "block of lines for each row.",
        ),
    ] = Format.AUTO,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
) -> None:
    """Asks the published tables in SQL (DuckDB's); it can read them and nothing else.

    Example: `docflash sql "SELECT path, text FROM summaries" --format csv > summaries.csv`

    Example: `docflash sql "FROM invoice LIMIT 3" --format records`
    """
    from pipeline.queries import list_views, query

    form = Format.JSON if as_json else as_format
    library = out_folder(out)
    if statement is None:
        names = list_views(library)
        if form is Format.JSON:
            print_json(list(names))
        else:
            print_table(("table",), [(name,) for name in names])
        return
    limit = memory_bytes()
    _limit_memory(limit)
    try:
        _print_rows(query(library, statement), form)
    except MemoryError as error:
        raise InputError(
            f"the query or its rows need more than memory_bytes={limit!r}; read fewer columns or "
            "rows"
        ) from error


def memory_bytes() -> int:
    """The most that a query and its rows may take; DuckDB's limit is about its own work only."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(_LEAST_MEMORY_BYTES, machine // 4)


def _limit_memory(limit: int) -> None:
    """Takes it from this process for good; where it can't be (macOS), nothing is limited."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _print_rows(table: Any, form: Format) -> None:
    from pipeline.formats import rows_of, write_table

    if form is Format.AUTO or form is Format.TABLE or form is Format.RECORDS:
        rows = [[_cell(value) for value in row] for row in rows_of(table.slice(0, _TABLE_ROWS))]
        print_rows(table.column_names, rows, form.value)
        if table.num_rows > _TABLE_ROWS:
            left = table.num_rows - _TABLE_ROWS
            stderr_console().print(f"... and {left} more rows; --format csv prints all")
        return
    if form is Format.PARQUET and sys.stdout.isatty():
        raise InputError("parquet is not for a terminal; add `> file.parquet`")
    write_table(table, form.value, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def _cell(value: Any) -> str:
    """A value as text for people."""
    from pipeline.formats import encode_json

    if value is None:
        return ""
    return encode_json(value) if isinstance(value, dict | list) else str(value)


def status(
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Shows the last runs, what is published, what is still to be done and what failed.

    Example: `docflash status`
    """
    from pipeline.queries import query_value

    library = out_folder(out)
    found = json.loads(query_value(library, _STATUS))
    figures, failing = found["figures"], found["failing"] or []
    runs = [
        run | {"started": datetime.fromisoformat(run["started"])} for run in found["runs"] or []
    ]
    state = _engine_state()
    if as_json:
        head = {"tables": str(library / "latest"), **figures, "engine": state}
        print_json({**head, "runs": runs, "failing": failing})
        return
    named = [*((name.replace("_", " "), value) for name, value in figures.items())]
    print_table(("library", str(library)), [*named, ("engine", state)])
    if runs:
        columns = tuple(name.replace("_", " ") for name in runs[0])
        print_rows(columns, [_run_cells(run) for run in runs], title="last runs")
    if failing:
        print_table(tuple(failing[0]), [tuple(row.values()) for row in failing], title="what fails")


def _engine_state() -> str:
    from pipeline.engine.serving.endpoint import is_listening

    if not is_listening():  # what asks it takes a while to load
        return "not running"
    from pipeline.engine.serving.launch import engine_status

    engine = engine_status()
    return "not running" if engine is None else f"{engine.state}, pid {engine.pid}"


def _run_cells(run: dict[str, Any]) -> tuple[str, ...]:
    """A run as a row for people: in the time of their clock."""
    started = run["started"].astimezone()
    return tuple(map(_cell, (run | {"started": f"{started:%Y-%m-%d %H:%M}"}).values()))


_FIGURES = """
SELECT * FROM (SELECT count(*) AS files FROM files),
    (SELECT count(*) AS documents, count(*) FILTER (status = 'failed') AS documents_failed
        FROM documents),
    (SELECT count(*) FILTER (state = 'done') AS answers,
        count(*) FILTER (state = 'pending') AS answers_pending,
        count(*) FILTER (state = 'failed') AS answers_failed FROM jobs),
    (SELECT count(*) AS failures FROM failures)
"""

_RUNS = """
SELECT started_at AS started, state, folder, files, documents, jobs_done AS answers,
    jobs_failed AS failed, model_calls, round(epoch(finished_at - started_at))::INT AS seconds,
    round(jobs_done * 60 / nullif(epoch(finished_at - started_at), 0), 1) AS answers_a_minute,
    round((prompt_tokens + completion_tokens) / nullif(epoch(finished_at - started_at), 0))::INT
        AS tokens_a_second
FROM runs ORDER BY started_at DESC LIMIT 5
"""

_FAILING = """
SELECT kind, coalesce(task, 'reading') AS "at", count(*) AS how_many,
    parse_filename(min(path)) AS such_as, min_by(message, path) AS why
FROM failures GROUP BY ALL ORDER BY how_many DESC, kind LIMIT 12
"""

# One value, so that all of it is of one snapshot, and soon there.
_STATUS = f"""
SELECT to_json({{
    figures: (SELECT f FROM ({_FIGURES}) f),
    runs: (SELECT list(r ORDER BY r.started DESC) FROM ({_RUNS}) r),
    failing: (SELECT list(w ORDER BY w.how_many DESC, w.kind) FROM ({_FAILING}) w)
}})::VARCHAR
"""  # noqa: S608 (constants)
