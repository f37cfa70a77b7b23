"""The engine's answers over HTTP, both ways: completions, stream chunks and errors.

OpenAI's shapes, with an object "docflash" for what they have no place for.
"""

import time
from typing import Any, cast

from pipeline.engine.interface import Completion, TokenLogprob
from pipeline.engine.serving.wire import ID_PREFIX, STATUS, ChatCall
from pipeline.errors import EngineError, RequestError

SERVER_FAULT = 500
TOO_MANY = 429
NEVER = -9999.0


def completion_body(call: ChatCall, completion: Completion) -> dict[str, Any]:
    """The body of a chat completion."""
    logprobs = None
    if call.request.top_logprobs:
        logprobs = {"content": [_logprob_body(entry) for entry in completion.logprobs]}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": completion.text, "refusal": None},
        "logprobs": logprobs,
        "finish_reason": _finish_reason(completion),
    }
    return _head(call, "chat.completion") | {
        "choices": [choice],
        "usage": usage_body(completion),
        "docflash": _details(completion),
    }


def first_chunk(call: ChatCall) -> dict[str, Any]:
    """The stream's opening, which names the role."""
    return _chunk(call, {"role": "assistant", "content": ""}, None)


def text_chunk(call: ChatCall, text: str) -> dict[str, Any]:
    """More text of a streamed answer."""
    return _chunk(call, {"content": text}, None)


def last_chunks(call: ChatCall, completion: Completion) -> list[dict[str, Any]]:
    """What ends a stream: the reason and usage, and a chunk of usage alone if asked for."""
    usage = usage_body(completion)
    end = _chunk(call, {}, _finish_reason(completion))
    end |= {"usage": usage, "docflash": _details(completion)}
    if not call.stream_usage:
        return [end]
    return [end, _head(call, "chat.completion.chunk") | {"choices": [], "usage": usage}]


def usage_body(completion: Completion) -> dict[str, Any]:
    """Token counts, as OpenAI writes them."""
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": completion.cached_tokens},
    }


def error_body(error: EngineError) -> dict[str, Any]:
    """OpenAI's shape of an error; `code` is our kind."""
    status = error_status(error)
    kind = "invalid_request_error"
    if status >= SERVER_FAULT:
        kind = "server_error"
    elif status == TOO_MANY:
        kind = "rate_limit_error"
    return {
        "error": {"message": str(error), "type": kind, "param": None, "code": _code(error)},
    }


def error_status(error: EngineError) -> int:
    """The HTTP status that goes with an error."""
    return STATUS.get(_code(error), SERVER_FAULT)


def parse_error(body: Any, status: int) -> RequestError:
    """Reads an error back; the kind is "engine_failed" if the body isn't ours."""
    found = body.get("error") if isinstance(body, dict) else None
    if not isinstance(found, dict):
        return RequestError("engine_failed", f"the engine answered with status={status}")
    entry = cast("dict[str, Any]", found)
    return RequestError(str(entry.get("code")), str(entry.get("message")))


def parse_completion(body: dict[str, Any]) -> Completion:
    """Reads a chat completion back.

    Raises:
        EngineError: It lacks something: the engine is of another version.
    """
    try:
        choice, usage, details = body["choices"][0], body["usage"], body["docflash"]
        entries = (choice.get("logprobs") or {}).get("content") or ()
        return Completion(
            id=str(body["id"]).removeprefix(ID_PREFIX),
            text=choice["message"]["content"],
            finish_reason=details["finish_reason"],
            prompt_tokens=usage["prompt_tokens"],
            cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
            completion_tokens=usage["completion_tokens"],
            queue_s=details["queue_s"],
            prefill_s=details["prefill_s"],
            decode_s=details["decode_s"],
            logprobs=tuple(_parse_logprob(entry) for entry in entries),
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise EngineError(
            f"the engine's answer has no {error}: it is of another version of docflash; "
            "stop it with `docflash engine stop` and run again"
        ) from error


def _head(call: ChatCall, kind: str) -> dict[str, Any]:
    return {
        "id": ID_PREFIX + call.request.id,
        "object": kind,
        "created": int(time.time()),
        "model": call.request.model,
    }


def _chunk(call: ChatCall, delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _head(call, "chat.completion.chunk") | {"choices": [choice]}


def _finish_reason(completion: Completion) -> str:
    """OpenAI knows no "closed": there, too, the limit was reached."""
    return "stop" if completion.finish_reason == "stop" else "length"


def _details(completion: Completion) -> dict[str, Any]:
    return {
        "finish_reason": completion.finish_reason,
        "queue_s": round(completion.queue_s, 6),
        "prefill_s": round(completion.prefill_s, 6),
        "decode_s": round(completion.decode_s, 6),
    }


def _logprob_body(entry: TokenLogprob) -> dict[str, Any]:
    top = [_token_body(text, logprob) for text, logprob in entry.top]
    return _token_body(entry.token, entry.logprob) | {"top_logprobs": top}


def _token_body(text: str, logprob: float) -> dict[str, Any]:
    # JSON has no infinity; OpenAI writes this number for "never".
    return {"token": text, "logprob": max(logprob, NEVER), "bytes": list(text.encode())}


def _parse_logprob(entry: dict[str, Any]) -> TokenLogprob:
    top = tuple((str(pair["token"]), float(pair["logprob"])) for pair in entry["top_logprobs"])
    return TokenLogprob(str(entry["token"]), float(entry["logprob"]), top)


def _code(error: EngineError) -> str:
    return error.kind if isinstance(error, RequestError) else "engine_failed"
