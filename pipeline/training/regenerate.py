"""The target answers the questions: greedy, batched, by the engine's own core in this process.

In: questions, a core, shards that may hold some of the answers. Out: the shards with all of them.
Interrupted at any time, it loses less than a shard.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from pipeline.engine.core import Core
from pipeline.engine.intake import Coming
from pipeline.engine.interface import Done, Event, Request, TextDelta
from pipeline.errors import RequestError
from pipeline.training.questions import Question
from pipeline.training.shards import Answer, Shards, repeats_itself

SHARD_ROWS = 256
SHARD_S = 120.0
"""A shard is written after so many answers or so long."""
WAITING = 2
"""Questions that wait, for each that runs."""
TIMEOUT_S = 1e9


@dataclass(slots=True)
class Written:
    """What came of a call.

    Attributes:
        answers: Written by this call.
        refused: Questions that the engine refused, as for their length.
        tokens: Of the answers.
        seconds: Spent.
        stopped: Whether it was stopped before the end.
    """

    answers: int = 0
    refused: int = 0
    tokens: int = 0
    seconds: float = 0.0
    stopped: bool = False


@dataclass(slots=True)
class _Writer:
    """Feeds a core and collects what is finished."""

    core: Core
    model: str
    shards: Shards
    stop_token: int
    done: Written = field(default_factory=Written)
    _asked: dict[str, tuple[Question, Coming]] = field(
        default_factory=dict[str, "tuple[Question, Coming]"]
    )
    _fresh: list[Answer] = field(default_factory=list[Answer])
    _kept_s: float = field(default_factory=time.monotonic)

    def submit(self, question: Question) -> None:
        request = Request(
            id=question.key,
            model=self.model,
            messages=question.messages,
            schema=question.schema,
            max_tokens=question.max_tokens,
            sampling=question.sampling,
            timeout_s=TIMEOUT_S,
            source=question.quoted or None,
        )
        try:
            self._asked[question.key] = question, self.core.submit(request, self._on_event)
        except RequestError:
            self.done.refused += 1

    @property
    def open(self) -> int:
        """Questions that wait or run."""
        return len(self._asked)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            return
        key = event.completion.id if isinstance(event, Done) else event.id
        question, coming = self._asked.pop(key)
        if not isinstance(event, Done):
            self.done.refused += 1
            return
        row = coming.made.result()
        tokens = list(row.history.tokens)
        ended_itself = row.finish_reason == "stop" and not (row.matcher and row.matcher.complete)
        text = event.completion.text
        self._fresh.append(
            Answer(
                key=key,
                kind=question.kind,
                source=question.source,
                licence=question.licence,
                split=question.split,
                group=question.group,
                part=question.part,
                schema="" if question.schema is None else json.dumps(question.schema),
                quoted=question.quoted,
                prompt=tuple(row.prompt),
                answer=(*tokens, self.stop_token) if ended_itself else tuple(tokens),
                text=text,
                ended=row.finish_reason,
                loops=repeats_itself(text),
            )
        )
        self.done.answers += 1
        self.done.tokens += len(tokens)

    def keep(self, *, now: bool) -> None:
        """Writes what is finished, if it is much or old."""
        old = time.monotonic() - self._kept_s > SHARD_S
        if self._fresh and (now or old or len(self._fresh) >= SHARD_ROWS):
            self.shards.add(self._fresh)
            self._fresh, self._kept_s = [], time.monotonic()


def write_answers(
    questions: Iterable[Question],
    core: Core,
    shards: Shards,
    setting: "Setting",
    progress: Callable[[Written], None] = lambda _: None,
) -> Written:
    """Has the target answer every question that the shards have no answer to.

    Args:
        questions: What to ask.
        core: The target; drafts or not, its answers are the same.
        shards: Where answers are kept.
        setting: How to run.
        progress: Told after every step.

    Raises:
        EngineError: The disk is full.
    """
    writer = _Writer(core, setting.model, shards, setting.stop_token)
    left: Iterator[Question] = (q for q in questions if q.key not in shards.keys)
    started = time.monotonic()
    more = True
    try:
        while more or writer.open:
            while more and writer.open < WAITING * setting.rows:
                question = next(left, None)
                more = question is not None
                if question is not None:
                    writer.submit(question)
            if setting.stop():
                writer.done.stopped = True
                break
            core.step()
            writer.keep(now=False)
            writer.done.seconds = time.monotonic() - started
            progress(writer.done)
    finally:
        writer.keep(now=True)
    return writer.done


@dataclass(frozen=True, slots=True)
class Setting:
    """How answers are written.

    Attributes:
        model: Its name.
        rows: Answers at the same time.
        stop_token: Ends an answer.
        stop: Says whether to stop; what is finished is kept.
    """

    model: str
    rows: int
    stop_token: int
    stop: Callable[[], bool] = lambda: False


def merge_questions(
    answers: Iterable[Answer], merge: Callable[[list[Answer]], Question]
) -> list[Question]:
    """The second round: for each document whose parts are summarised, the question to merge them.

    Args:
        answers: All that there are; parts that loop or were cut join nothing.
        merge: Words the question for the answers about a document's parts, in order.
    """
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.kind == "part":
            groups.setdefault(answer.group, []).append(answer)
    return [
        merge(sorted(parts, key=lambda part: part.part))
        for _, parts in sorted(groups.items())
        if len(parts) > 1 and not any(part.loops or not part.text.strip() for part in parts)
    ]
