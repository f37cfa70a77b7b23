"""The engine's HTTP shapes: OpenAI's chat completions, to and from the records of `interface`.

What a body asks for and the engine can't do is refused by name, never ignored. `request_id` and
`timeout` are our extensions, and those that `wire_sampling` names; so is `x-source` beside a
schema with quotes (`quoting`), which else are words of the last message.
"""

import json
import re
import uuid
from dataclasses import dataclass
from typing import Any

from pipeline.engine.interface import Message, Request
from pipeline.engine.serving.wire_body import Body, refused
from pipeline.engine.serving.wire_sampling import parse_sampling, sampling_body
from pipeline.errors import RequestError

BODY_BYTES = 16 << 20
GRACE_S = 5.0
"""The engine's core ends a late request by itself; after this much more, HTTP does."""
DEFAULT_TIMEOUT_S = 3600.0
SHORTEST_TIMEOUT_S = 0.001
LONGEST_TIMEOUT_S = 7 * 86400.0
MOST_STOPS = 16
MOST_TOP_LOGPROBS = 20
ID_PREFIX = "chatcmpl-"
REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~+/-]{0,199}")
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
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
    body = Body(values)
    body.unsupported()
    stream = body.boolean("stream")
    if stream and body.boolean("logprobs"):
        raise refused("logprobs", None, "can't be streamed; ask without stream")
    request = Request(
        id=_request_id(body.raw("request_id")),
        model=_model(body.raw("model")),
        messages=_messages(body.raw("messages")),
        schema=_schema(body.raw("response_format")),
        source=_source(body.raw("response_format")),
        max_tokens=_max_tokens(body),
        sampling=parse_sampling(body),
        top_logprobs=_top_logprobs(body),
        stop=_stops(body.raw("stop")),
        timeout_s=body.number("timeout", DEFAULT_TIMEOUT_S, SHORTEST_TIMEOUT_S, LONGEST_TIMEOUT_S),
    )
    return ChatCall(request, stream, stream_usage=_stream_usage(body.raw("stream_options")))


def _request_id(value: Any) -> str:
    if value is None:
        return uuid.uuid4().hex
    if not isinstance(value, str) or not REQUEST_ID.fullmatch(value):
        raise refused("request_id", None, "must be 1 to 200 letters, digits or ._:~+/-")
    return value


def _model(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise refused("model", None, "must name a model: 'embedded' or a folder's path")
    return _text("model", value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise refused(name, None, "must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise refused(name, None, "has half a surrogate pair, which is no character") from None
    return value


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise refused("messages", None, "must be a list of at least one message")
    messages = tuple(_message(number, entry) for number, entry in enumerate(value))
    if messages[-1].role != "user":
        raise refused("messages", None, "must end with the user's turn")
    return messages


def _message(number: int, entry: Any) -> Message:
    name = f"messages[{number}]"
    if not isinstance(entry, dict):
        raise refused(name, None, "must be an object with role and content")
    values: dict[str, Any] = entry
    for key, extra in values.items():
        if key not in {"role", "content"} and extra:
            raise refused(f"{name}.{key}", None, "is not supported")
    role = ROLES.get(str(values.get("role")))
    if role is None:
        raise refused(f"{name}.role", None, "must be system, user or assistant")
    return Message(role, _content(f"{name}.content", values.get("content")))  # pyright: ignore[reportArgumentType]


def _content(name: str, value: Any) -> str:
    if not isinstance(value, list):
        return _text(name, value)
    parts: list[str] = []
    for part in value:
        if not isinstance(part, dict) or part.get("type") != "text":
            raise refused(name, None, "must be text: other kinds of content are not supported")
        parts.append(_text(name, part.get("text")))
    return "".join(parts)


def _schema(value: Any) -> dict[str, Any] | None:
    name = "response_format"
    if value is None:
        return None
    if not isinstance(value, dict):
        raise refused(name, None, "must be an object")
    if value.get("type") == "text":
        return None
    if value.get("type") == "json_object":
        raise refused(name, None, "json_object is not supported; give a json_schema")
    if value.get("type") != "json_schema":
        raise refused(name, None, "must be of type text or json_schema")
    described = value.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(schema, dict):
        raise refused(f"{name}.json_schema.schema", None, "must be an object")
    _text(name, json.dumps(schema, ensure_ascii=False))
    return schema  # pyright: ignore[reportUnknownVariableType]


def _source(response_format: Any) -> str | None:
    """The text that quotes are words of: our extension, `json_schema["x-source"]`."""
    described = response_format.get("json_schema") if isinstance(response_format, dict) else None
    source = described.get("x-source") if isinstance(described, dict) else None
    return None if source is None else _text("response_format.json_schema.x-source", source)


def _max_tokens(body: Body) -> int:
    highest = 1 << 24
    old = body.integer("max_tokens", Request.__dataclass_fields__["max_tokens"].default, 1, highest)
    new = body.integer("max_completion_tokens", old, 1, highest)
    if "max_tokens" in body and new != old:
        raise refused("max_completion_tokens", new, f"differs from max_tokens={old}")
    return new


def _top_logprobs(body: Body) -> int:
    top = body.integer("top_logprobs", 0, 0, MOST_TOP_LOGPROBS)
    if not body.boolean("logprobs"):
        if top:
            raise refused("top_logprobs", top, "needs logprobs=true")
        return 0
    return max(1, top)


def _stops(value: Any) -> tuple[str, ...]:
    stops: Any = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(stops):
        raise refused("stop", None, f"must be at most {MOST_STOPS} strings, none of them empty")
    return tuple(_text("stop", stop) for stop in stops)


def _stream_usage(value: Any) -> bool:
    if value is None:
        return False
    if not isinstance(value, dict) or set(value) - {"include_usage"}:
        raise refused("stream_options", None, "must be an object with include_usage only")
    return value.get("include_usage") is True


def request_body(request: Request, timeout_s: float) -> dict[str, Any]:
    """The body that asks for `request`, with what is left of its time."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "max_completion_tokens": request.max_tokens,
        **sampling_body(request.sampling),
        "stop": list(request.stop),
        "request_id": request.id,
        "timeout": timeout_s,
    }
    if request.schema is not None:
        described = {"name": "answer", "strict": True, "schema": request.schema}
        if request.source is not None:
            described["x-source"] = request.source
        body["response_format"] = {"type": "json_schema", "json_schema": described}
    if request.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    return body
