"""Quotes can be nothing but words of the source, whatever the model would like to write."""

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pipeline.engine.core import Core
from pipeline.engine.grammars.grammar import Grammars
from pipeline.engine.grammars.matcher import Matcher
from pipeline.engine.interface import CoreOptions, Message, Request
from pipeline.engine.serving.wire import parse_chat, request_body
from pipeline.errors import RequestError
from tests.byte_tokenizer import write_tokenizer
from tests.plain_decoding import Desk, ask, describe_model
from tests.tiny import CORPUS, write_llama

QUOTE = {"type": "string", "x-quote-of-source": True, "maxLength": 40}
FIELD = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"quote": QUOTE, "value": {"enum": ["a", "b\n"]}},
            "required": ["quote", "value"],
            "additionalProperties": False,
        },
        {"type": "null"},
    ]
}
SCHEMA: dict[str, Any] = {
    "x-guidance": {"whitespace_flexible": False, "json_allowed_escapes": 'nt"\\'},
    "type": "object",
    "properties": {
        'na"me é': FIELD,
        "list": {"type": "array", "items": QUOTE, "minItems": 0, "maxItems": 3},
        "pair": {"type": "array", "items": FIELD, "minItems": 1, "maxItems": 2},
    },
    "required": ['na"me é', "list", "pair"],
    "additionalProperties": False,
}
ODD = '"\\/\n\r\t\x00\x0b\x1f\x7f\u2028\u202e\u200fﬁ é\u0301\ufeff😀a1{}[],:u0 x'
sources = st.text(st.sampled_from(ODD) | st.characters(exclude_categories=["Cs"]), min_size=1)
STOP = 2


class Bench:
    """Byte by byte, so that a grammar that lets half a character pass is found out."""

    def __init__(self, folder: Path) -> None:
        path = write_tokenizer(folder / "tokenizer.json")
        self.tokens = Tokenizer.from_file(str(path))
        self.size = self.tokens.get_vocab_size()
        self.grammars = Grammars(str(path), self.size, (STOP,))

    def encode(self, text: str) -> list[int]:
        return [token for char in text for token in self.tokens.encode(char).ids]

    def allowed(self, matcher: Matcher) -> list[int]:
        masks = np.zeros((1, (self.size + 31) // 32), np.int32)
        self.grammars.fill_masks(masks[None], [matcher], [[]])
        bits = np.unpackbits(masks.view(np.uint8), bitorder="little")[: self.size]
        return [int(token) for token in np.flatnonzero(bits)]

    def takes(self, schema: dict[str, Any], source: str, answer: str) -> bool:
        matcher = self.grammars.matcher(schema, source)
        tokens = self.encode(answer)
        return matcher.count_allowed(tokens) == len(tokens)

    def wander(self, schema: dict[str, Any], source: str, rng: random.Random, most: int) -> str:
        """What a model without any sense would write, closed at its limit."""
        matcher = self.grammars.matcher(schema, source)
        said: list[int] = []
        while not matcher.complete and len(said) < most:
            token = rng.choice(self.allowed(matcher))
            if token == STOP:
                break
            said.append(token)
            matcher.consume([token])
        if not matcher.complete:
            closing = matcher.close(len(said))
            assert closing is not None
            undone, added = closing
            said = said[: len(said) - undone] + added
        return b"".join(self.bytes_of(token) for token in said).decode()

    def bytes_of(self, token: int) -> bytes:
        text = self.tokens.id_to_token(token)
        assert text is not None
        return bytes(_BYTES[letter] for letter in text)


def _byte_letters() -> dict[str, int]:
    """GPT-2's letters for bytes that are none by themselves."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(byte): byte for byte in plain}
    others = [byte for byte in range(256) if byte not in plain]
    return letters | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTES = _byte_letters()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("tokenizer"))


def quotes_in(value: Any) -> list[str]:
    fields = [value['na"me é'], *value["pair"]]
    return [*value["list"], *(field["quote"] for field in fields if field is not None)]


@given(source=sources, seed=st.integers(0, 2**32), most=st.integers(1, 150))
def test_whatever_is_written_every_quote_is_words_of_the_source(
    bench: Bench, source: str, seed: int, most: int
) -> None:
    value = json.loads(bench.wander(SCHEMA, source, random.Random(seed), most), strict=True)
    jsonschema.validate(value, SCHEMA)
    for quote in quotes_in(value):
        assert quote
        assert quote in source


@given(source=sources, data=st.data())
def test_any_words_of_the_source_can_be_quoted(bench: Bench, source: str, data: Any) -> None:
    start = data.draw(st.integers(0, len(source) - 1))
    quote = source[start : start + data.draw(st.integers(1, 40))]
    field = {"quote": quote, "value": "b\n"}
    value = {'na"me é': field, "list": [quote, quote, quote], "pair": [None, field]}
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert bench.takes(SCHEMA, source, text)


@pytest.mark.parametrize(
    ("answer", "is_taken"),
    [
        ('"', True),
        ('"b"', True),
        ('"xa\\n\\"b"', True),
        ('"\\n\\"', True),
        ('"\\', True),  # half an escape may come, but nothing ends there
        ('"a\\"', False),
        ('"a\\\\', False),
        ('"ab', False),
        ('"A', False),
        ('"\\u0061', False),
        ('"a\\nb"', False),
    ],
)
def test_what_can_be_said_of_a_source(bench: Bench, answer: str, is_taken: bool) -> None:
    assert bench.takes(QUOTE, 'xa\n"b', answer) == is_taken


def test_a_quote_is_never_empty_and_has_its_length(bench: Bench) -> None:
    assert not bench.takes(QUOTE, "abc", '""')
    assert bench.takes(QUOTE, "\n" * 60, '"' + "\\n" * 40 + '"')
    assert not bench.takes(QUOTE, "\n" * 60, '"' + "\\n" * 41)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "object", "properties": {"a": QUOTE}}, "must require all"),
        ({"type": "array", "items": QUOTE, "maxItems": 0}, "minItems and maxItems"),
        ({"type": "array", "items": QUOTE, "contains": {}}, "'contains' is not supported"),
        (QUOTE | {"pattern": "a"}, "'pattern' is not supported"),
        (QUOTE | {"type": "integer"}, "a quote is a string"),
        ({"not": QUOTE}, "nowhere else"),
    ],
)
def test_schemas_that_cannot_be_held_are_refused(
    bench: Bench, schema: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RequestError, match=reason) as caught:
        bench.grammars.matcher(schema, "source")
    assert caught.value.kind == "bad_schema"


def test_a_source_without_words_is_refused(bench: Bench) -> None:
    with pytest.raises(RequestError, match="source is empty"):
        bench.grammars.matcher(QUOTE, "")


def test_grammars_are_kept_by_source(bench: Bench) -> None:
    assert bench.takes(QUOTE, "abc", '"abc"')
    assert not bench.takes(QUOTE, "xyz", '"a')
    assert bench.takes(QUOTE, "abc", '"bc"')


def test_a_model_with_drafts_or_without_quotes_its_source_at_every_limit(tmp_path: Path) -> None:
    model = describe_model(write_llama(tmp_path / "tiny"))
    requests = [
        ask(f"r{limit}{len(source)}", f"{source}: quote", limit, schema=SCHEMA, source=source)
        for limit in (9, 23, 40, 90)
        for source in (CORPUS[limit % 3], CORPUS[limit % 3] + '\n"é\\x"')
    ]
    plain = CoreOptions(max_rows=8, kv_bytes=1 << 25, speculate=False)
    drafted = CoreOptions(max_rows=8, kv_bytes=1 << 25, draft_always=True)
    desks = [Desk(Core(model, options)).finish(*requests) for options in (plain, drafted)]
    whole = 0
    for request in requests:
        one, other = (desk.completion(request.id) for desk in desks)
        assert one.text == other.text
        if one.finish_reason != "length":
            value = json.loads(one.text)
            jsonschema.validate(value, SCHEMA)
            whole += bool(quotes_in(value))
            assert all(quote in request.quotable for quote in quotes_in(value))
    assert whole


def test_a_source_travels_and_is_the_last_message_by_default() -> None:
    messages = (Message("user", "the text"),)
    request = Request("r", "embedded", messages, QUOTE, source="a\u2028 source")
    assert request.quotable == "a\u2028 source"
    sent = json.loads(json.dumps(request_body(request, 10.0)))
    assert parse_chat(sent).request.source == "a\u2028 source"
    plain = Request("r", "embedded", messages, QUOTE)
    sent = json.loads(json.dumps(request_body(plain, 10.0)))
    parsed = parse_chat(sent).request
    assert parsed.source is None
    assert parsed.quotable == "the text"
    sent["response_format"]["json_schema"]["x-source"] = 7
    with pytest.raises(RequestError, match="x-source"):
        parse_chat(sent)


ORDERED: dict[str, Any] = {"type": "array", "x-in-order": True, "items": {"enum": ["a", 'b"', "c"]}}


@pytest.mark.parametrize(
    ("answer", "is_taken"),
    [
        ("[]", True),
        ('["a"]', True),
        ('["a","c"]', True),
        ('["a","b\\"","c"]', True),
        ('["c"]', True),
        ('["b\\"","a"', False),
        ('["a","a"', False),
        ('["d"', False),
        ('["a",]', False),
    ],
)
def test_items_in_order_come_once_and_in_order(bench: Bench, answer: str, is_taken: bool) -> None:
    schema = {"type": "object", "properties": {"x": ORDERED}, "required": ["x"]}
    assert bench.takes(schema, "", f'{{"x":{answer}') == is_taken
    if answer == "[]":
        schema["properties"]["x"] = ORDERED | {"minItems": 1}  # type: ignore[index]
        assert not bench.takes(schema, "", f'{{"x":{answer}')


@given(seed=st.integers(0, 2**32), most=st.integers(1, 40))
def test_a_list_in_order_can_be_closed_anywhere(bench: Bench, seed: int, most: int) -> None:
    found = json.loads(bench.wander(ORDERED, "", random.Random(seed), most))
    assert found == [value for value in ["a", 'b"', "c"] if value in found]
