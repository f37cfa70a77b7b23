"""A core without a model, whose answers are written in the questions; and a loader for it.

A request's last message says what happens: "say a b c" answers word by word, one per step; "hold"
answers "..." and no more until it is cancelled; "refuse" is refused; "break" makes the step fail;
"lose" is forgotten.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pipeline.engine.interface import (
    Completion,
    Done,
    EngineStats,
    Event,
    Failed,
    Message,
    Request,
    TextDelta,
    TokenLogprob,
)
from pipeline.engine.loader import NO_STATS, Core
from pipeline.errors import InputError, RequestError

WAIT_S = 120.0
"""How long a test waits for what must come: a busy machine takes its time."""


def ask(text: str, request_id: str = "r", model: str = "embedded", **more: object) -> Request:
    """A request with one message."""
    return replace(Request(request_id, model, (Message("user", text),)), **more)  # type: ignore[arg-type]


@dataclass(eq=False)
class _Row:
    request: Request
    on_event: Callable[[Event], None]
    words: list[str]
    said: list[str] = field(default_factory=list[str])


class ScriptedCore:
    """Answers as the questions say."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.rows: list[_Row] = []
        self.figures = replace(NO_STATS, weights_bytes=7)

    def submit(self, request: Request, on_event: Callable[[Event], None]) -> None:
        text = request.messages[-1].content
        if text == "refuse":
            raise RequestError("context_too_long", "the prompt is over the context")
        self.rows.append(_Row(request, on_event, text.split()[1:]))

    def cancel(self, request_id: str) -> None:
        self._end([row for row in self.rows if row.request.id == request_id], "cancelled")

    def step(self) -> bool:
        time.sleep(0.0005)
        for row in list(self.rows):
            verb = row.request.messages[-1].content.split()[0]
            if verb == "break":
                raise RuntimeError("the secret text of a document")
            if verb == "lose":
                self.rows.remove(row)
                continue
            if verb == "hold":
                if not row.said:
                    row.said.append("...")
                    row.on_event(TextDelta(row.request.id, "..."))
                continue
            if len(row.said) == len(row.words):
                self._finish(row)
            else:
                word = row.words[len(row.said)] + " "
                row.said.append(word)
                row.on_event(TextDelta(row.request.id, word))
        return bool(self.rows)

    def stats(self) -> EngineStats:
        return replace(self.figures, running=len(self.rows))

    def _finish(self, row: _Row) -> None:
        self.rows.remove(row)
        self.figures = replace(
            self.figures,
            finished=self.figures.finished + 1,
            completion_tokens=self.figures.completion_tokens + len(row.said),
        )
        top = row.request.top_logprobs
        logprobs = [TokenLogprob(w, -0.5, ((w, -0.5), ("x", float("-inf")))) for w in row.said]
        row.on_event(
            Done(
                Completion(
                    id=row.request.id,
                    text="".join(row.said) + self.model,
                    finish_reason="closed" if row.request.schema else "stop",
                    prompt_tokens=5,
                    cached_tokens=2,
                    completion_tokens=len(row.said),
                    queue_s=0.0,
                    prefill_s=0.25,
                    decode_s=0.5,
                    logprobs=tuple(logprobs) if top else (),
                )
            )
        )

    def _end(self, rows: list[_Row], kind: str) -> None:
        for row in rows:
            self.rows.remove(row)
            row.on_event(Failed(row.request.id, RequestError(kind, "the request was cancelled")))


class ScriptedLoader:
    """Loads scripted cores; a model whose name has "bad" in it can't be loaded.

    Attributes:
        loaded: The models, in the order of their loading.
        gate: Loading waits for it.
    """

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def load(self, model: str, progress: Callable[[str, float], None]) -> Core:
        progress("loading the weights", 0.5)
        self.gate.wait(WAIT_S)
        if "bad" in model:
            raise InputError(f"the model={model!r} has no weights")
        if "odd" in model:
            raise MemoryError("no room")
        self.loaded.append(model)
        return ScriptedCore(model)

    def free(self) -> None:
        pass
