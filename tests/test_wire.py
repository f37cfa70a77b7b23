"""OpenAI's shapes: what is understood comes through whole, and nothing is ignored."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.interface import Completion, Message, Request, Sampling, TokenLogprob
from pipeline.engine.serving.wire import ChatCall, parse_chat, parse_json, request_body
from pipeline.engine.serving.wire_answers import (
    completion_body,
    error_body,
    error_status,
    last_chunks,
    parse_completion,
    parse_error,
)
from pipeline.errors import EngineError, RequestError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
REQUESTS = st.builds(
    Request,
    id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:~+/-]{0,30}", fullmatch=True),
    model=st.sampled_from(["embedded", "/models/qwen 3"]),
    messages=st.lists(
        st.builds(Message, st.sampled_from(["system", "user", "assistant"]), TEXT), max_size=3
    ).map(lambda turns: (*turns, Message("user", "?"))),
    schema=st.none() | st.just({"type": "object", "properties": {"a": {"const": "ü"}}}),
    max_tokens=st.integers(1, 9999),
    sampling=st.builds(
        Sampling,
        temperature=st.floats(0, 2),
        repetition_penalty=st.floats(0.5, 2),
        repetition_window=st.integers(0, 500),
        no_repeat_ngram=st.integers(0, 20),
        no_repeat_copied=st.integers(0, 20),
        seed=st.integers(-(2**63) + 1, 2**63 - 1),
        top_k=st.integers(0, 1 << 20),
        top_p=st.floats(0, 1),
        min_p=st.floats(0, 1),
        presence_penalty=st.floats(-2, 2),
        frequency_penalty=st.floats(-2, 2),
        logit_bias=st.dictionaries(st.integers(0, 9999), st.floats(-100, 100), max_size=3).map(
            lambda bias: tuple(bias.items())
        ),
    ),
    top_logprobs=st.integers(0, 20),
    stop=st.lists(TEXT.filter(bool), max_size=3).map(tuple),
    timeout_s=st.floats(0.5, 1000),
)
PLAIN: dict[str, Any] = {"model": "embedded", "messages": [{"role": "user", "content": "hi"}]}


@given(REQUESTS)
def test_a_request_survives_the_way_there(request: Request) -> None:
    sent = json.dumps(request_body(request, request.timeout_s)).encode()
    assert parse_chat(parse_json(sent)).request == request


def completion(**more: Any) -> Completion:
    values: dict[str, Any] = {
        "id": "job-1~2",
        "text": "naïve\u2028text",
        "finish_reason": "closed",
        "prompt_tokens": 7,
        "cached_tokens": 3,
        "completion_tokens": 5,
        "queue_s": 0.5,
        "prefill_s": 0.25,
        "decode_s": 0.125,
    }
    return Completion(**values | more)


def call(**more: Any) -> ChatCall:
    return parse_chat(PLAIN | {"request_id": "job-1~2"} | more)


def test_a_completion_survives_the_way_back() -> None:
    logprobs = (TokenLogprob("na", -0.5, (("na", -0.5), ("x", -1.5))), TokenLogprob("ï", 0.0))
    sent = completion(logprobs=logprobs)
    asked = call(logprobs=True, top_logprobs=2)
    assert parse_completion(json.loads(json.dumps(completion_body(asked, sent)))) == sent


def test_a_completion_has_openais_shape() -> None:
    body = completion_body(call(), completion())
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["finish_reason"] == "length"  # OpenAI knows no "closed"
    assert body["docflash"]["finish_reason"] == "closed"
    assert body["usage"]["total_tokens"] == 12
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 3}
    assert body["choices"][0]["logprobs"] is None


def test_never_is_a_number_in_json() -> None:
    sent = completion(logprobs=(TokenLogprob("a", -math.inf, ()),))
    json.dumps(completion_body(call(logprobs=True), sent), allow_nan=False)


def test_a_stream_ends_with_usage_alone_if_asked() -> None:
    (end,) = last_chunks(call(stream=True), completion())
    assert end["usage"]["completion_tokens"] == 5
    _, usage = last_chunks(call(stream_options={"include_usage": True}), completion())
    assert usage["choices"] == []


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"top_p": 1.1}, "top_p=1.1"),
        ({"top_p": -0.1}, "top_p=-0.1"),
        ({"top_p": "most"}, "top_p"),
        ({"n": 2}, "n=2"),
        ({"presence_penalty": 2.5}, "presence_penalty=2.5 must be from -2 to 2"),
        ({"frequency_penalty": -3}, "frequency_penalty=-3"),
        ({"min_p": 2}, "min_p=2 must be from 0 to 1"),
        ({"top_k": -1}, "top_k=-1"),
        ({"top_k": 1.5}, "top_k=1.5 must be a whole number"),
        ({"logit_bias": [1]}, "logit_bias must be an object"),
        ({"logit_bias": {"cat": 5}}, "logit_bias must name each token by its number"),
        ({"logit_bias": {"-1": 5}}, "by its number"),
        ({"logit_bias": {"01": 5}}, "by its number"),
        ({"logit_bias": {"9" * 99: 5}}, "by its number"),
        ({"logit_bias": {"1": 101}}, r"logit_bias\[1\]=101 must be from -100 to 100"),
        ({"logit_bias": {"1": "much"}}, r"logit_bias\[1\] must be a number"),
        ({"logit_bias": {str(n): 1 for n in range(1025)}}, "at most 1024"),
        ({"best_of": 2}, "best_of=2 is not a parameter"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"response_format": {"type": "json_object"}}, "json_object"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "json_schema.schema"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"max_tokens": True}, "max_tokens=True"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens=6"),
        ({"temperature": 3}, "temperature=3"),
        ({"temperature": "hot"}, "temperature"),
        ({"seed": 2**64}, "seed"),
        ({"top_logprobs": 3}, "top_logprobs=3"),
        ({"logprobs": 1}, "logprobs=1"),
        ({"logprobs": True, "stream": True}, "logprobs"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": {"a": 1}}, "stop"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options"),
        ({"request_id": "a b\n"}, "request_id"),
        ({"timeout": 0}, "timeout=0"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "user's turn"),
        ({"messages": ["hi"]}, r"messages\[0\]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, r"messages\[0\].role"),
        ({"messages": [{"role": "user", "content": None}]}, r"messages\[0\].content"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "surrogate"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "kinds of content"),
        ({"messages": [{"role": "user", "content": "x", "name": "Bob"}]}, "name"),
    ],
)
def test_what_cant_be_done_is_refused_by_name(more: dict[str, Any], named: str) -> None:
    with pytest.raises(RequestError, match=named) as refused:
        parse_chat(PLAIN | more)
    assert refused.value.kind == "bad_parameter"


def test_neutral_values_and_nulls_are_taken() -> None:
    neutral = {"top_p": 1.0, "n": 1, "tools": [], "tool_choice": None, "store": False, "user": "me"}
    assert parse_chat(PLAIN | neutral).request.messages == (Message("user", "hi"),)


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(RequestError) as refused:
        parse_chat(PLAIN | {"stop": {"the secret": 1}})
    assert "secret" not in str(refused.value)


def test_parts_of_text_and_the_developers_role_are_taken() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    turns = [{"role": "developer", "content": "c"}, {"role": "user", "content": parts}]
    assert parse_chat(PLAIN | {"messages": turns}).request.messages == (
        Message("system", "c"),
        Message("user", "ab"),
    )


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b'{"a": NaN}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        parse_json(body)
    assert refused.value.kind == "bad_json"


@pytest.mark.parametrize(
    ("kind", "status"),
    [("bad_schema", 400), ("queue_full", 429), ("timeout", 504), ("grammar_failed", 500)],
)
def test_errors_survive_the_way_back(kind: str, status: int) -> None:
    error = RequestError(kind, "what and why")
    assert error_status(error) == status
    back = parse_error(error_body(error), status)
    assert (back.kind, str(back)) == (kind, "what and why")


def test_foreign_errors_are_the_engines_fault() -> None:
    assert parse_error(None, 502).kind == "engine_failed"
    assert error_status(EngineError("x")) == 500


def test_an_answer_of_another_version_is_told() -> None:
    with pytest.raises(EngineError, match="another version"):
        parse_completion({"choices": []})
