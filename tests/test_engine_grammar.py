"""An answer that reaches its limit is closed where it can be: nothing is invented, little lost."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from llguidance.numpy import fill_next_token_bitmask
from tokenizers import Tokenizer

from pipeline.engine.choosing.history import History
from pipeline.engine.grammars.grammar import Grammars
from pipeline.engine.interface import (
    Done,
    Event,
    Message,
    Request,
    Sampling,
    TextDelta,
    TokenLogprob,
)
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.engine.row import UNDONE_TOKENS, Row
from pipeline.errors import RequestError
from pipeline.schema import answer_schema
from pipeline.task_files import read_task
from tests.byte_tokenizer import write_tokenizer

TASK = """
instructions = "Copy."
[fields.name]
type = "string"
[fields.day]
type = "date"
[fields.lines]
type = "list"
[fields.lines.items]
type = "object"
[fields.lines.items.fields]
what = { type = "string", required = true }
sum = "decimal"
"""
ANSWER = (
    '{"name":"Zoë","day":"2026-03-31","lines":'
    '[{"what":"a","sum":"12.50"},{"what":"b","sum":null},{"what":"c","sum":"7"}]}'
)
SUMS = {"a": "12.50", "b": None, "c": "7"}
STOP = 2


class Bench:
    """A tokenizer, used byte by byte, and its grammars."""

    def __init__(self, folder: Path) -> None:
        path = write_tokenizer(folder / "tokenizer.json")
        (folder / "tokenizer_config.json").write_text('{"chat_template": "x"}')
        self.tokenizer = ChatTokenizer(str(folder))
        self.tokens = Tokenizer.from_file(str(path))
        self.grammars = Grammars(str(path), self.tokens.get_vocab_size(), (STOP,))

    def encode(self, text: str) -> list[int]:
        return [token for char in text for token in self.tokens.encode(char).ids]

    def decode(self, tokens: list[int]) -> str:
        detokenizer = self.tokenizer.detokenizer()
        return "".join(map(detokenizer.push, tokens)) + detokenizer.finish()

    def close(self, schema: dict[str, Any], tokens: list[int]) -> str | None:
        """The text of an answer that was cut after these tokens."""
        matcher = self.grammars.matcher(schema)
        matcher.consume(tokens)
        closing = matcher.close(len(tokens))
        if closing is None:
            return None
        undone, added = closing
        return self.decode(tokens[: len(tokens) - undone] + added)

    def row(self, schema: dict[str, Any], max_tokens: int, events: list[Event]) -> Row:
        request = Request("r", "tiny", (Message("user", "x"),), schema, max_tokens)
        return Row(
            request,
            [1],
            events.append,
            self.tokenizer.detokenizer(),
            History(Sampling()),
            self.grammars.matcher(schema),
        )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("tokenizer"))


def schema_of(text: str) -> dict[str, Any]:
    task, problems = read_task("prompts/example.toml", text)
    assert not problems
    assert task is not None
    schema = answer_schema(task)
    assert schema is not None
    return schema


SCHEMA = schema_of(TASK)


def test_an_answer_is_closed_from_every_place_with_what_it_said_so_far(bench: Bench) -> None:
    tokens = bench.encode(ANSWER)
    for size in range(len(tokens)):
        text = bench.close(SCHEMA, tokens[:size])
        assert text is not None
        value = json.loads(text)
        jsonschema.validate(value, SCHEMA)
        assert value["day"] in (None, "2026-03-31")
        for line in value["lines"]:
            if line["what"]:
                assert line["sum"] in (None, SUMS[line["what"]])


@pytest.mark.parametrize(
    ("said", "closed"),
    [
        ('{"name":"Zo', '{"name":"Zo","day":null,"lines":[]}'),
        ('{"name":null,"day":"2026-0', '{"name":null,"day":null,"lines":[]}'),
        (
            '{"name":null,"day":null,"lines":[{"what":"a","sum":"12',
            '{"name":null,"day":null,"lines":[{"what":"a","sum":null}]}',
        ),
        (
            '{"name":null,"day":null,"lines":[{"what":"a","sum":null},',
            '{"name":null,"day":null,"lines":[{"what":"a","sum":null},{"what":"","sum":null}]}',
        ),
    ],
)
def test_half_a_date_or_number_is_taken_back(bench: Bench, said: str, closed: str) -> None:
    assert bench.close(SCHEMA, bench.encode(said)) == closed


def test_what_needs_a_value_that_is_not_there_cannot_be_closed(bench: Bench) -> None:
    schema = schema_of('instructions = "Copy."\n[fields.day]\ntype = "date"\nrequired = true\n')
    assert bench.close(schema, bench.encode('{"day":"2026-0')) is None


@pytest.mark.parametrize("cut", range(1, 80))
def test_what_was_sent_of_an_answer_is_never_taken_back(bench: Bench, cut: int) -> None:
    tokens = bench.encode(ANSWER)[:cut]
    events: list[Event] = []
    row = bench.row(SCHEMA, len(tokens), events)
    for start in range(0, len(tokens), 5):
        row.take(tokens[start : start + 5], frozenset((STOP,)))
        row.tell()
    row.close()
    assert row.finish_reason == "closed"
    row.finish()
    *deltas, done = events
    assert isinstance(done, Done)
    sent = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    assert sent == done.completion.text == bench.close(SCHEMA, tokens)
    assert done.completion.completion_tokens == len(row.history.tokens)
    assert cut <= UNDONE_TOKENS + 5 or len(deltas) > 1


def test_an_answer_that_is_complete_ends_before_a_stop_token_after_it(bench: Bench) -> None:
    tokens = bench.encode(ANSWER)
    row = bench.row(SCHEMA, len(tokens) + 9, [])
    row.logprobs = [TokenLogprob("", 0.0, ())] * (len(tokens) + 1)
    row.take([*tokens, STOP], frozenset((STOP,)))
    assert row.finish_reason == "stop"
    assert len(row.logprobs) == len(row.history.tokens) == len(tokens)


def test_a_loop_is_looked_for_in_the_current_string_only(bench: Bench) -> None:
    quote = bench.encode('"')[0]

    def banned(text: str, size: int = 3) -> str:
        history = History(Sampling(no_repeat_ngram=size))
        for token in bench.encode(text):
            history.push(token)
        return bench.decode(history.banned(lambda token: token == quote))

    assert banned('{"a":"xyzxy') == "z"
    assert banned('{"a":"xyz","b":"xy') == ""  # two values may be the same
    assert banned('{"a":"xyzxy","b":"xy') == ""
    assert banned('{"a":"00000') == "000"
    assert banned('{"a":"xy') == ""
    assert banned('{"a":"xyzxy', 12) == ""


def test_words_of_the_prompt_may_come_again_but_not_for_ever() -> None:
    def banned(answer: str, prompt: str) -> str:
        history = History(Sampling(no_repeat_ngram=3, no_repeat_copied=6), [*map(ord, prompt)])
        for token in map(ord, answer):
            history.push(token)
        again = "".join(map(chr, history.banned()))
        for token in map(ord, "xyzabc"):
            history.push(token)
        for _ in "xyzabc":
            history.pop()
        assert "".join(map(chr, history.banned())) == again
        return again

    assert banned("abc.ab", "") == "c"
    assert banned("abc.ab", "no abc") == ""
    assert banned("abc.ab", "no ab c") == "c"
    assert banned("12abc.12ab", "12abc") == ""
    assert banned("123abc.123ab", "123abc") == "c"  # six tokens now


def test_a_string_in_a_loop_can_end(bench: Bench) -> None:
    history = History(Sampling(no_repeat_ngram=2))
    for token in bench.encode('{"a":"b","a'):
        history.push(token)
    quote = bench.encode('"')[0]
    assert quote in history.banned()
    assert quote not in history.banned(lambda token: token == quote)


def test_masks_of_many_rows_are_those_of_each_alone(bench: Bench) -> None:
    answer = bench.encode(ANSWER)
    rows: list[tuple[int, list[int]]] = [
        (0, []),
        (0, answer[:6]),
        (9, [*answer[9:12], 1, *answer[13:16]]),  # the fourth is forbidden
        (len(answer) - 2, [*answer[-2:], STOP, 7]),
        (len(answer), [5, 6]),  # nothing may follow
        (3, [1]),
    ]
    words = (bench.tokens.get_vocab_size() + 31) // 32
    masks = np.full((len(rows) + 1, 9, words), 7, np.int32)
    matchers = [bench.grammars.matcher(SCHEMA) for _ in rows]
    for matcher, (start, _) in zip(matchers, rows, strict=True):
        matcher.consume(answer[:start])
    drafts = [draft for _, draft in rows]
    bench.grammars.fill_masks(masks, [*matchers, None], [*drafts, [1, 2]])
    pairs = zip(matchers, drafts, strict=True)
    allowed = [matcher.count_allowed(draft) for matcher, draft in pairs]
    for row, (start, draft) in enumerate(rows):
        alone = bench.grammars.matcher(SCHEMA).inner
        alone.consume_tokens(answer[:start])
        wanted = np.full((9, words), 7, np.int32)
        taken = 0
        fill_next_token_bitmask(alone, wanted, 0)
        while taken < len(draft) and not alone.is_stopped():
            if not alone.try_consume_tokens([draft[taken]]):
                break
            taken += 1
            fill_next_token_bitmask(alone, wanted, taken)
        assert allowed[row] == taken
        assert (masks[row, : taken + 1] == wanted[: taken + 1]).all()
        assert matchers[row].inner.compute_ff_tokens() == (
            [] if start == len(answer) else _after(bench, answer[:start])
        )
    assert (masks[-1] == 7).all()
    assert allowed == [0, 6, 3, 2, 0, 0]


@pytest.mark.parametrize("cut", range(len(ANSWER)))
def test_a_mask_allows_what_may_be_said_one_by_one(bench: Bench, cut: int) -> None:
    """What `Verifier` relies on where it makes no mask: the stop token is no exception."""
    answer = bench.encode(ANSWER)
    matcher = bench.grammars.matcher(SCHEMA)
    matcher.consume(answer[:cut])
    size = bench.tokens.get_vocab_size()
    masks = np.zeros((1, 1, (size + 31) // 32), np.int32)
    bench.grammars.fill_masks(masks, [matcher], [[]])
    allowed = np.flatnonzero(np.unpackbits(masks[0, 0].view(np.uint8), bitorder="little")[:size])
    if matcher.complete:
        return
    if forced := matcher.forced():
        assert allowed.tolist() == forced[:1]
    else:
        taken = [token for token in range(size) if matcher.count_taken([token])]
        assert allowed.tolist() == taken


def _after(bench: Bench, tokens: list[int]) -> list[int]:
    matcher = bench.grammars.matcher(SCHEMA)
    matcher.consume(tokens)
    return matcher.forced()


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


QUOTE = {"type": "string", "x-quote-of-source": True}


@pytest.mark.parametrize(
    ("schema", "source", "message"),
    [
        ({"type": "integer", "multipleOf": 1_878_533_073}, "", "multipleOf=1878533073"),
        ({"items": [{"type": "number", "multipleOf": 1_000.003}]}, "", "multipleOf=1000.003"),
        ({"type": "integer", "multipleOf": 10**400}, "", "too large|out of range|digits"),
        (nested(150), "", "recursion"),
        (nested(480), "", "nested too deeply|recursion"),
        (QUOTE, "a word " * 200_000, "characters=1400000, more than 100000"),
        ({"enum": [f"value {number}" for number in range(200_000)]}, "", "too big"),
        ({"type": "string", "pattern": "a?" * 100_000}, "", "too big"),
        ({"$ref": "file:///etc/hostname"}, "", "not present in a registry"),
    ],
)
@pytest.mark.timeout(60)
def test_a_schema_that_would_be_compiled_for_minutes_is_refused(
    bench: Bench, schema: dict[str, Any], source: str, message: str
) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        bench.grammars.matcher(schema, source)
    assert refused.value.kind == "bad_schema"


@pytest.mark.parametrize("multiple", [1, 5, 0.01, 2.5, 1_000_000_000, 99_999])
def test_ordinary_multiples_are_taken(bench: Bench, multiple: float) -> None:
    assert bench.grammars.matcher({"type": "number", "multipleOf": multiple}).count_allowed([]) == 0


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 5, "maxLength": 2},
        {"type": "string", "minLength": 5, "pattern": "^a$"},
        {"type": "integer", "minimum": 5, "maximum": 1},
        {"type": "array", "items": {"type": "string"}, "minItems": 3, "maxItems": 1},
        {"type": "object", "properties": {}, "required": ["b"], "additionalProperties": False},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "integer", "enum": ["a"]},
        {"enum": []},
        False,
    ],
    ids=str,
)
def test_a_schema_that_contradicts_itself_is_refused(bench: Bench, schema: Any) -> None:
    with pytest.raises(RequestError, match="Unsatisfiable schema") as refused:
        bench.grammars.matcher(schema, "")
    assert refused.value.kind == "bad_schema"
