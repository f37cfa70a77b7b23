"""`docflash sql` and `status` over one published library: every form of output, every refusal."""

import csv
import io
import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.home import Home

pytestmark = pytest.mark.flow

ROWS = "SELECT parse_filename(path) AS file, signed FROM quick ORDER BY file"


@pytest.fixture(scope="module")
def library(shared_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A library of two documents, one of which failed."""
    folder = tmp_path_factory.mktemp("library")
    home = Home(
        folder, shared_home.model, shared_home.environment | {"DOCFLASH_OUT": f"{folder}/out"}
    )
    home.documents.mkdir()
    home.write_task("quick")
    home.write(a="A letter.", b="Minutes.", empty="")
    done = home.run("--prompts", home.prompts, "--task", "quick")
    assert done.code == 1, done
    return home


def test_rows_as_json(library: Home) -> None:
    rows = library.docflash("sql", ROWS, "--json").json
    assert [row["file"] for row in rows] == ["a.txt", "b.txt"]
    assert {type(row["signed"]) for row in rows} == {bool}
    assert library.docflash("sql", ROWS, "--format", "json").json == rows


def test_rows_as_csv(library: Home) -> None:
    done = library.docflash("sql", ROWS, "-f", "csv")
    rows = list(csv.reader(io.StringIO(done.out)))
    assert (done.code, rows[0], [row[0] for row in rows[1:]]) == (
        0,
        ["file", "signed"],
        ["a.txt", "b.txt"],
    )


def test_rows_as_parquet(library: Home, tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    redirect = f"import os; os.dup2(os.open({str(file)!r}, os.O_WRONLY | os.O_CREAT), 1)"
    done = library.docflash("sql", ROWS, "--format", "parquet", before=redirect)
    assert (done.code, done.out) == (0, "")
    assert pq.read_table(file).column("file").to_pylist() == ["a.txt", "b.txt"]


def test_rows_as_a_table_that_cant_steer_the_terminal(library: Home) -> None:
    done = library.docflash("sql", "SELECT chr(27) || '[31mred' AS text, NULL AS n")
    assert done.code == 0
    assert "\\x1b[31mred" in done.out
    assert "\x1b" not in done.out
    assert [line.split()[0] for line in done.out.splitlines() if line.strip()][:1] == ["text"]


@pytest.mark.parametrize(("width", "is_table"), [(60, False), (200, True)])
def test_a_result_too_wide_for_the_terminal_is_shown_row_by_row(
    library: Home, width: int, *, is_table: bool
) -> None:
    names = [f"column_{number}" for number in range(8)]
    columns = ", ".join(f"'value {number}' AS {name}" for number, name in enumerate(names))
    lines = library.on_a_terminal(width, "sql", f"SELECT {columns}")
    assert all(len(line) <= width for line in lines)
    assert names in [line.split() for line in lines] if is_table else lines[0].startswith("1 ──")
    for number, name in enumerate(names):
        assert is_table or lines[1 + number].split() == [name, "value", str(number)]


def test_elsewhere_the_layout_is_that_of_the_rows_alone(library: Home) -> None:
    wide = ", ".join(f"'value {number}' AS column_{number}" for number in range(30))
    for statement, is_table in ((f"SELECT {wide}", False), ("SELECT 1 AS one", True)):
        plain = library.docflash("sql", statement)
        narrow = library.with_environment(COLUMNS="40").docflash("sql", statement)
        assert (plain.code, plain.out) == (0, narrow.out)
        assert plain.out.startswith("1 ──") is not is_table


def test_a_long_cell_and_many_rows_say_what_is_left_out(library: Home) -> None:
    done = library.docflash("sql", "SELECT repeat('x', 500) AS long")
    assert "... (+100 characters)" in " ".join(done.out.split())
    many = library.docflash("sql", "SELECT range FROM range(1005)")
    assert "... and 5 more rows; --format csv prints all" in many.err


def test_without_a_statement_the_tables_are_listed(library: Home) -> None:
    names: list[str] = library.docflash("sql", "--json").json
    tables = ["runs", "files", "documents", "pages", "chunks", "jobs", "summaries", "failures"]
    assert set(names) > {*tables, "evidence", "quick", "extractions_quick"}
    assert library.docflash("sql").out.split()[2:] == names


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELEC 1", "the SQL has a mistake"),
        ("FROM summarys", "there is no table named 'summarys'; did you mean 'summary'?"),
        ("DROP TABLE runs", "is not for reading"),
        ("SELECT 1; SELECT 2", "statements=2"),
        ("FROM read_text('/etc/passwd')", "a query may read the published tables"),
    ],
)
def test_other_statements_are_refused(library: Home, statement: str, message: str) -> None:
    done = library.docflash("sql", statement, "--json")
    assert (done.code, done.error["kind"]) == (2, "InputError")
    assert message in done.error["message"]
    plain = library.docflash("sql", statement)
    assert (plain.code, plain.out) == (2, "")
    assert plain.err.startswith("docflash: ")


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS limits no process's memory")
@pytest.mark.parametrize(
    "bomb",
    [
        "FROM range(20000000000)",  # DuckDB's limit does not count the rows that it hands over,
        "SELECT length(format('{:>2000000000}', 1))",  # nor what a function has for itself
    ],
)
def test_a_query_takes_no_more_memory_than_it_may(library: Home, bomb: str) -> None:
    less = "import flows.cli_query; flows.cli_query.memory_bytes = lambda: 1 << 30"
    done = library.docflash("sql", bomb, "--json", before=less)
    assert (done.code, done.error["kind"]) == (2, "InputError")
    assert "memory" in done.error["message"]


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet"])
def test_values_that_cant_be_written_are_told(library: Home, form: str) -> None:
    value = "INTERVAL 1 YEAR" if form == "parquet" else "DATE '290000-01-01'"
    done = library.docflash("sql", f"SELECT {value} AS late", "--format", form)
    assert done.code == 2, done.err
    assert "cast it to VARCHAR" in done.err


def test_a_reader_that_leaves_ends_the_query_in_silence(library: Home) -> None:
    leave = "import os; r, w = os.pipe(); os.close(r); os.dup2(w, 1)"
    rows = "SELECT range, repeat('x', 100) FROM range(5000)"
    done = library.docflash("sql", rows, "--format", "csv", before=leave)
    assert (done.code, done.out, done.err) == (0, "", "")


def test_status(library: Home) -> None:
    status: dict[str, Any] = library.docflash("status", "--json").json
    assert {name: status[name] for name in ("files", "documents", "documents_failed")} == {
        "files": 3,
        "documents": 3,
        "documents_failed": 1,
    }
    assert (status["answers"], status["answers_pending"], status["failures"]) == (2, 0, 1)
    assert status["tables"] == str(library.out / "latest")
    (run,) = status["runs"]
    assert run["state"] == "done"
    assert run["answers_a_minute"] > 0
    assert run["tokens_a_second"] > 0
    (failing,) = status["failing"]
    assert (failing["kind"], failing["at"], failing["such_as"]) == ("empty", "reading", "empty.txt")
    zone = library.with_environment(TZ="EAST-03:00")
    plain = zone.docflash("status")
    assert plain.code == 0
    assert "answers pending" in plain.out
    started = datetime.fromisoformat(status["runs"][0]["started"]) + timedelta(hours=3)
    assert f" {started:%Y-%m-%d %H:%M} " in plain.out


def test_status_loads_nothing_heavy(library: Home) -> None:
    # Seconds would depend on the machine; what makes most of them does not.
    told = library.docflash("status", before=_TELL_HEAVY).err
    assert told == "heavy: []\n"


_TELL_HEAVY = """
import atexit, sys
heavy = {"numpy", "pyarrow", "prefect", "mlx", "pypdf", "fastapi"}
atexit.register(lambda: print("heavy:", sorted(heavy & set(sys.modules)), file=sys.stderr))
"""


@pytest.mark.parametrize("command", [["sql", "FROM runs"], ["sql"], ["status"]])
def test_without_a_library_it_is_said_what_to_do(
    library: Home, tmp_path: Path, command: list[str]
) -> None:
    done = library.docflash(*command, "--out", tmp_path, "--json")
    assert (done.code, done.error["kind"]) == (2, "InputError")
    assert "run `docflash run FOLDER` first" in done.error["message"]


def test_json_is_one_value_on_standard_output(library: Home) -> None:
    done = library.docflash(
        "sql", "SELECT 1.5::DECIMAL(4,2) AS d, DATE '2026-01-02' AS t", "--json"
    )
    assert json.loads(done.out) == [{"d": 1.5, "t": "2026-01-02"}]
    assert done.err == ""
