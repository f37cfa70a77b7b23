"""What the engine's benchmark compares: mlx-lm's two generators, and our core in three settings."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
from engine_prompts import Prompt
from mlx_lm.generate import BatchGenerator, generate_step
from mlx_lm.utils import load_model

from pipeline.engine.choosing.fused_choice import Chooser
from pipeline.engine.core import Core
from pipeline.engine.drafters.drafter import Drafter
from pipeline.engine.interface import (
    CoreOptions,
    Done,
    Event,
    Failed,
    ModelInfo,
    Request,
    Sampling,
    TextDelta,
    TokenLogprob,
)
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.engine.memory.cache import RaggedCache
from pipeline.engine.targets.reading import Reading
from pipeline.engine.targets.target import Target, stop_tokens

SYSTEMS = ("mlx_lm_serial", "mlx_lm_batch", "plain", "copies", "drafter")
KV_BYTES = 8 << 30
AHEAD = 2
"""So many times as many requests as rows are with the core, as in the engine."""


@dataclass(slots=True)
class Answers:
    """Answers to some prompts, in their order, and where the time went.

    Attributes:
        texts, tokens: Of each answer the text and the number of tokens.
        wall_s: From the first request to the last answer; `decode_s` without the prompts.
        first_s: For each answer, from its request to its first token.
        from_row_s: The same without the wait for a free row; empty if that is not known.
        steps, row_steps: Forwards while decoding, and rows in all of them.
        forward_s: Time under the forwards while decoding; 0 if it was not measured.
        widths: Steps by the width of the verify; "drafter" those that ran it.
        exact: If asked for, the answers' tokens with their likeliest rivals.
        peak_mb: Most memory that the system had; filled in by `engine_memory` where MLX has it.
    """

    texts: list[str] = field(default_factory=list[str])
    tokens: list[int] = field(default_factory=list[int])
    wall_s: float = 0.0
    decode_s: float = 0.0
    first_s: list[float] = field(default_factory=list[float])
    from_row_s: list[float] = field(default_factory=list[float])
    steps: int = 0
    row_steps: int = 0
    forward_s: float = 0.0
    widths: dict[str, int] = field(default_factory=dict[str, int])
    exact: list[tuple[TokenLogprob, ...]] = field(default_factory=list[tuple[TokenLogprob, ...]])
    peak_mb: int = 0


class System(Protocol):
    """Whatever answers prompts."""

    def answer(
        self, prompts: Sequence[Prompt], rows: int, tokens: int, *, nonce: str, exact: bool = False
    ) -> Answers:
        """Answers prompts that all come at once, at most `rows` at a time."""
        ...


def make_system(name: str, info: ModelInfo, drafter: str, rows: int) -> System:
    """Loads a system of `SYSTEMS`."""
    if name == "mlx_lm_serial":
        return Serial(info)
    if name == "mlx_lm_batch":
        return Batch(info)
    options = CoreOptions(
        max_rows=rows,
        kv_bytes=KV_BYTES,
        speculate=name != "plain",
        drafter=drafter if name == "drafter" else "",
    )
    return Ours(info, options)


class MlxLm:
    """The model as mlx-lm loads it."""

    def __init__(self, info: ModelInfo) -> None:
        self.model: Any = load_model(Path(info.folder))[0]
        self.tokenizer = ChatTokenizer(info.folder)
        self.stop = sorted(stop_tokens(info.folder, self.tokenizer.stop_tokens))

    def render(self, prompts: Sequence[Prompt], nonce: str) -> list[list[int]]:
        """The prompts' tokens."""
        return [
            self.tokenizer.render(prompt.messages(f"{nonce} {i}"))
            for i, prompt in enumerate(prompts)
        ]


class Serial(MlxLm):
    """mlx-lm's `generate`, one request after the other."""

    def answer(
        self, prompts: Sequence[Prompt], rows: int, tokens: int, *, nonce: str, exact: bool = False
    ) -> Answers:
        """See `System`."""
        del rows, exact
        answers, began = Answers(), time.perf_counter()
        for prompt in self.render(prompts, nonce):
            asked, times = time.perf_counter(), list[float]()
            steps: Any = generate_step(mx.array(prompt), self.model, max_tokens=tokens)
            for token, _ in steps:
                times.append(time.perf_counter())
                if int(token) in self.stop:
                    break
            answers.tokens.append(len(times))
            answers.first_s.append(times[0] - asked)
            answers.decode_s += (times[-1] - times[0]) * len(times) / max(1, len(times) - 1)
        answers.wall_s = time.perf_counter() - began
        answers.steps = answers.row_steps = sum(answers.tokens)
        answers.from_row_s = answers.first_s
        return answers


class Batch(MlxLm):
    """mlx-lm's `batch_generate`, by its own generator, to see the first tokens."""

    def answer(
        self, prompts: Sequence[Prompt], rows: int, tokens: int, *, nonce: str, exact: bool = False
    ) -> Answers:
        """See `System`."""
        del exact
        answers, asked = Answers(), self.render(prompts, nonce)
        began = time.perf_counter()
        generator = BatchGenerator(
            self.model,
            stop_tokens=[[token] for token in self.stop],
            completion_batch_size=rows,
            prefill_batch_size=min(8, rows),
        )
        places = {uid: i for i, uid in enumerate(generator.insert(asked, [tokens] * len(asked)))}
        first: dict[int, float] = {}
        answers.tokens = [0] * len(prompts)
        with generator.stats() as stats:
            while responses := generator.next_generated():
                answers.steps += 1
                answers.row_steps += len(responses)
                for response in responses:
                    first.setdefault(response.uid, time.perf_counter() - began)
                    answers.tokens[places[response.uid]] += response.finish_reason != "stop"
        generator.close()
        answers.wall_s = time.perf_counter() - began
        answers.decode_s = answers.wall_s - stats.prompt_time
        answers.first_s = list(first.values())
        return answers


class _ForgetfulCore(Core):
    """A core that can be asked the same again, as if for the first time."""

    def start_over(self, rows: int) -> None:
        """Forgets what it has read, and runs so many rows, if it may; there must be none."""
        self._room.forget()
        self._most_rows = min(rows, self._options.max_rows)


class Ours:
    """Our core."""

    def __init__(self, info: ModelInfo, options: CoreOptions) -> None:
        self._name = info.name
        self._core = _ForgetfulCore(info, options)
        self._watch = Stopwatch()

    def answer(
        self, prompts: Sequence[Prompt], rows: int, tokens: int, *, nonce: str, exact: bool = False
    ) -> Answers:
        """See `System`; what it has read before is forgotten: the same prompts, the same work."""
        self._core.start_over(rows)
        answers, done, first = Answers(), dict[str, Done](), dict[str, float]()
        given_s: dict[str, float] = {}
        before, began = self._core.stats(), time.perf_counter()

        def see(event: Event) -> None:
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, TextDelta):
                first.setdefault(event.id, time.perf_counter() - began)
            else:
                done[event.completion.id] = event

        waiting = [
            Request(
                f"{nonce}-{prompt.task.name}-{i}",
                self._name,
                prompt.messages(f"{nonce} {i}"),
                schema=prompt.schema,
                max_tokens=tokens,
                sampling=Sampling() if exact else prompt.sampling,
                top_logprobs=2 * exact,
            )
            for i, prompt in enumerate(prompts)
        ]
        names = [request.id for request in waiting]
        with self._watch:
            while waiting or len(done) < len(names):
                while waiting and len(names) - len(waiting) - len(done) < AHEAD * rows:
                    given_s[waiting[0].id] = time.perf_counter() - began
                    self._core.submit(waiting.pop(0), see)
                self._core.step()
        answers.wall_s = time.perf_counter() - began
        after = self._core.stats()
        answers.decode_s = after.decode_s - before.decode_s
        answers.steps = after.steps - before.steps
        answers.row_steps, answers.forward_s = self._watch.row_steps, self._watch.forward_s
        answers.first_s = list(first.values())
        answers.from_row_s = [
            first_s - given_s[name] - done[name].completion.queue_s
            for name, first_s in first.items()
        ]
        if after.speculation and before.speculation:
            old = dict(before.speculation.steps_by_width)
            now = after.speculation.steps_by_width
            answers.widths = {str(width): steps - old[width] for width, steps in now}
            drafted = after.speculation.drafter_steps - before.speculation.drafter_steps
            answers.widths["drafter"] = drafted
        for name in names:
            completion = done[name].completion
            answers.texts.append(completion.text)
            answers.tokens.append(completion.completion_tokens)
            answers.exact.append(completion.logprobs)
        return answers


class Stopwatch:
    """Time under the forwards of the target and the drafter while decoding, and rows in them."""

    def __init__(self) -> None:
        self.forward_s, self.row_steps = 0.0, 0
        self._deep = 0
        self._kept: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> None:
        self.forward_s, self.row_steps = 0.0, 0
        self._patch(Target, "forward", lambda arguments: len(arguments[1]))
        self._patch(Target, "forward_chosen", lambda arguments: len(arguments[2]))
        self._patch(Drafter, "draft", lambda _: 0)
        self._patch(mx, "eval", lambda _: 0)
        self._patch(Chooser, "_wait", lambda _: 0)  # it looks, and does not wait for MLX
        for owner, name in (
            (Target, "prefill"),
            (Reading, "finish"),
            (RaggedCache, "resize"),
            (RaggedCache, "copy_prefix"),
        ):
            self._patch(owner, name, None)  # what these wait for is no forward

    def __exit__(self, *_: object) -> None:
        while self._kept:
            owner, name, original = self._kept.pop()
            setattr(owner, name, original)

    def _patch(self, owner: Any, name: str, rows: Callable[[Any], int] | None) -> None:
        original = getattr(owner, name)
        self._kept.append((owner, name, original))

        def timed(*arguments: Any, **more: Any) -> Any:
            outer = self._deep == 0
            began = time.perf_counter()
            self._deep += 1
            try:
                return original(*arguments, **more)
            finally:
                self._deep -= 1
                if outer and rows is not None:
                    self.forward_s += time.perf_counter() - began
                    self.row_steps += rows(arguments)

        setattr(owner, name, timed)
