"""Answers are typed or refused in words that can be shown; parts are joined by written rules."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ResultError
from pipeline.merging import distinct, merge_fields
from pipeline.records import Field, Limits, Task, TaskKind
from pipeline.results import parse_result
from pipeline.sentences import trim_to_sentence

XYZZY = "Xyzzy"


def task_of(*fields: Field, kind: TaskKind = "fields", classes: Sequence[str] = ()) -> Task:
    return Task(
        "t", "t", kind, ("*",), tuple(classes), "s", "i", "", fields, Limits(), (), "f", "t.toml"
    )


def parse(field: Field, value: Any) -> Any:
    return parse_result(task_of(field), json.dumps({field.name: value}))[field.name]


TEXTS = Field("a", "list", items=Field("a", "string", max_chars=9), max_items=3)
PARTY = Field("a", "object", fields=(Field("n", "string", required=True), Field("d", "date")))


@pytest.mark.parametrize(
    ("field", "value", "typed"),
    [
        (Field("a", "string"), "  Ada ", "Ada"),
        (Field("a", "string"), " ", None),
        (Field("a", "string"), None, None),
        (Field("a", "integer"), "-12", -12),
        (Field("a", "integer"), 12, 12),
        (Field("a", "decimal"), "12.50", Decimal("12.50")),
        (Field("a", "decimal"), "-0.0", Decimal("0.0")),
        (Field("a", "decimal"), 1e3, Decimal("1000.0")),
        (Field("a", "decimal"), 7, Decimal(7)),
        (Field("a", "date"), "2024-02-29", date(2024, 2, 29)),
        (Field("a", "boolean"), False, False),
        (Field("a", "enum", values=("x",)), "x", "x"),
        (TEXTS, ["b", "a", "B ", "", None], ["b", "a"]),
        (PARTY, {"n": "A", "d": "2024-01-02"}, {"n": "A", "d": date(2024, 1, 2)}),
        (PARTY, {"n": "", "d": "2024-01-02"}, None),
        (
            Field("a", "list", items=PARTY),
            [{"n": "A", "d": None}, {"n": "", "d": None}],
            [{"n": "A", "d": None}],
        ),
    ],
)
def test_values_get_their_types(field: Field, value: Any, typed: Any) -> None:
    if isinstance(value, list):
        field = Field("a", "list", items=field.items, max_items=5)
    parsed = parse(field, value)
    assert parsed == typed
    assert type(parsed) is type(typed)
    assert str(parsed) == str(typed)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        (Field("a", "string"), 5, "'a' is not text in quotes"),
        (Field("a", "string", max_chars=4), XYZZY, "more than 4 characters"),
        (Field("a", "string"), XYZZY + "\x00", "control characters"),
        (Field("a", "string"), XYZZY + "\ud800", "control characters"),
        (Field("a", "integer"), XYZZY, "not a whole number of at most 18 digits"),
        (Field("a", "integer"), 10**18, "not a whole number"),
        (Field("a", "integer"), True, "not a whole number"),
        (Field("a", "decimal"), "1,5", "not a number with at most 14 digits before"),
        (Field("a", "decimal"), "1.23456", "not a number"),
        (Field("a", "decimal"), 10**14, "not a number"),
        (Field("a", "decimal"), True, "not a number"),
        (Field("a", "date"), "2023-02-29", "not a real date written as YYYY-MM-DD"),
        (Field("a", "date"), "20230228", "not a real date"),
        (Field("a", "boolean"), "true", "not true or false"),
        (Field("a", "enum", values=("x", "y")), XYZZY, "not one of x, y"),
        (TEXTS, XYZZY, "'a' is not a list"),
        (TEXTS, [XYZZY] * 4, "more than 3 items"),
        (TEXTS, [3], "an item of 'a' is not text"),
        (PARTY, [XYZZY], "'a' is not a JSON object"),
        (PARTY, {"n": XYZZY}, "'a' lacks the field 'd'"),
        (PARTY, {"n": None, "d": None}, "'n' is empty"),
        (PARTY, {"n": "A", "d": None, XYZZY: 1}, "not asked for; only n, d"),
        (Field("a", "string", required=True), None, "'a' is empty; it needs a value"),
        (Field("a", "list", required=True, items=Field("a", "date")), [], "'a' is empty"),
    ],
)
def test_invalid_values_are_told_without_repeating_them(
    field: Field, value: Any, told: str
) -> None:
    with pytest.raises(ResultError) as caught:
        parse(field, value)
    assert told in str(caught.value)
    assert XYZZY not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"a": NaN}', '{"a": 1, "a": 2}', "x" + XYZZY, "[" * 100_000, "1" * 5000, "[]", "3"],
)
def test_what_is_not_the_json_asked_for_is_refused(text: str) -> None:
    with pytest.raises(ResultError) as caught:
        parse_result(task_of(Field("a", "integer")), text)
    assert caught.value.kind in ("invalid_json", "invalid_value")
    assert XYZZY not in str(caught.value)


def test_a_number_with_a_huge_exponent_is_refused_at_once() -> None:
    for text in ('{"a": 1e999999}', '{"a": 1e-999999}'):
        with pytest.raises(ResultError, match="not a number"):
            parse_result(task_of(Field("a", "decimal")), text)


def test_text_and_class_answers() -> None:
    assert parse_result(task_of(kind="text"), " Fine. \n") == "Fine."
    with pytest.raises(ResultError, match="empty"):
        parse_result(task_of(kind="text"), " \n")
    which = task_of(kind="class", classes=["letter", "other"])
    assert parse_result(which, '"letter"') == "letter"
    for text in (f'"{XYZZY}"', "[]", "{}", "null"):
        with pytest.raises(ResultError, match="not one of letter, other"):
            parse_result(which, text)


@given(st.text(max_size=80))
def test_any_answer_gives_a_value_or_a_result_error(text: str) -> None:
    for field in (Field("a", "decimal"), TEXTS, PARTY):
        for answer in (text, json.dumps({"a": text}), json.dumps({"a": [text]})):
            try:
                value = parse_result(task_of(field), answer)
            except ResultError:
                continue
            assert list(value) == ["a"]


@pytest.mark.parametrize(
    ("text", "trimmed"),
    [
        ("One. Two. Thr", "One. Two."),
        ('He said "Go!" and then', 'He said "Go!"'),
        ("It costs 1.5 dollars and", ""),
        ("Signed by Mr. A. Smith of", ""),
        ("Done. Signed by Dr. Who and", "Done."),
        ("契約は終了します。次の会", "契約は終了します。"),
        ("All of it.", "All of it."),
        ("First.\n2. Sec", "First."),
        ("", ""),
    ],
)
def test_a_cut_text_ends_with_its_last_full_sentence(text: str, trimmed: str) -> None:
    assert trim_to_sentence(text) == trimmed


def merged(field: Field, *values: Any) -> tuple[Any, bool]:
    result = merge_fields(task_of(field), [{field.name: value} for value in values])
    return result.value[field.name], result.cut


@pytest.mark.parametrize(
    ("most", "kept"),
    [(0, "One. Two! Mr. Three?\n\n- Four"), (2, "One. Two!"), (3, "One. Two! Mr. Three?")],
)
def test_text_has_no_more_sentences_than_it_may(most: int, kept: str) -> None:
    task = replace(task_of(kind="text"), limits=Limits(max_sentences=most))
    assert parse_result(task, " One. Two! Mr. Three?\n\n- Four ") == kept


def test_plain_values_go_by_agreement_then_by_order() -> None:
    field = Field("a", "string")
    assert merged(field, None, "B", "A", "a ", None) == ("A", False)
    assert merged(field, None, "B", "A") == ("B", False)
    assert merged(field, None, None) == (None, False)
    assert merged(Field("a", "decimal"), Decimal("1.5"), Decimal(2), Decimal("2.00")) == (2, False)
    assert merged(Field("a", "boolean"), *[None, False]) == (False, False)


def test_an_object_is_the_fullest_and_never_mixed() -> None:
    first, second = {"n": "A", "d": None}, {"n": "B", "d": date(2024, 1, 1)}
    assert merged(PARTY, first, second, None) == (second, False)
    assert merged(PARTY, first, {"n": "C", "d": None}) == (first, False)


def test_lists_are_joined_once_each_in_order() -> None:
    field = Field("a", "list", items=Field("a", "string"), max_merged_items=10)
    assert merged(field, ["a", "b"], [], ["B", "c"]) == (["a", "b", "c"], False)


def test_a_list_that_is_too_long_takes_from_all_parts_and_says_so() -> None:
    field = Field("a", "list", items=Field("a", "string"), max_merged_items=4)
    parts = [[f"{part}-{place}" for place in range(3)] for part in range(3)]
    assert merged(field, *parts) == (["0-0", "0-1", "1-0", "2-0"], True)
    many = [[str(part)] for part in range(100)]
    assert merged(field, *many) == (["0", "25", "50", "75"], True)


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=5), max_size=6), st.integers(1, 9))
def test_merged_lists_keep_order_bounds_and_difference(parts: list[list[str]], most: int) -> None:
    field = Field("a", "list", items=Field("a", "string"), max_merged_items=most)
    items, cut = merged(field, *parts)
    everything = distinct(item for part in parts for item in part)
    assert len(items) == min(len(everything), most)
    assert cut == (len(everything) > most)
    assert items == [item for item in everything if item in items]


def test_a_required_field_that_no_part_gives_is_a_failure() -> None:
    with pytest.raises(ResultError, match=r"required field 'a'.*required = false in the task 't'"):
        merged(Field("a", "date", required=True), None, None)
