"""What every answer is held to: mlx-lm's own decoding of one prompt alone, and a core's desk.

`PlainDecoder` is `mlx_lm.generate.generate_step` with the penalties and the grammar as its
`logits_processors`, each written in the plainest way there is. `Desk` submits requests to a core
and holds every stream of events to the rules that all of them have to keep.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import llguidance.numpy
import mlx.core as mx
import numpy as np
from llguidance import LLMatcher, LLTokenizer
from mlx import nn
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_model

from pipeline.engine.core import Core
from pipeline.engine.interface import (
    Completion,
    Done,
    Event,
    Failed,
    Message,
    ModelInfo,
    Request,
    Sampling,
    TextDelta,
)
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.engine.targets.target import stop_tokens
from pipeline.errors import RequestError

MOST_STEPS = 20_000


def describe_model(folder: Path, context_tokens: int = 1024) -> ModelInfo:
    """A tiny checkpoint as the engine is told of it."""
    return ModelInfo("tiny", str(folder), "f", context_tokens, str(folder / "tokenizer.json"))


def ask(name: str, text: str, max_tokens: int = 24, **more: Any) -> Request:
    """A request for an answer to one message."""
    return Request(name, "tiny", (Message("user", text),), max_tokens=max_tokens, **more)


class PlainDecoder:
    """Decodes one request after the other, with mlx-lm's generator and nothing of the engine's."""

    def __init__(self, info: ModelInfo) -> None:
        self.model: nn.Module = load_model(Path(info.folder))[0]
        self.tokenizer = ChatTokenizer(info.folder)
        self.stop = stop_tokens(info.folder, self.tokenizer.stop_tokens)
        self._info = info
        self._known: dict[str, tuple[int, list[tuple[int, float]]]] = {}

    def decode(self, request: Request) -> list[tuple[int, float]]:
        """The answer's tokens with their log-probabilities among those that were allowed."""
        asked = repr((request.messages, request.schema, request.sampling))
        limit, known = self._known.get(asked, (0, []))
        if limit < request.max_tokens:  # else the beginning of a longer answer
            limit, known = request.max_tokens, self._decode(request)
            self._known[asked] = (limit, known)
        return known[: request.max_tokens]

    def _decode(self, request: Request) -> list[tuple[int, float]]:
        prompt = self.tokenizer.render(request.messages)
        shape = _Shape(request.sampling, len(prompt), self.stop)
        matcher = None if request.schema is None else self._matcher(request.schema)
        steps = generate_step(
            mx.array(prompt),
            self.model,
            max_tokens=request.max_tokens,
            logits_processors=[shape] if matcher is None else [shape, _Mask(matcher, len(prompt))],
        )
        return list(self._until_end(steps, matcher))

    def text(self, tokens: Sequence[int]) -> str:
        """The text of an answer."""
        detokenizer = self.tokenizer.detokenizer()
        return "".join(map(detokenizer.push, tokens)) + detokenizer.finish()

    def answer(self, request: Request) -> str:
        """The text of the answer to a request."""
        return self.text([token for token, _ in self.decode(request)])

    def _until_end(self, steps: Any, matcher: LLMatcher | None) -> Iterator[tuple[int, float]]:
        own = matcher and matcher.deep_copy()
        for token, logprobs in steps:
            if int(token) in self.stop:
                return
            yield int(token), float(logprobs[int(token)].item())
            if own is not None and own.consume_tokens([int(token)]) and own.is_stopped():
                return

    def _matcher(self, schema: dict[str, Any]) -> LLMatcher:
        width = int(self.model(mx.array([[0]])).shape[-1])
        tokenizer = LLTokenizer(
            self._info.tokenizer_json, n_vocab=width, eos_token=sorted(self.stop)
        )
        return LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(json.dumps(schema)))


class _Shape:
    """Penalties, bias and the ban of n-grams, as the interface describes them."""

    def __init__(self, sampling: Sampling, prompt_tokens: int, stop: frozenset[int]) -> None:
        self._sampling = sampling
        self._prompt_tokens = prompt_tokens
        self._stop = stop

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        whole: list[int] = np.array(tokens).tolist()
        prompt, answer = whole[: self._prompt_tokens], whole[self._prompt_tokens :]
        scores = np.array(logits[0], np.float32)
        for token in set(answer[-self._sampling.repetition_window :]):
            factor = np.float32(self._sampling.repetition_penalty)
            scores[token] = scores[token] / factor if scores[token] > 0 else scores[token] * factor
        for token in answer:
            scores[token] -= self._sampling.frequency_penalty
        scores[list(set(answer))] -= self._sampling.presence_penalty
        for token, amount in self._sampling.logit_bias:
            scores[token] += amount
        size = self._sampling.no_repeat_ngram
        for start in range(len(answer) - size + 1) if size else ():
            *begin, last = answer[start : start + size]
            if begin != answer[len(answer) - size + 1 :] or last in self._stop:
                continue
            if not self._may_be_copied([*begin, last], prompt, answer):
                scores[last] = -np.inf
        return mx.array(scores)[None]

    def _may_be_copied(self, ngram: list[int], prompt: list[int], answer: list[int]) -> bool:
        longest, size = self._sampling.no_repeat_copied, len(ngram)
        if not longest or ngram not in [prompt[i : i + size] for i in range(len(prompt))]:
            return False
        again = [*answer[len(answer) - longest + 1 :], ngram[-1]]
        return again not in [answer[i : i + longest] for i in range(len(answer) - longest + 1)]


class _Mask:
    """The grammar: nothing but what it allows."""

    def __init__(self, matcher: LLMatcher, prompt_tokens: int) -> None:
        self._matcher = matcher
        self._done = prompt_tokens

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        answer: list[int] = np.array(tokens).tolist()[self._done :]
        self._done += len(answer)
        if self._matcher.is_stopped() or not self._matcher.consume_tokens(answer):
            return logits  # the generator looks one token ahead of the end
        if self._matcher.is_stopped():
            return logits
        mask = llguidance.numpy.allocate_token_bitmask(1, logits.shape[-1])
        llguidance.numpy.fill_next_token_bitmask(self._matcher, mask, 0)
        bits = np.unpackbits(mask.view(np.uint8), bitorder="little")[: logits.shape[-1]]
        return mx.where(mx.array(bits.astype(bool)), logits, mx.array(-np.inf))


class Desk:
    """Submits requests to a core and keeps what comes of them.

    Attributes:
        core: The core.
        events: By request id, in their order.
        most_running: The most requests that were at work after any step.
        most_kv_bytes: The most memory that the core said it held.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        self.events: dict[str, list[Event]] = {}
        self.most_running = 0
        self.most_kv_bytes = 0

    def submit(self, *requests: Request) -> None:
        for request in requests:
            events: list[Event] = []
            coming = self.core.submit(request, events.append)
            self.events[request.id] = events
            coming.made.exception()  # waits: so the next step has it, however busy the machine is

    def step(self, count: int = 1) -> bool:
        """Some steps; whether the last had something to do."""
        busy = True
        for _ in range(count):
            busy = self.core.step()
            stats = self.core.stats()
            self.most_running = max(self.most_running, stats.running)
            self.most_kv_bytes = max(self.most_kv_bytes, stats.kv_bytes)
        return busy

    def finish(self, *requests: Request) -> "Desk":
        """Submits requests, then goes on until nothing is left to do."""
        self.submit(*requests)
        steps = 0
        while self.step():
            steps += 1
            assert steps < MOST_STEPS, "the core never comes to an end"
        for name, events in self.events.items():
            assert events, f"nothing became of {name}"
            *before, last = events
            assert all(isinstance(event, TextDelta) and event.text for event in before)
            if isinstance(last, Done):
                assert last.completion.id == name
                assert self.streamed(name) == last.completion.text
        stats = self.core.stats()
        assert (stats.running, stats.waiting) == (0, 0)
        return self

    def streamed(self, name: str) -> str:
        """The text that has been sent of an answer."""
        return "".join(event.text for event in self.events[name] if isinstance(event, TextDelta))

    def completion(self, name: str) -> Completion:
        last = self.events[name][-1]
        assert isinstance(last, Done), last
        return last.completion

    def error(self, name: str) -> RequestError:
        """Why a request failed."""
        last = self.events[name][-1]
        assert isinstance(last, Failed), last
        assert last.id == name
        return last.error

    def failure(self, name: str) -> str:
        """The kind of a request's failure."""
        return self.error(name).kind
