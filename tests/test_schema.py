"""Every schema compiles in the engine's grammar library, and holds answers to what is stored."""

import json
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from pipeline.errors import ResultError
from pipeline.prompts import load_tasks
from pipeline.records import Field, Task
from pipeline.results import parse_result
from pipeline.schema import answer_schema, arrow_type, duckdb_type
from pipeline.task_files import read_task
from tests.byte_tokenizer import write_tokenizer

EVERY_TYPE = """
instructions = "Copy."
[fields.name]
type = "string"
max_chars = 12
[fields.count]
type = "integer"
[fields.total]
type = "decimal"
[fields.day]
type = "date"
[fields.paid]
type = "boolean"
[fields.tone]
type = "enum"
values = ["kind", "cold \\"quoted\\""]
[fields.tags]
type = "list"
items = { type = "string", max_chars = 8 }
max_items = 3
[fields.party]
type = "object"
[fields.party.fields]
name = { type = "string", required = true }
share = "decimal"
"""
NULLS: dict[str, Any] = {
    "name": None, "count": None, "total": None, "day": None, "paid": None, "tone": None,
    "tags": [], "party": None,
}  # fmt: skip


def task_of(text: str) -> Task:
    task, problems = read_task("prompts/example.toml", text)
    assert not problems
    assert task is not None
    return task


TASK = task_of(EVERY_TYPE)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> LLTokenizer:
    path = write_tokenizer(Path(tmp_path_factory.mktemp("tokenizer")) / "tokenizer.json")
    return LLTokenizer(str(path), eos_token=2)


def accepts(tokenizer: LLTokenizer, schema: dict[str, Any] | None, text: str) -> bool:
    assert schema is not None
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(schema), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = tokenizer.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize("task", load_tasks(), ids=lambda task: task.name)
@pytest.mark.parametrize("partial", [False, True])
def test_built_in_schemas_compile_without_warnings(
    task: Task, partial: bool, tokenizer: LLTokenizer
) -> None:
    schema = answer_schema(task, partial=partial)
    if task.kind == "text":
        assert schema is None
        return
    assert schema is not None
    grammar = LLMatcher.grammar_from_json_schema(schema)
    assert LLMatcher.validate_grammar_with_warnings(grammar, tokenizer) == (False, [])
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("name", ["Ada", "", 'a "b" \\ c', "two\nlines", "日本語", None], [" Ada", "x" * 13, 5]),
        ("count", ["0", "-12", "9" * 18, None], ["007", "1,234", "9" * 19, "1.5", 5, "-"]),
        ("total", ["0", "-0.5", "1234.5678", "9" * 14, None], ["1,2", "1.", ".5", "1.23456"]),
        ("day", ["2024-02-29", "2000-02-29"], ["2023-02-29", "2024-04-31", "1900-02-29"]),
        ("paid", [True, False, None], ["true", 1]),
        ("tone", ["kind", 'cold "quoted"', None], ["cold", ""]),
        ("tags", [[], ["a"], ["a", "b", "c"]], [None, ["a"] * 4, ["x" * 9]]),
        ("party", [{"name": "A", "share": "1.5"}], [{"name": "A"}, {"share": None, "name": "A"}]),
    ],
)  # fmt: skip
def test_the_grammar_allows_exactly_what_is_stored(
    name: str, good: list[Any], bad: list[Any], tokenizer: LLTokenizer
) -> None:
    schema = answer_schema(TASK)
    for value in good:
        text = compact(NULLS | {name: value})
        assert accepts(tokenizer, schema, text), text
        assert list(parse_result(TASK, text)) == list(NULLS)
    for value in bad:
        text = compact(NULLS | {name: value})
        assert not accepts(tokenizer, schema, text), text


def test_white_space_and_other_orders_are_refused(tokenizer: LLTokenizer) -> None:
    schema = answer_schema(TASK)
    assert not accepts(tokenizer, schema, json.dumps(NULLS))
    assert not accepts(tokenizer, schema, compact(dict(reversed(NULLS.items()))))
    assert not accepts(tokenizer, schema, compact(NULLS | {"more": 1}))


def test_required_fields_may_be_missing_in_a_part_only(tokenizer: LLTokenizer) -> None:
    task = task_of(
        'instructions = "Copy."\n[fields.a]\ntype = "date"\nrequired = true\n'
        '[fields.b]\ntype = "list"\nitems = "date"\nrequired = true\n'
    )
    nothing = compact({"a": None, "b": []})
    assert accepts(tokenizer, answer_schema(task, partial=True), nothing)
    assert not accepts(tokenizer, answer_schema(task), nothing)
    assert parse_result(task, nothing, partial=True) == {"a": None, "b": []}
    with pytest.raises(ResultError, match="'a' is empty"):
        parse_result(task, nothing)


def test_a_part_can_say_nothing_of_required_text_only_by_empty_text(
    tokenizer: LLTokenizer,
) -> None:
    task = task_of(
        'instructions = "Copy."\n[fields.a]\ntype = "string"\nrequired = true\n'
        '[fields.b]\ntype = "list"\nitems = "string"\nrequired = true\n'
    )
    schema = answer_schema(task, partial=True)
    assert not accepts(tokenizer, schema, compact({"a": None, "b": ["x"]}))
    assert not accepts(tokenizer, schema, compact({"a": "x", "b": []}))
    nothing = compact({"a": "", "b": [""]})
    assert accepts(tokenizer, schema, nothing)
    assert parse_result(task, nothing, partial=True) == {"a": None, "b": []}
    with pytest.raises(ResultError, match="'a' is empty"):
        parse_result(task, nothing)


def test_a_class_is_one_of_its_words(tokenizer: LLTokenizer) -> None:
    task = task_of('instructions = "Which?"\nclasses = ["invoice", "letter"]\n')
    schema = answer_schema(task)
    assert accepts(tokenizer, schema, '"invoice"')
    assert not accepts(tokenizer, schema, '"memo"')
    assert not accepts(tokenizer, schema, "invoice")


@settings(max_examples=60, deadline=None)
@given(st.dates(date(1000, 1, 1), date(2999, 12, 31)))
def test_each_real_day_fits_its_pattern_and_the_day_after_february_does_not(day: date) -> None:
    schema = answer_schema(TASK)
    assert schema is not None
    pattern = schema["properties"]["day"]["anyOf"][0]
    jsonschema.validate(day.isoformat(), pattern)
    first = date(day.year, 3, 1) - timedelta(days=1)
    impossible = f"{day.year:04}-02-{first.day + 1}"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(impossible, pattern)


def test_values_fit_their_arrow_and_duckdb_types() -> None:
    value = parse_result(
        TASK,
        compact(
            {
                "name": "Ada", "count": "12", "total": "1234.5", "day": "2024-02-29",
                "paid": True, "tone": "kind", "tags": ["a", "b"],
                "party": {"name": "A", "share": "0.25"},
            }
        ),
    )  # fmt: skip
    table = pa.table(
        {field.name: pa.array([value[field.name]], arrow_type(field)) for field in TASK.fields}
    )
    columns = ", ".join(f'"{field.name}" {duckdb_type(field)}' for field in TASK.fields)
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE answers ({columns})")
        connection.register("incoming", table)
        connection.execute("INSERT INTO answers SELECT * FROM incoming")
        row = connection.execute("SELECT * FROM answers").fetchone()
    assert row == (
        "Ada", 12, Decimal("1234.5000"), date(2024, 2, 29), True, "kind", ["a", "b"],
        {"name": "A", "share": Decimal("0.2500")},
    )  # fmt: skip


def test_names_of_members_are_quoted() -> None:
    member = Field("select", "integer")
    assert duckdb_type(Field("x", "object", fields=(member,))) == 'STRUCT("select" BIGINT)'
    assert duckdb_type(Field("x", "list", items=member)) == "BIGINT[]"
