"""A user's SQL: sees the published tables under friendly names, and reaches nothing else."""

import csv
import io
import json
import signal
import subprocess
import sys
import textwrap
import time
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import queries
from pipeline.errors import InputError
from pipeline.formats import encode_json, write_table
from pipeline.parquet import publish
from pipeline.queries import list_views, query
from pipeline.store import Store
from tests.library import (
    INVOICE_FIELDS,
    READER,
    make_document,
    make_file,
    make_result,
    make_run,
    make_task,
    open_library,
    plan,
)

REPO = Path(__file__).parent.parent
SUMMARY = make_task("summary")
RUNS = make_task("runs")  # a task with the name of a table
INVOICE = make_task("invoice", "fields", fields=INVOICE_FIELDS)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library in a folder with all that globs and SQL would stumble over."""
    folder = tmp_path_factory.mktemp("out") / "a [b]* 'c' {d,e}"
    with Store.open(folder) as store:
        store.runs.save(make_run())
        store.documents.save("run1", READER, [(make_file("a.txt"), make_document("a"))])
        for job in plan(store, "run1", SUMMARY, INVOICE).pending:
            value: Any = "So." if job.task == "summary" else {"total": Decimal("12.50")}
            store.jobs.finish("run1", job, make_result(job, value))
        publish(store, [SUMMARY, RUNS, INVOICE], "run1")
    return folder


def ask(out: Path, sql: str) -> list[dict[str, Any]]:
    return query(out, sql).to_pylist()


def test_tables_and_tasks_can_be_queried_by_name(out: Path) -> None:
    assert ask(out, "SELECT path, total FROM invoice;") == [
        {"path": "/in/a.txt", "total": Decimal("12.5000")}
    ]
    assert ask(out, "SELECT text FROM summary") == [{"text": "So."}]
    assert ask(out, "FROM extractions_invoice SELECT total::VARCHAR AS t") == [{"t": "12.5000"}]
    assert ask(out, "SELECT d.path FROM documents d JOIN pages USING (document_id)") == [
        {"path": "/in/a.txt"}
    ]


def test_a_task_never_hides_a_table(out: Path) -> None:
    assert list_views(out).count("runs") == 1
    assert ask(out, "SELECT run_id FROM runs") == [{"run_id": "run1"}]


@pytest.mark.parametrize(
    "sql",
    ["SHOW TABLES", "DESCRIBE invoice", "SUMMARIZE documents", "VALUES (1)", "-- x\nFROM runs"],
)
def test_statements_that_read_are_run(out: Path, sql: str) -> None:
    assert query(out, sql).num_rows > 0


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{folder}/stolen.csv'",
        "COPY (SELECT 1) TO '{snapshot}/runs.parquet' (USE_TMP_FILE false)",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{snapshot}/runs.parquet' (USE_TMP_FILE false)",
        "EXPORT DATABASE '{folder}/stolen'",
        "ATTACH '{folder}/other.duckdb'",
        "ATTACH '{out}/store.duckdb' (READ_ONLY)",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET lock_configuration = false",
        "SET GLOBAL enable_external_access = true",
        "RESET allowed_paths",
        "PRAGMA enable_external_access",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "CREATE TABLE t AS SELECT 1",
        "CREATE SECRET (TYPE http)",
        "INSERT INTO runs VALUES (1)",
        "DROP VIEW runs",
        "CHECKPOINT",
        "USE memory",
        "BEGIN",
        "PREPARE p AS SELECT 1",
        "SELECT 1; SELECT 2",
        "SELECT 1; COPY (SELECT 1) TO '{folder}/stolen.csv'",
        "",
        ";",
        "-- nothing",
        "SELEC 1",
        "SELECT '\x00",
    ],
)
def test_statements_that_do_more_than_read_are_refused(out: Path, tmp_path: Path, sql: str) -> None:
    places = {"folder": str(tmp_path), "snapshot": str(out / "latest"), "out": str(out)}
    for name, place in places.items():
        sql = sql.replace(f"{{{name}}}", place.replace("'", "''"))
    with pytest.raises(InputError):
        query(out, sql)
    assert list(tmp_path.iterdir()) == []
    assert ask(out, "SELECT run_id FROM runs") == [{"run_id": "run1"}]


@pytest.mark.parametrize(
    "source",
    [
        "read_csv('{file}')",
        "'{file}'",
        "read_text('{file}')",
        "read_blob('{file}')",
        "read_json('{file}')",
        "sniff_csv('{file}')",
        "glob('{folder}/*')",
        "read_parquet('{folder}/*.parquet')",
        "read_parquet('{snapshot}/../../store.duckdb')",
        "parquet_metadata('{file}')",
        "read_text('/proc/self/environ')",
        "read_csv('https://example.org/x.csv')",
        "query('COPY (SELECT 1) TO ''{folder}/stolen.csv''')",
        "local_table",
        "(SELECT getenv('HOME'))",
        "enable_logging(storage = 'file', storage_path = '{folder}/stolen')",
        "enable_profiling(save_location = '{folder}/stolen')",
    ],
)
def test_a_query_reaches_nothing_else(out: Path, tmp_path: Path, source: str) -> None:
    local_table = pa.table({"a": [1]})
    assert local_table.num_rows == 1
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nprivate\n")
    places = {"file": str(secret), "folder": str(tmp_path), "snapshot": str(out / "latest")}
    for name, place in places.items():
        source = source.replace(f"{{{name}}}", place.replace("'", "''"))
    with pytest.raises(InputError) as caught:
        query(out, f"SELECT * FROM {source}")  # noqa: S608  that is the point
    assert "private" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_the_settings_tell_nothing_and_are_locked(out: Path) -> None:
    settings = "lock_configuration", "enable_external_access", "autoload_known_extensions"
    values = ask(
        out, f"SELECT {', '.join(f'current_setting({name!r}) AS {name}' for name in settings)}"
    )
    assert values == [dict(zip(settings, (True, False, False), strict=True))]


def test_a_missing_table_is_told_with_those_there_are(out: Path) -> None:
    with pytest.raises(InputError, match=r"'invoices'.*did you mean 'invoice'\?.*documents"):
        query(out, "SELECT * FROM invoices")
    with pytest.raises(InputError, match=r"There are: .*documents"):
        query(out, "SELECT * FROM zzz")


def test_a_missing_column_is_told_by_duckdb(out: Path) -> None:
    with pytest.raises(InputError, match='"totl" not found'):
        query(out, "SELECT totl FROM invoice")


def test_a_query_that_needs_too_much_memory_is_told(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(queries._LIMITS, "memory_limit", "20MB")
    with pytest.raises(InputError, match="memory_limit='20MB'"):
        query(out, "SELECT list(range) FROM range(100000000)")
    assert list(tmp_path.iterdir()) == []


def test_a_library_without_tables_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="docflash run FOLDER"):
        query(tmp_path, "FROM runs")
    (tmp_path / "latest").symlink_to("snapshots/gone")
    with pytest.raises(InputError, match="docflash run FOLDER"):
        list_views(tmp_path)


def test_tables_that_are_gone_are_told(tmp_path: Path) -> None:
    with open_library(tmp_path, "run1") as store:
        snapshot = publish(store, [], "run1")
    (snapshot / "pages.parquet").unlink()
    with pytest.raises(InputError, match="publish them again"):
        query(tmp_path, "FROM pages")


def test_ctrl_c_ends_a_query(out: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from pipeline.queries import query

        query(Path(sys.argv[1]), "FROM runs")
        print("ready", flush=True)
        try:
            query(Path(sys.argv[1]), "SELECT sum(a.range * b.range) "
                "FROM range(10000000) a, range(10000000) b")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(out)],
        cwd=REPO,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        _wait_until_at_work(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"


def _wait_until_at_work(pid: int) -> None:
    """Until the query runs: nothing else would take a process that is ready so much time."""
    process = psutil.Process(pid)
    before_s = process.cpu_times().user
    limit = time.monotonic() + 60
    while process.cpu_times().user - before_s < 0.5:
        assert time.monotonic() < limit, "the query never began"


TABLE = pa.table(
    {
        "text": ['say "hi",\nyou', None, "\U0001f600 = é"],
        "total": pa.array([Decimal("12345678901234.5678"), None, Decimal("-0.5000")]),
        "due": [date(2026, 1, 2), None, date(1999, 12, 31)],
        "ok": [True, None, False],
        "tags": [["a", "b"], None, []],
        "line": [{"n": 1, "d": date(2026, 1, 2)}, None, {"n": None, "d": None}],
        "number": [0.5, float("nan"), None],
        "raw": [b"\xff", None, b""],
    }
)


def written(table: Any, table_format: Any) -> bytes:
    stream = io.BytesIO()
    write_table(table, table_format, stream)
    return stream.getvalue()


def test_json_has_exact_numbers_and_iso_dates() -> None:
    rows = json.loads(written(TABLE, "json"), parse_float=Decimal)
    assert rows[0] == {
        "text": 'say "hi",\nyou',
        "total": Decimal("12345678901234.5678"),
        "due": "2026-01-02",
        "ok": True,
        "tags": ["a", "b"],
        "line": {"n": 1, "d": "2026-01-02"},
        "number": Decimal("0.5"),
        "raw": "/w==",
    }
    assert set(rows[1].values()) == {None}
    assert json.loads(written(TABLE.slice(0, 0), "json")) == []
    assert encode_json(Decimal("1E+3")) == "1000"


def test_json_keeps_columns_that_share_a_name() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert json.loads(written(table, "json")) == [{"a": 1, "a_2": 2}]


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "=cmd|' /C calc'!A0"],
)
def test_a_formula_is_no_formula_in_csv(text: str) -> None:
    table = pa.table({"text": [text], "=name": [-1], "rest": ["a=1"]})
    rows = list(csv.reader(io.StringIO(written(table, "csv").decode(), newline="")))
    assert rows == [["text", "'=name", "rest"], ["'" + text, "-1", "a=1"]]
    assert json.loads(written(table, "json"))[0]["text"] == text


def test_csv_can_be_read_back() -> None:
    rows = list(csv.reader(io.StringIO(written(TABLE, "csv").decode(), newline="")))
    assert rows[0] == TABLE.column_names
    assert rows[1] == [
        'say "hi",\nyou',
        "12345678901234.5678",
        "2026-01-02",
        "true",
        '["a", "b"]',
        '{"n": 1, "d": "2026-01-02"}',
        "0.5",
        "/w==",
    ]
    assert rows[2][:6] == [""] * 6


def test_parquet_is_the_same_table() -> None:
    copy = pq.read_table(io.BytesIO(written(TABLE.drop(["number"]), "parquet")))
    assert copy.to_pylist() == TABLE.drop(["number"]).to_pylist()
    assert copy.schema.field("total").type == pa.decimal128(18, 4)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InputError, match="csv, json, parquet"):
        written(TABLE, "xlsx")
