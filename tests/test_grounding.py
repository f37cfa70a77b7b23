"""Every quote stands at its span, whatever the model writes; what does not follow is flagged."""

import json
import random
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.claims import PartAnswer, Seen
from pipeline.derive import judge
from pipeline.engine.interface import Completion, TokenLogprob
from pipeline.errors import ResultError
from pipeline.forms import Form, choose_form, field_schema, quoted_schema
from pipeline.grounding import ground_answer
from pipeline.probabilities import Probabilities
from pipeline.reconcile import reconcile
from pipeline.records import Field, Task
from pipeline.results import load_members
from pipeline.task_files import read_task
from tests.library import make_document
from tests.test_engine_quoting import Bench

TASK_TEXT = """
instructions = "Copy."
[fields.name]
type = "string"
max_chars = 30
[fields.day]
type = "date"
[fields.total]
type = "decimal"
[fields.count]
type = "integer"
[fields.paid]
type = "boolean"
[fields.state]
type = "enum"
values = ["open", "closed"]
[fields.tags]
type = "list"
items = { type = "string", max_chars = 20 }
max_items = 2
[fields.lines]
type = "list"
max_items = 3
[fields.lines.items]
type = "object"
[fields.lines.items.fields]
what = { type = "string", required = true, max_chars = 20 }
sum = "decimal"
"""
FORMS: tuple[Form, ...] = ("one_call", "per_field")


def task_of(text: str) -> Task:
    task, problems = read_task("prompts/example.toml", text)
    assert not problems
    assert task is not None
    return task


TASK = task_of(TASK_TEXT)
PIECES = (
    *("\u0000", "\r\n", '"', "\\", "\u202e", "\ufb01le ", "e\u0301", "\u00ad", "\n\n", " ", "\t"),
    *("17.4.2026", "1,500.00", "(12.50)", "4/5/26", "30 days", "open", "no ", "yes", "5-", "null"),
    *("A-17", "\U0001f600", "\u05d0\u05d1", "x", "{}", "\u200d", "\ufeff", "Harbour Street"),
)
pages = st.lists(
    st.lists(st.sampled_from(PIECES) | st.characters(), max_size=12).map("".join),
    min_size=1,
    max_size=3,
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("tokenizer"))


def completion(text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> Completion:
    return Completion("x", text, "stop", 1, 0, 1, 0.0, 0.0, 0.0, logprobs)


def ground(task: Task, form: Form, answer: str, seen: Seen) -> PartAnswer:
    members = load_members(answer)
    fields = [field for field in task.fields if field.name in members]
    return ground_answer(fields, form, members, seen, Probabilities(completion(answer)))


def answers(task: Task, form: Form, seen: Seen) -> list[dict[str, Any]]:
    """The schemas of the questions about a text."""
    if form == "one_call":
        return [quoted_schema(task)]
    schemas = [field_schema(field, seen.shown, seen.context) for field in task.fields]
    return [schema for schema in schemas if schema is not None]


@pytest.mark.parametrize("form", FORMS)
@given(raw=pages, seed=st.integers(0, 2**32), data=st.data())
def test_whatever_a_model_writes_is_verbatim_at_its_span_or_flagged(
    bench: Bench, form: Form, raw: list[str], seed: int, data: Any
) -> None:
    document = make_document(*raw)
    text = document.text
    if not text.strip():
        return
    start = data.draw(st.integers(0, len(text) - 1))
    seen = Seen(text, start, data.draw(st.integers(start + 1, len(text))))
    rng = random.Random(seed)
    parts = [
        ground(TASK, form, bench.wander(schema, seen.shown, rng, 300), seen)
        for schema in answers(TASK, form, seen)
    ]
    for part in parts:
        for claim in part.claims:
            if claim.place is not None:
                assert seen.start <= claim.place[0] < claim.place[1] <= seen.end
            if claim.is_supported:
                assert claim.place is not None
                quote = text[claim.place[0] : claim.place[1]]
                assert judge(field_at(claim.field), claim.value, quote)[0] != "unsupported"
            assert claim.reason or claim.is_supported
    value = {name: value for part in parts for name, value in part.value.items()}
    value |= {f.name: [] if f.type == "list" else None for f in TASK.fields if f.name not in value}
    whole = PartAnswer(value, tuple(claim for part in parts for claim in part.claims))
    for entry in reconcile(TASK, text, [whole]).evidence:
        assert (entry.value is None) == (entry.support == "not_found")
        for span in entry.spans:
            page = document.pages[span.page_number - 1]
            assert text[span.start_char : span.end_char] == span.quote
            begin = span.start_char - page.start_char
            assert page.text[begin : begin + len(span.quote)] == span.quote
            raw_start, raw_end = page.alignment.to_raw(begin, begin + len(span.quote))
            assert 0 <= raw_start < raw_end <= len(page.raw)


def field_at(path: str) -> Field:
    name, *inner = path.split(".")
    field = next(field for field in TASK.fields if field.name == name)
    field = field.items or field
    return next(each for each in field.fields if each.name == inner[0]) if inner else field


TEXT = (
    "Harbour Street\nPrint Works\n17 April 2026\nTotal due £1,660.00, paid: yes, 3 copies\n"
    "Cards 135.00\nBoards 462.00"
)
SEEN = Seen(TEXT, 0, len(TEXT))
NULLS = {"name": None, "day": None, "total": None, "count": None, "paid": None, "state": None}
EMPTY: dict[str, Any] = NULLS | {"tags": [], "lines": []}


def one(form: Form, **members: Any) -> tuple[Any, list[tuple[Any, ...]]]:
    """An answer's value, and (field, value, support, quote) of its evidence."""
    answer = ground(TASK, form, json.dumps(EMPTY | members), SEEN)
    found = reconcile(TASK, TEXT, [answer])
    rows = [
        (entry.field, entry.value, entry.support, "\f".join(span.quote for span in entry.spans))
        for entry in found.evidence
        if entry.value is not None
    ]
    return found.value, rows


def test_a_value_is_tied_to_its_quote() -> None:
    value, rows = one(
        "one_call",
        name={"quote": "Harbour Street\nPrint", "value": "harbour street print"},
        day={"quote": "17 April 2026\nTotal", "value": "2026-04-17"},
        total={"quote": "Total due £1,660.00", "value": "1660.00"},
        paid={"quote": "paid: yes", "value": True},
    )
    assert value["day"] == date(2026, 4, 17)
    assert rows == [
        ("name", "harbour street print", "verbatim", "Harbour Street\nPrint"),
        ("day", "2026-04-17", "derived", "17 April 2026\nTotal"),
        ("total", "1660.00", "derived", "Total due £1,660.00"),
        ("paid", "true", "derived", "paid: yes"),
    ]


def test_a_value_that_does_not_follow_is_flagged() -> None:
    _, rows = one(
        "one_call",
        name={"quote": "Boards", "value": "Acme"},
        day={"quote": "Total due", "value": "2026-04-17"},
        total={"quote": "135.00", "value": "136.00"},
        state={"quote": "Cards", "value": "open"},
    )
    assert [row[2] for row in rows] == ["unsupported"] * 4


def test_text_from_elsewhere_in_the_document_gets_the_place_where_it_stands() -> None:
    _, rows = one("one_call", name={"quote": "Boards", "value": "Harbour  street"})
    assert rows == [("name", "Harbour  street", "verbatim", "Harbour Street")]


def test_items_are_tied_member_by_member() -> None:
    lines = [
        {"quote": "Cards 135.00\nBoards", "what": "Cards", "sum": "135.00"},
        {"quote": "Boards 462.00", "what": "Planks", "sum": "462.00"},
    ]
    value, rows = one("one_call", lines=[*lines, lines[0]])
    assert [line["what"] for line in value["lines"]] == ["Cards", "Planks"]
    assert rows == [
        ("lines.what", "Cards", "verbatim", "Cards"),
        ("lines.sum", "135.00", "verbatim", "135.00"),
        ("lines.what", "Planks", "unsupported", "Boards 462.00"),
        ("lines.sum", "462.00", "verbatim", "462.00"),
    ]


def test_quotes_alone_become_values() -> None:
    value, rows = one(
        "per_field",
        name="Harbour Street\nPrint Works",
        day="Print Works\n17 April 2026",
        total="Total due £1,660.00",
        tags=["Cards 135.00\nBoards 462.00", "Harbour Street"],
        lines=[
            {"what": "Cards 135.00\nBoards 462.00", "sum": "Cards 135.00"},
            {"what": "Harbour Street", "sum": None},
        ],
    )
    assert value["name"] == "Print Works"
    assert value["tags"] == ["Boards 462.00", "Harbour Street"]
    assert value["total"] == Decimal("1660.00")
    assert value["lines"][0] == {"what": "Boards 462.00", "sum": Decimal("135.00")}
    assert {row[2] for row in rows} == {"verbatim", "derived"}
    assert ("name", "Print Works", "verbatim", "Harbour Street\nPrint Works") in rows
    assert ("total", "1660.00", "derived", "Total due £1,660.00") in rows


def test_values_without_quotes_are_looked_for() -> None:
    _, rows = one("free", name="print works", day="2026-04-17", total="9", state="open", count="3")
    assert rows == [
        ("name", "print works", "verbatim", "Print Works"),
        ("day", "2026-04-17", "derived", "17 April 2026"),
        ("total", "9", "unsupported", ""),
        ("count", "3", "verbatim", "3"),
        ("state", "open", "unsupported", ""),
    ]


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({"name": {"quote": "not there", "value": "x"}}, "invalid_quote"),
        ({"name": {"value": "x"}}, "invalid_value"),
        ({"name": "x"}, "invalid_value"),
        ({"lines": [{"quote": "Cards", "what": "Cards"}]}, "missing_field"),
        ({"tags": [{"quote": "Cards", "value": "a"}] * 3}, "invalid_value"),
        ({"day": {"quote": "Cards", "value": "2026-02-30"}}, "invalid_value"),
    ],
)
def test_an_answer_that_kept_to_no_grammar_is_refused(members: Any, kind: str) -> None:
    with pytest.raises(ResultError) as caught:
        one("one_call", **members)
    assert caught.value.kind == kind
    assert "Cards" not in str(caught.value)


def part(form: Form, start: int, end: int, **members: Any) -> PartAnswer:
    return ground(TASK, form, json.dumps(EMPTY | members), Seen(TEXT, start, end))


def test_parts_are_joined_by_support_agreement_and_position_and_losers_are_kept() -> None:
    middle = TEXT.index("Cards")
    wrong = {"quote": "Harbour", "value": "5"}
    parts = [
        part("one_call", 0, middle, total=wrong, name={"quote": "Print", "value": "Print"}),
        part("one_call", 0, middle, total=wrong),
        part("one_call", middle, len(TEXT), total={"quote": "135.00", "value": "135.00"}),
        part("one_call", middle, len(TEXT), total={"quote": "462.00", "value": "462.00"}),
    ]
    found = reconcile(TASK, TEXT, parts)
    assert found.value["total"] == Decimal("135.00")
    assert found.value["name"] == "Print"
    rows = [
        (entry.value, entry.chosen, entry.support)
        for entry in found.evidence
        if entry.field == "total"
    ]
    assert rows == [
        ("135.00", True, "verbatim"),
        ("5", False, "unsupported"),
        ("462.00", False, "verbatim"),
    ]
    missing = [entry for entry in found.evidence if entry.field == "day"]
    assert [(entry.value, entry.support) for entry in missing] == [(None, "not_found")]
    assert missing[0].reason


def test_confidence_is_of_the_tokens_that_were_chosen() -> None:
    tokens = [
        *(("{", 0.0, 1), ('"name":{"quote":', 0.0, 1), ('"Print"', -0.1, 2)),
        *((',"value":', 0.0, 1), ('"', -0.5, 2), ("Pr", -1.5, 2), ("int", 0.0, 1), ('"', -1.0, 2)),
        ("}}", 0.0, 1),
    ]
    text = "".join(token for token, _, _ in tokens)
    logprobs = tuple(TokenLogprob(t, p, (("", 0.0),) * top) for t, p, top in tokens)
    probabilities = Probabilities(completion(text, logprobs))
    assert probabilities.of(("name", "value")) == pytest.approx(2.718281828**-1)
    assert probabilities.of(("name", "quote")) == pytest.approx(2.718281828**-0.1)
    assert probabilities.of(("other",)) is None
    assert Probabilities(completion(text)).of(("name", "value")) is None


def test_confidence_finds_its_place_again_after_parts_of_characters() -> None:
    tokens = [('{"a":"', 1), *[("\ufffd", 1)] * 4, ('é",', 1), ('"b":', 1), ("true", 2), ("}", 1)]
    text = '{"a":"\U0001f600é","b":true}'
    logprobs = tuple(
        TokenLogprob(t, -0.7 if top > 1 else 0.0, (("", 0.0),) * top) for t, top in tokens
    )
    probabilities = Probabilities(completion(text, logprobs))
    assert probabilities.of(("b",)) == pytest.approx(2.718281828**-0.7)
    assert probabilities.of(("a",)) is None


def test_small_models_are_asked_field_by_field_unless_the_task_says_otherwise() -> None:
    from pipeline.engine.interface import ModelInfo

    small = ModelInfo("embedded", "", "f", 8192, "", 135_000_000)
    large = ModelInfo("large", "", "f", 8192, "", 4_000_000_000)
    unknown = ModelInfo("unknown", "", "f", 8192, "")
    assert choose_form(TASK, small) == "per_field"
    assert choose_form(TASK, large) == choose_form(TASK, unknown) == "one_call"
    told = task_of('form = "free"\n' + TASK_TEXT)
    assert choose_form(told, small) == "free"
    assert told.fingerprint != TASK.fingerprint


def test_a_form_that_does_not_exist_is_told(tmp_path: Path) -> None:
    _, problems = read_task("prompts/x.toml", 'form = "per_fild"\n' + TASK_TEXT)
    assert "per_field" in str(problems[0])
    _, problems = read_task("prompts/x.toml", 'form = "free"\ninstructions = "Sum up."\n')
    assert "remove it" in str(problems[0])
