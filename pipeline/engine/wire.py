"""The engine's HTTP shapes: OpenAI's chat completions, to and from the records of `interface`.

What a body asks for and the engine can't do is refused by name, never ignored. `request_id`,
`timeout`, `repetition_penalty`, `repetition_window` and `no_repeat_ngram` are our extensions.
"""

import json
import re
import uuid
from dataclasses import dataclass
from typing import Any

from pipeline.engine.interface import Message, Request, Sampling
from pipeline.errors import RequestError

BODY_BYTES = 16 << 20
GRACE_S = 5.0
"""The engine's core ends a late request by itself; after this much more, HTTP does."""
DEFAULT_TIMEOUT_S = 3600.0
LONGEST_TIMEOUT_S = 7 * 86400.0
MOST_STOPS = 16
MOST_TOP_LOGPROBS = 20
LARGEST_SEED = 2**63 - 1
ID_PREFIX = "chatcmpl-"
REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~+/-]{0,199}")
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "top_p": (1,),
    "n": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
}
"""Parameters that are taken only where they ask for nothing."""
IGNORABLE = frozenset({"user", "metadata"})
"""Parameters that name the caller and can't change an answer."""
UNDERSTOOD = frozenset(
    {
        "model", "messages", "response_format", "max_tokens", "max_completion_tokens",
        "temperature", "seed", "stop", "stream", "stream_options", "logprobs", "top_logprobs",
        "repetition_penalty", "repetition_window", "no_repeat_ngram", "request_id", "timeout",
    }
)  # fmt: skip
STATUS = {
    "bad_json": 400,
    "bad_parameter": 400,
    "bad_schema": 400,
    "context_too_long": 400,
    "forbidden_origin": 403,
    "bad_model": 404,
    "not_found": 404,
    "bad_method": 405,
    "duplicate_id": 409,
    "cancelled": 409,
    "body_too_large": 413,
    "queue_full": 429,
    "out_of_memory": 503,
    "leaving": 503,
    "stopped": 503,
    "timeout": 504,
}
"""HTTP status by kind of error; any other is 500."""


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A chat completion as asked for over HTTP.

    Attributes:
        request: What the engine is asked.
        stream: Send text as it comes.
        stream_usage: End the stream with a chunk of usage only, as OpenAI's option asks.
    """

    request: Request
    stream: bool
    stream_usage: bool


class _Body:
    """Reads typed values from a JSON object; a wrong one is refused by its name."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = {name: value for name, value in values.items() if value is not None}

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def raw(self, name: str) -> Any:
        return self._values.get(name)

    def boolean(self, name: str) -> bool:
        value = self._values.get(name, False)
        if not isinstance(value, bool):
            raise _refused(name, value, "must be true or false")
        return value

    def integer(self, name: str, default: int, lowest: int, highest: int) -> int:
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise _refused(name, value, f"must be a whole number from {lowest} to {highest}")
        return value

    def number(self, name: str, default: float, lowest: float, highest: float) -> float:
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _refused(name, value, "must be a number")
        if not lowest <= value <= highest:
            raise _refused(name, value, f"must be from {lowest:g} to {highest:g}")
        return float(value)

    def unsupported(self) -> None:
        """Refuses what is neither understood nor neutral."""
        for name, value in self._values.items():
            if name in NEUTRAL:
                if value not in NEUTRAL[name]:
                    allowed = " or ".join(json.dumps(v) for v in NEUTRAL[name])
                    raise _refused(name, value, f"is not supported; leave it out, or {allowed}")
            elif name not in UNDERSTOOD and name not in IGNORABLE:
                raise _refused(name, value, "is not a parameter that the engine knows")


def _refused(name: str, value: Any, why: str) -> RequestError:
    # Long or nested values may hold the caller's text, which has no place in a message.
    shown = f"={value!r}" if isinstance(value, bool | int | float) else ""
    return RequestError("bad_parameter", f"{name[:60]}{shown} {why}")


def parse_json(body: bytes) -> dict[str, Any]:
    """A request's body.

    Raises:
        RequestError: It is not a JSON object ("bad_json").
    """
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        where = f" at byte {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise RequestError("bad_json", f"the body is not JSON in UTF-8{where}") from None
    if not isinstance(value, dict):
        raise RequestError("bad_json", "the body must be a JSON object")
    return value  # pyright: ignore[reportUnknownVariableType]


def _no_constant(name: str) -> None:
    raise ValueError(name)


def parse_chat(values: dict[str, Any]) -> ChatCall:
    """Reads the body of POST /v1/chat/completions.

    Raises:
        RequestError: "bad_parameter", with the parameter's name.
    """
    body = _Body(values)
    body.unsupported()
    stream = body.boolean("stream")
    if stream and body.boolean("logprobs"):
        raise _refused("logprobs", None, "can't be streamed; ask without stream")
    request = Request(
        id=_request_id(body.raw("request_id")),
        model=_model(body.raw("model")),
        messages=_messages(body.raw("messages")),
        schema=_schema(body.raw("response_format")),
        max_tokens=_max_tokens(body),
        sampling=Sampling(
            temperature=body.number("temperature", 0.0, 0.0, 2.0),
            repetition_penalty=body.number("repetition_penalty", 1.0, 0.01, 10.0),
            repetition_window=body.integer("repetition_window", 64, 0, 1 << 20),
            no_repeat_ngram=body.integer("no_repeat_ngram", 0, 0, 1 << 20),
            seed=body.integer("seed", 0, -LARGEST_SEED, LARGEST_SEED),
        ),
        top_logprobs=_top_logprobs(body),
        stop=_stops(body.raw("stop")),
        timeout_s=body.number("timeout", DEFAULT_TIMEOUT_S, 0.001, LONGEST_TIMEOUT_S),
    )
    return ChatCall(request, stream, stream_usage=_stream_usage(body.raw("stream_options")))


def _request_id(value: Any) -> str:
    if value is None:
        return uuid.uuid4().hex
    if not isinstance(value, str) or not REQUEST_ID.fullmatch(value):
        raise _refused("request_id", None, "must be 1 to 200 letters, digits or ._:~+/-")
    return value


def _model(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise _refused("model", None, "must name a model: 'embedded' or a folder's path")
    return _text("model", value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _refused(name, None, "must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _refused(name, None, "has half a surrogate pair, which is no character") from None
    return value


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise _refused("messages", None, "must be a list of at least one message")
    messages = tuple(_message(number, entry) for number, entry in enumerate(value))
    if messages[-1].role != "user":
        raise _refused("messages", None, "must end with the user's turn")
    return messages


def _message(number: int, entry: Any) -> Message:
    name = f"messages[{number}]"
    if not isinstance(entry, dict):
        raise _refused(name, None, "must be an object with role and content")
    values: dict[str, Any] = entry
    for key, extra in values.items():
        if key not in {"role", "content"} and extra:
            raise _refused(f"{name}.{key}", None, "is not supported")
    role = ROLES.get(str(values.get("role")))
    if role is None:
        raise _refused(f"{name}.role", None, "must be system, user or assistant")
    return Message(role, _content(f"{name}.content", values.get("content")))  # pyright: ignore[reportArgumentType]


def _content(name: str, value: Any) -> str:
    if not isinstance(value, list):
        return _text(name, value)
    parts: list[str] = []
    for part in value:
        if not isinstance(part, dict) or part.get("type") != "text":
            raise _refused(name, None, "must be text: other kinds of content are not supported")
        parts.append(_text(name, part.get("text")))
    return "".join(parts)


def _schema(value: Any) -> dict[str, Any] | None:
    name = "response_format"
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _refused(name, None, "must be an object")
    if value.get("type") == "text":
        return None
    if value.get("type") == "json_object":
        raise _refused(name, None, "json_object is not supported; give a json_schema")
    if value.get("type") != "json_schema":
        raise _refused(name, None, "must be of type text or json_schema")
    described = value.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(schema, dict):
        raise _refused(f"{name}.json_schema.schema", None, "must be an object")
    _text(name, json.dumps(schema, ensure_ascii=False))
    return schema  # pyright: ignore[reportUnknownVariableType]


def _max_tokens(body: _Body) -> int:
    highest = 1 << 24
    old = body.integer("max_tokens", Request.__dataclass_fields__["max_tokens"].default, 1, highest)
    new = body.integer("max_completion_tokens", old, 1, highest)
    if "max_tokens" in body and new != old:
        raise _refused("max_completion_tokens", new, f"differs from max_tokens={old}")
    return new


def _top_logprobs(body: _Body) -> int:
    top = body.integer("top_logprobs", 0, 0, MOST_TOP_LOGPROBS)
    if not body.boolean("logprobs"):
        if top:
            raise _refused("top_logprobs", top, "needs logprobs=true")
        return 0
    return max(1, top)


def _stops(value: Any) -> tuple[str, ...]:
    stops: Any = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(stops):
        raise _refused("stop", None, f"must be at most {MOST_STOPS} strings, none of them empty")
    return tuple(_text("stop", stop) for stop in stops)


def _stream_usage(value: Any) -> bool:
    if value is None:
        return False
    if not isinstance(value, dict) or set(value) - {"include_usage"}:
        raise _refused("stream_options", None, "must be an object with include_usage only")
    return value.get("include_usage") is True


def request_body(request: Request, timeout_s: float) -> dict[str, Any]:
    """The body that asks for `request`, with what is left of its time."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "max_completion_tokens": request.max_tokens,
        "temperature": sampling.temperature,
        "repetition_penalty": sampling.repetition_penalty,
        "repetition_window": sampling.repetition_window,
        "no_repeat_ngram": sampling.no_repeat_ngram,
        "seed": sampling.seed,
        "stop": list(request.stop),
        "request_id": request.id,
        "timeout": timeout_s,
    }
    if request.schema is not None:
        described = {"name": "answer", "strict": True, "schema": request.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": described}
    if request.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    return body
