"""Examples in a task's file: checked as answers are, shown in the form that is asked for."""

import contextlib
import dataclasses
import json
from pathlib import Path

import pytest

from pipeline.answers import answer_job
from pipeline.budget import chunk_limits
from pipeline.engine.interface import Message, ModelInfo
from pipeline.errors import InputError, ResultError
from pipeline.forms import field_schema, quoted_schema
from pipeline.messages import ask_about, ask_field, ask_for_quotes
from pipeline.records import Task
from pipeline.schema import answer_schema
from pipeline.task_files import read_task
from pipeline.tokens import load_tokens
from tests.byte_tokenizer import write_tokenizer
from tests.test_answers import JOB, ScriptedEngine, document_of, task_of
from tests.test_engine_quoting import Bench
from tests.test_field_answers import TEXT, by_field

FIELDS = """
instructions = "Copy these."
[limits]
max_tokens = 60
[fields.seller]
type = "string"
required = true
[fields.total]
type = "decimal"
[fields.due]
type = "date"
[fields.copies]
type = "integer"
[fields.paid]
type = "boolean"
[fields.currency]
type = "enum"
values = ["USD", "GBP"]
[fields.tags]
type = "list"
items = "string"
[fields.lines]
type = "list"
[fields.lines.items]
type = "object"
fields = { what = "string", sum = "decimal" }
[fields.ship]
type = "object"
fields = { city = "string", day = "date" }
"""
SHOWN = '''
[[examples]]
text = """
Alder Joiners
Invoice of 3 May 2019, not paid yet
Two oak doors 480.00
Total due £1,480.50 by 2 June 2019
To: Cork Harbour, on 4 May 2019
Copies: 3
"""
[examples.answer]
seller = "Alder Joiners"
total = { quote = "£1,480.50", value = 1480.50 }
due = { quote = "by 2 June 2019", value = 2019-06-02 }
copies = 3
paid = { quote = "not paid yet", value = false }
currency = { quote = "£", value = "GBP" }
tags = ["Alder Joiners", { quote = "oak doors", value = "oak doors" }]
lines = [{ quote = "Two oak doors 480.00", what = "Two oak doors", sum = "480.00" }]
ship = { quote = "Cork Harbour, on 4 May 2019", city = "Cork Harbour", day = 2019-05-04 }
'''
SHIPPED = "Cork Harbour, on 4 May 2019"
LITTLE = """
[[examples]]
text = "Bob & Sons, builders"
answer = { seller = "Bob & Sons" }
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def model(tmp_path: Path) -> ModelInfo:
    path = write_tokenizer(tmp_path / "tokenizer.json")
    return ModelInfo("embedded", str(tmp_path), "f", 8192, str(path), 135_000_000)


@pytest.fixture(scope="module")
def task() -> Task:
    return task_of(FIELDS + SHOWN + LITTLE)


def answers_in(messages: tuple[Message, ...]) -> list[str]:
    return [message.content for message in messages if message.role == "assistant"]


def problems_of(text: str) -> list[str]:
    task, problems = read_task("my-tasks/bill.toml", text)
    assert (task is None) == bool(problems)
    return [str(problem) for problem in problems]


def test_an_example_stands_before_the_document_as_a_question_with_its_answer(task: Task) -> None:
    (text, other) = (text for _, text in task.examples)
    for asked in (
        ask_for_quotes(task, "A title", "words", 2, 3),
        ask_about(task, "A title", "words", 2, 3),
        ask_field(task, task.fields[1], "A title", "words"),
    ):
        assert [m.role for m in asked] == ["system", *["user", "assistant"] * 2, "user"]
        assert asked[5].content.startswith("Document: A title\n\nwords\n\n---\n")
        question = asked[5].content.partition("---\n")[2]
        question = question.removesuffix("\nThis is part 2 of 3 of the document.")
        assert asked[1].content == f"Document:\n\n{text}\n\n---\n{question}"
        assert asked[3].content == f"Document:\n\n{other}\n\n---\n{question}"


def test_one_call_is_shown_quotes_and_values_and_null_for_the_rest(task: Task) -> None:
    one, other = answers_in(ask_for_quotes(task, "", "words"))
    shown = json.loads(one)
    assert shown["seller"] == {"quote": "Alder Joiners", "value": "Alder Joiners"}
    assert shown["total"] == {"quote": "£1,480.50", "value": "1480.5"}
    assert shown["due"] == {"quote": "by 2 June 2019", "value": "2019-06-02"}
    assert shown["copies"] == {"quote": "3", "value": "3"}
    assert shown["paid"] == {"quote": "not paid yet", "value": False}
    assert shown["ship"] == {"quote": SHIPPED, "city": "Cork Harbour", "day": "2019-05-04"}
    rest = {"total": None, "due": None, "copies": None, "paid": None, "currency": None}
    rest |= {"tags": [], "lines": [], "ship": None}
    seller = {"quote": "Bob & Sons", "value": "Bob & Sons"}
    assert json.loads(other) == {"seller": seller, **rest}


def test_one_field_is_shown_the_choice_that_holds_the_value(task: Task) -> None:
    shown = [answers_in(ask_field(task, field, "", "words")) for field in task.fields]
    first = [json.loads(one) for one, _ in shown]
    assert first == [
        {"seller": "Alder Joiners"},
        {"total": "Total due £1,480.50"},
        {"due": "Total due £1,480.50 by 2 June 2019"},
        {"copies": "Copies: 3"},
        {"paid": {"quote": "not paid yet", "value": False}},
        {"currency": "GBP"},
        {"tags": ["Alder Joiners", "oak doors"]},
        {"lines": ["Two oak doors 480.00"]},
        {"ship": {"city": "To: Cork Harbour", "day": SHIPPED}},
    ]
    assert json.loads(shown[0][1]) == {"seller": "Bob & Sons"}
    assert json.loads(shown[1][1]) == {"total": None}
    assert json.loads(shown[7][1]) == {"lines": []}


def test_the_choice_is_where_the_quote_is_not_where_the_value_is_first() -> None:
    text = '[[examples]]\ntext = "Door 120.00, sum 240.00\\nVAT 120.00"\n'
    answer = 'answer.tax = { quote = "VAT 120.00", value = "120.00" }\n'
    task = task_of('instructions = "x"\n[fields]\ntax = "decimal"\n' + text + answer)
    (shown,) = answers_in(ask_field(task, task.fields[0], "", "x"))
    assert json.loads(shown) == {"tax": "VAT 120.00"}


def test_values_alone_are_shown_where_values_alone_are_asked_for(task: Task) -> None:
    one = json.loads(answers_in(ask_about(task, "", "words"))[0])
    assert one["total"] == "1480.5"
    assert one["lines"] == [{"what": "Two oak doors", "sum": "480.00"}]
    assert one["tags"] == ["Alder Joiners", "oak doors"]
    assert one["ship"] == {"city": "Cork Harbour", "day": "2019-05-04"}


def test_the_grammar_would_take_what_is_shown(bench: Bench, task: Task) -> None:
    free = answer_schema(task)
    assert free is not None
    for (_, text), quotes, values in zip(
        task.examples,
        answers_in(ask_for_quotes(task, "", "x")),
        answers_in(ask_about(task, "", "x")),
        strict=True,
    ):
        assert bench.takes(quoted_schema(task), text, quotes)
        assert bench.takes(free, text, values)
    text = task.examples[0][1]
    for field in task.fields:
        if field.name != "tags":  # "oak doors" is a quote, but no name or line to choose
            schema = field_schema(field, text, "2019-05-03")
            assert schema is not None
            assert bench.takes(schema, text, answers_in(ask_field(task, field, "", "x"))[0])


def test_a_text_is_shown_as_it_is() -> None:
    task = task_of(
        'instructions = "In one line."\n[[examples]]\ntext = "It \\"rained\\"."\nanswer = "Rain."\n'
    )
    asked = ask_about(task, "", "Sun.")
    assert [m.content for m in asked[1:]] == [
        'Document:\n\nIt "rained".\n\n---\nIn one line.',
        "Rain.",
        "Document:\n\nSun.\n\n---\nIn one line.",
    ]


def test_examples_are_part_of_the_fingerprint(task: Task) -> None:
    prints = [
        task_of(FIELDS).fingerprint,
        task_of(FIELDS + SHOWN).fingerprint,
        task_of(FIELDS + LITTLE).fingerprint,
        task_of(FIELDS + LITTLE.replace("builders", "Builders")).fingerprint,
        task_of(FIELDS + LITTLE.replace('seller = "Bob', 'tags = ["Bob"], seller = "Bob')),
        task.fingerprint,
    ]
    assert len({*prints}) == len(prints)


def test_examples_are_asked_with_each_field(model: ModelInfo) -> None:
    head = 'instructions = "Copy."\n[limits]\nmax_tokens = 60\n[fields]\nseller = "string"\n'
    task = task_of(head + 'total = "decimal"\n' + LITTLE)
    engine = ScriptedEngine(model, by_field)
    result = answer_job(JOB, task, document_of(TEXT, task, model), engine, model)
    shown = [answers_in(request.messages) for request in engine.requests]
    assert shown == [['{"seller":"Bob & Sons"}'], ['{"total":null}']]
    assert str(result.value["total"]) == "1660.00"


@pytest.mark.parametrize("parameters", [135_000_000, 8_000_000_000])
def test_examples_leave_less_room_for_the_document(
    model: ModelInfo, task: Task, parameters: int
) -> None:
    """Of a long one, every part fits with them: ScriptedEngine checks each request."""
    short = dataclasses.replace(model, context_tokens=4096, parameters=parameters)
    bare, shown = (
        dataclasses.replace(one, limits=dataclasses.replace(one.limits, chunk_tokens=4096))
        for one in (task_of(FIELDS), task)
    )
    count = load_tokens(model.tokenizer_json).count
    asked = ask_for_quotes(task, "", "")[1:-1]
    added = sum(count(message.content) for message in asked)
    gone = chunk_limits(bare, short).chunk_tokens - chunk_limits(shown, short).chunk_tokens
    assert gone >= added > 500
    engine = ScriptedEngine(short, lambda *_: '{"seller": {"quote": "word0", "value": "word0"}}')
    words = " ".join(f"Word{number} Street said." for number in range(400))
    document = document_of(words, shown, short)
    assert len(document.chunks) > 2
    with contextlib.suppress(ResultError):
        answer_job(JOB, shown, document, engine, short)
    assert len(engine.requests) > 1


def test_examples_that_leave_no_room_are_told(model: ModelInfo, task: Task) -> None:
    tiny = dataclasses.replace(model, context_tokens=1500)
    assert chunk_limits(task_of(FIELDS), tiny).chunk_tokens > 0
    with pytest.raises(InputError, match="the examples"):
        chunk_limits(task, tiny)


@pytest.mark.parametrize(
    ("old", "new", "at", "told"),
    [
        (
            'Alder Joiners"\ntotal',
            'Alder Joinery"\ntotal',
            'seller = "Ald',
            "example 1, seller: a quote is not",
        ),
        ('quote = "£1,480.50"', 'quote = "£1,480.55"', "total = {", "£1,480.55"),
        (
            "1480.50 }",
            "1408.50 }",
            "total = {",
            "example 1, total: no decimal of this value follows",
        ),
        ("1480.50 }", '"much" }', "total = {", "'much'"),
        ("2019-06-02", "2019-02-06", "due = {", "no date of this value follows from the quote"),
        (
            "copies = 3",
            "copies = 7",
            "copies = ",
            "example 1, copies: a quote is not in the document",
        ),
        ("copies = 3", "copies = 7", "copies = ", 'copies = { quote = "words of the text", value'),
        ("copies = 3", "copies = [3]", "copies = ", "example 1, copies: "),
        (
            "value = false }",
            "valeu = false }",
            "paid = {",
            "unknown key 'valeu'; did you mean 'value'?",
        ),
        (", value = false }", " }", "paid = {", "example 1, paid: it needs a quote and a value"),
        ('"GBP" }', '"EUR" }', "currency = {", "'currency' is not one of USD, GBP"),
        ('tags = ["Alder Joiners", ', 'tags = ["Alder Joiner?", ', "tags = [", "Alder Joiner?"),
        ('what = "Two', 'waht = "Two', "lines = [", "did you mean 'what'?"),
        (
            'quote = "Cork Harbour, on',
            'quote = "Cork Harbour on',
            "ship = {",
            "example 1, ship: a quote is not",
        ),
        ('seller = "Bob & Sons"', 'tags = ["Bob"]', "answer = {", "example 2, seller: is required"),
        ('seller = "Bob & Sons"', 'seler = "Bob & Sons"', "answer = {", "did you mean 'seller'?"),
        ('text = "Bob & Sons, builders"\n', "", "[[exam", "example 2 has no text"),
        ('answer = { seller = "Bob & Sons" }\n', "", "[[exam", "example 2 has no answer"),
        ("answer = { seller", "note = 5\nanswer = { seller", "note = 5", "unknown key 'note'"),
        (
            '[[examples]]\ntext = "Bob',
            '[[exampels]]\ntext = "Bob',
            "[[exam",
            "did you mean 'examples'",
        ),
    ],
)
def test_a_mistake_is_told_with_file_example_value_and_fix(
    old: str, new: str, at: str, told: str
) -> None:
    """`at`: how the line begins, the last of them."""
    text = FIELDS + SHOWN + LITTLE
    assert text.count(old) == 1
    text = text.replace(old, new)
    line = text[: text.rindex(f"\n{at}")].count("\n") + 2
    found = problems_of(text)
    assert any(
        problem.startswith(f"my-tasks/bill.toml:{line}: ") and told in problem for problem in found
    ), found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (FIELDS + '[examples]\nseller = "x"\n', "write each under [[examples]]"),
        (FIELDS.replace("instr", "examples = []\ninstr"), "not an array of tables"),
        ('instructions = "x"\n[[examples]]\ntext = "y"\n', 'add answer = "..."'),
        ('instructions = "x"\nclasses = ["a"]\n[[examples]]\na = "y"\n', "not a table"),
    ],
)
def test_examples_in_another_shape_are_told(text: str, told: str) -> None:
    found = problems_of(text)
    assert any(told in problem for problem in found), found
