"""Fields that are named as words of SQL are asked for, stored, published and queried as any."""

from pathlib import Path
from typing import Any

from pipeline.evidence import Evidence
from pipeline.parquet import publish
from pipeline.queries import query
from pipeline.report import write_report
from pipeline.task_files import read_task
from tests.library import READER, make_document, make_file, make_result, open_library, plan

TASK = """
instructions = "Copy."
[fields]
select = "string"
order = "decimal"
group = { type = "list", items = "string" }
table = "boolean"
null = "integer"
from = "date"
where = { type = "object", fields = { end = "string", join = "integer" } }
"""
VALUE: dict[str, Any] = {
    "select": "a; DROP TABLE files; --",
    "order": "1.5",
    "group": ["by", "'"],
    "table": True,
    "null": 0,
    "from": None,
    "where": {"end": '"', "join": 2},
}


def test_words_of_sql_are_names_like_others(tmp_path: Path) -> None:
    task, problems = read_task("prompts/union.toml", TASK)
    assert not problems
    assert task is not None
    with open_library(tmp_path, "run1") as store:
        store.documents.save("run1", READER, [(make_file("a.txt"), make_document("a; DROP"))])
        for job in plan(store, "run1", task).pending:
            evidence = (Evidence("select", 0, "a; DROP", "unsupported"),)
            store.jobs.finish("run1", job, make_result(job, VALUE, evidence=evidence))
        publish(store, [task], "run1")
    sql = 'SELECT "select", "order", "group", "table", "null", "from", "where" FROM "union"'
    [row] = query(tmp_path, sql).to_pylist()
    assert {**row, "order": str(row["order"].normalize())} == VALUE
    [row] = query(tmp_path, "SELECT field, value FROM evidence").to_pylist()
    assert row == {"field": "select", "value": "a; DROP"}
    page = tmp_path / "report.html"
    write_report(tmp_path, page)
    assert page.stat().st_size
