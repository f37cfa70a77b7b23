"""Comparison by types, ROUGE-L, judgements and their sums."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.answers import Found, Quote
from pipeline.evaluation.baseline import baseline_answer
from pipeline.evaluation.baseline_values import find_dates, read_decimal
from pipeline.evaluation.compare import Counts, compare
from pipeline.evaluation.evaluate import sample_gold
from pipeline.evaluation.gold import Gold, GoldAnswer, GoldDocument
from pipeline.evaluation.judging import judge
from pipeline.evaluation.rouge import coverage, rouge_l
from pipeline.evaluation.scores import Score, score
from pipeline.records import Field, Task
from tests.library import INVOICE_FIELDS, make_task

TEXT = Field("name", "string", max_chars=100)
SUBJECT = Field("subject", "string", max_chars=160)
DATE = Field("day", "date")
SUM = Field("total", "decimal")
TAGS = Field("tags", "list", items=TEXT)
LINES = Field(
    "lines",
    "list",
    items=Field("line", "object", fields=(Field("text", "string"), Field("amount", "decimal"))),
)
NINE = date(2026, 4, 9)


def counts(field: Field, expected: Any, found: Any, *also: Any) -> tuple[int, int, int]:
    result = compare(field, expected, found, also).counts
    return result.right, result.wrong, result.missed


@pytest.mark.parametrize(
    ("field", "expected", "found", "wanted"),
    [
        (DATE, NINE, NINE, (1, 0, 0)),
        (DATE, NINE, date(2026, 9, 4), (0, 1, 1)),
        (DATE, NINE, None, (0, 0, 1)),
        (DATE, None, NINE, (0, 1, 0)),
        (DATE, None, None, (0, 0, 0)),
        (SUM, Decimal("10.00"), Decimal(10), (1, 0, 0)),
        (SUM, Decimal(0), Decimal(0), (1, 0, 0)),
        (TEXT, "Ann  Lee", " ann lee.", (1, 0, 0)),
        (TEXT, "Eleanor Whitlock", "Mrs Eleanor Whitlock", (1, 0, 0)),
        (TEXT, "Ann Lee", "Ann Leeson", (0, 1, 1)),
        (TEXT, "Drummond", "ummond", (0, 1, 1)),
        (TEXT, "the lime tree is cut back", "Decided: the lime tree is cut back.", (1, 0, 0)),
        (TEXT, "the lime tree is cut back", "the fee is raised to 24 from May", (0, 1, 1)),
        (SUBJECT, "supply of seasonal fruit", "the supply of seasonal fruit", (1, 0, 0)),
        (SUBJECT, "Ann Lee", "Ann Lee and others", (0, 1, 1)),
        (TEXT, "supply of seasonal fruit", "the supply of seasonal fruit", (0, 1, 1)),
        (TAGS, ["a", "b", "c"], ["C", "a", "d"], (2, 1, 1)),
        (TAGS, [], ["a"], (0, 1, 0)),
        (TAGS, ["a", "b"], None, (0, 0, 2)),
        (TAGS, ["a"], ["a", "a"], (1, 1, 0)),
    ],
)
def test_values_are_compared_by_their_types(
    field: Field, expected: Any, found: Any, wanted: tuple[int, int, int]
) -> None:
    assert counts(field, expected, found) == wanted


def test_another_right_value_is_right() -> None:
    assert counts(TEXT, "GBP", "£", "£") == (1, 0, 0)
    assert counts(DATE, None, NINE, NINE) == (1, 0, 0)


def test_lines_are_paired_by_what_agrees() -> None:
    expected = [{"text": "Oak", "amount": Decimal(5)}, {"text": "Oak", "amount": Decimal(7)}]
    found = [{"text": "Oak", "amount": Decimal(7)}, {"text": "Elm", "amount": Decimal(9)}]
    assert counts(LINES, expected, found) == (2, 2, 2)
    assert compare(LINES, expected, found).right_items == frozenset({0})


def test_each_value_has_a_verdict_at_its_place() -> None:
    expected = [{"text": "Oak", "amount": Decimal(5)}, {"text": "Ash", "amount": None}]
    found = [
        {"text": "Elm", "amount": Decimal(9)},
        {"text": "oak", "amount": Decimal(6)},
        {"text": "Ash", "amount": Decimal(1)},
    ]
    assert compare(LINES, expected, found).verdicts == {
        (0, "text"): False, (0, "amount"): False,
        (1, "text"): True, (1, "amount"): False,
        (2, "text"): True, (2, "amount"): False,
    }  # fmt: skip
    assert compare(LINES, [{"text": "Oak"}], [found[1]]).verdicts == {(0, "text"): True}
    assert compare(TAGS, ["a", "b"], ["c", "B"]).verdicts == {(0, ""): False, (1, ""): True}
    assert compare(DATE, NINE, NINE).verdicts == {(0, ""): True}
    assert compare(DATE, None, NINE).verdicts == {(0, ""): False}
    assert compare(DATE, NINE, None).verdicts == {}


def test_members_that_are_not_labelled_are_not_judged() -> None:
    assert counts(LINES, [{"text": "Oak"}], [{"text": "oak", "amount": Decimal(1)}]) == (1, 0, 0)


@given(st.lists(st.text(max_size=6), max_size=6), st.lists(st.text(max_size=6), max_size=6))
def test_no_item_is_counted_twice(expected: list[str], found: list[str]) -> None:
    right, wrong, missed = counts(TAGS, expected, found)
    assert right + missed == len(expected)
    assert right + wrong == len(found)


def test_rouge_l_is_the_longest_common_subsequence() -> None:
    # Lin 2004, section 3.2: S1 "police killed the gunman" against the candidates S2 and S3.
    assert rouge_l("police killed the gunman", "police kill the gunman") == pytest.approx(0.75)
    assert rouge_l("police killed the gunman", "the gunman kill police") == pytest.approx(0.5)
    assert rouge_l("a b", "") == 0.0


@given(st.text(), st.text())
def test_rouge_l_is_a_share(one: str, two: str) -> None:
    assert 0.0 <= rouge_l(one, two) <= 1.0
    assert rouge_l(one, two) == pytest.approx(rouge_l(two, one))


def test_coverage_looks_for_each_fact_in_its_forms() -> None:
    facts = (("1,660.00", "1660"), ("Ann Lee",), ("secur",))
    assert coverage(facts, "Total 1,660.00, how to deploy securely") == pytest.approx(2 / 3)
    assert coverage((("330",),), "3305 hours") == 0.0
    assert coverage((), "anything") is None


def judged(fields: dict[str, Any], found: Found, **beside: Any) -> tuple[Score, ...]:
    task = make_task("invoice", "fields", fields=INVOICE_FIELDS)
    gold = GoldAnswer("invoice", fields, **beside)
    document = GoldDocument("a.pdf", "test", (gold,))
    return score("docflash", list(judge(document, gold, task, found)))


def test_a_score_has_what_was_judged() -> None:
    truth = {"number": "7", "total": Decimal(5), "due": None, "tags": []}
    answer = {"number": "7", "total": Decimal(6), "due": NINE, "tags": [], "paid": True}
    quotes = (
        Quote("number", 0, frozenset({2})),
        Quote("total", 0, frozenset({1})),
        Quote("due", 0, frozenset({1})),
    )
    head, *rows = judged(truth, Found(answer, quotes=quotes), pages={"number": frozenset({2})})
    by_field = {row.field: row for row in rows}
    assert set(by_field) == set(truth)  # "paid" has no label
    assert by_field["number"].f1 == 1.0
    assert by_field["total"].f1 == 0.0
    assert by_field["due"].f1 is None
    assert (by_field["due"].precision, by_field["due"].null_accuracy) == (0.0, 0.0)
    assert head.f1 == 0.5
    assert (head.nulls, head.null_accuracy) == (2, 0.5)
    assert (head.quotes, head.evidence_precision) == (3, pytest.approx(1 / 3))


def test_evidence_from_another_page_is_not_right() -> None:
    found = Found({"number": "7"}, quotes=(Quote("number", 0, frozenset({1})),))
    head = judged({"number": "7"}, found, pages={"number": frozenset({2})})[0]
    assert (head.f1, head.evidence_precision) == (1.0, 0.0)


def test_a_missing_answer_is_missed_and_says_nothing_of_nulls() -> None:
    head = judged({"number": "7", "due": None}, Found(None, "cut"))[0]
    assert (head.answered, head.recall, head.null_accuracy) == (0, 0.0, 0.0)


def test_text_is_judged_by_its_words() -> None:
    task = make_task("summary")
    gold = GoldAnswer("summary", "Ann owes 5.", {"": ("Five is owed.",)}, facts=(("Ann",),))
    document = GoldDocument("a.pdf", "", (gold,))
    (row,) = score("docflash", list(judge(document, gold, task, Found("Ann owes 5."))))
    assert (row.rouge_l, row.coverage, row.f1) == (1.0, 1.0, None)


def test_a_class_is_right_or_wrong() -> None:
    task = make_task("document_class", "class", classes=("letter", "report"))
    gold = GoldAnswer("document_class", "letter", {"": ("report",)})
    document = GoldDocument("a.pdf", "", (gold,))
    (row,) = score("docflash", list(judge(document, gold, task, Found("report"))))
    assert row.f1 == 1.0


def test_a_sample_is_spread_evenly() -> None:
    documents = tuple(GoldDocument(f"{n}", "", ()) for n in range(10))
    gold = Gold(Path("/"), documents, 0)
    assert [one.name for one in sample_gold(gold, 5).documents] == ["0", "2", "4", "6", "8"]
    assert sample_gold(gold, 50) == gold


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("on 9 April 2026", NINE),
        ("April 9, 2026", NINE),
        ("the 9th day of April 2026", NINE),
        ("09/04/2026", NINE),
        ("2026-04-09", NINE),
        ("9. April 2026", NINE),
        ("9 avril 2026", NINE),
        ("09.04.26", NINE),
        ("04/30/2026", date(2026, 4, 30)),
    ],
)
def test_the_baseline_reads_dates(text: str, day: date) -> None:
    assert [found.value for found in find_dates(text)] == [day]


@pytest.mark.parametrize("digits", ["1,234.50", "1.234,50", "1 234,50", "1'234.50"])
def test_the_baseline_reads_sums(digits: str) -> None:
    assert read_decimal(digits) == Decimal("1234.50")


def test_the_baseline_answers_any_task() -> None:
    text = "Invoice no. A-17\nInvoice date: 9 April 2026\nColour: deep blue\nTotal due £5.00\n"
    fields = (
        *(Field("invoice_number", "string"), Field("invoice_date", "date"), SUM),
        *(Field("colour", "string"), Field("weight", "decimal"), TAGS),
    )
    task: Task = make_task("own", "fields", fields=fields)
    assert baseline_answer(task, text) == {
        "invoice_number": "A-17",
        "invoice_date": NINE,
        "total": Decimal("5.00"),
        "colour": "deep blue",
        "weight": None,
        "tags": [],
    }
    assert Counts() + Counts(1, 2, 3) == Counts(1, 2, 3)
