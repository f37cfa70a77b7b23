"""Keeps what was answered of a job in many calls, so that a stopped run goes on in its middle.

In: requests. Out: completions: of the store if the same was asked for the same job before, else of
the engine. Requests are the same if nothing in them differs that can change the answer; a request
to join answers holds those answers, so it is known again only if all that it joins is.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.engine.interface import Completion, Engine, Request, TokenLogprob
from pipeline.store.calls import Calls

_NOT_OF_THE_ANSWER = ("id", "timeout_s")


@dataclass(frozen=True, slots=True)
class KeptCalls:
    """An engine that remembers one job. Safe to use from many threads, as the engine is.

    Attributes:
        engine: Answers what is not kept.
        calls: Where answers are kept.
        job_key: The job; its key stands for text, task and model.
    """

    engine: Engine
    calls: Calls
    job_key: str

    def complete(self, request: Request) -> Completion:
        """As `Engine.complete`."""
        key = call_key(request)
        kept = self.calls.find(self.job_key, key)
        if kept is not None:
            return _decode(request.id, kept)
        completion = self.engine.complete(request)
        self.calls.save(self.job_key, key, _encode(completion))
        return completion


def call_key(request: Request) -> str:
    """Names a request by all of it that can change the answer."""
    parts = {k: v for k, v in asdict(request).items() if k not in _NOT_OF_THE_ANSWER}
    # Not sorted: the order of a schema's fields is that of the answer.
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _encode(completion: Completion) -> str:
    parts = {k: v for k, v in asdict(completion).items() if k != "id"}
    return json.dumps(parts, separators=(",", ":"))


def _decode(request_id: str, kept: str) -> Completion:
    parts: dict[str, Any] = json.loads(kept)
    logprobs = tuple(
        TokenLogprob(
            entry["token"], entry["logprob"], tuple((text, value) for text, value in entry["top"])
        )
        for entry in parts["logprobs"]
    )
    parts |= {"id": request_id, "logprobs": logprobs}
    return Completion(**parts)
