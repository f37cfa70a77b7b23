"""Asks the questions of one job and adds up what they took.

In: a `Question` and how to read its answer. Out: what was read from it. An answer that can't be
read is asked for once more, with what was wrong. No error holds any of the document.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, TypeVar

from pipeline.budget import ERROR_CHARS, answer_tokens
from pipeline.engine.interface import Completion, Engine, Message, ModelInfo, Request, Sampling
from pipeline.errors import ResultError
from pipeline.evidence import Evidence
from pipeline.messages import ask_again
from pipeline.records import Chunk, Job, Result, Task
from pipeline.sentences import split_sentences, trim_to_clause, trim_to_sentence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked once.

    Attributes:
        messages: The turns of the chat.
        schema: What the answer is held to, None for text.
        source: What quotes in the answer are words of.
        top_logprobs: As in `Request`.
        place: Which part it is about, for errors.
    """

    messages: tuple[Message, ...]
    schema: dict[str, Any] | None = None
    source: str | None = None
    top_logprobs: int = 0
    place: str = ""


def place_of(chunk: Chunk, number: int, count: int) -> str:
    """Which part of a document a question is about, for errors; empty if it is all of it."""
    if count == 1:
        return ""
    return f" (part {number} of {count}, pages {chunk.page_first} to {chunk.page_last})"


@dataclass(slots=True)
class Asker:
    """Asks for one job; `ask` is safe to call from several threads.

    Attributes:
        cut: Whether an answer reached its token limit.
    """

    job: Job
    task: Task
    engine: Engine
    model: ModelInfo
    nonce: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    completions: list[Completion] = field(default_factory=list[Completion])
    cut: bool = False
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def ask(self, question: Question, read: Callable[[Completion], T]) -> T:
        """One question, and once more if the answer is invalid.

        Args:
            question: The question.
            read: Reads an answer that is whole, or raises ResultError.

        Raises:
            ResultError: It was invalid twice; the message says what was wrong the second time.
        """
        completion = self._complete(question)
        try:
            return self._read(completion, read)
        except ResultError as error:
            turns = ask_again(question.messages, completion.text, str(error)[:ERROR_CHARS])
        completion = self._complete(replace(question, messages=turns))
        try:
            return self._read(completion, read, is_last=True)
        except ResultError as error:
            raise ResultError(error.kind, f"{error}; asked twice{question.place}") from None

    def result(
        self, value: Any, chunks: Sequence[Chunk], evidence: Sequence[Evidence] = ()
    ) -> Result:
        """The result of the job, with all that its questions took."""
        done = self.completions
        return Result(
            job_key=self.job.key,
            value=value,
            probability=1.0,
            chunks=tuple(chunk.number for chunk in chunks),
            calls=len(done),
            cut=self.cut,
            prompt_tokens=sum(completion.prompt_tokens for completion in done),
            cached_tokens=sum(completion.cached_tokens for completion in done),
            completion_tokens=sum(completion.completion_tokens for completion in done),
            model_s=sum(completion.prefill_s + completion.decode_s for completion in done),
            evidence=tuple(evidence),
        )

    def _complete(self, question: Question) -> Completion:
        settings: dict[str, Any] = dict(self.task.settings)
        request = Request(
            id=f"{self.job.key[:16]}-{self.nonce}-{next(self._numbers)}",
            model=self.model.name,
            messages=question.messages,
            schema=question.schema,
            max_tokens=answer_tokens(self.task, self.model),
            sampling=Sampling(**settings),
            top_logprobs=question.top_logprobs,
            source=question.source,
        )
        completion = self.engine.complete(request)
        self.completions.append(completion)
        return completion

    def _read(
        self, completion: Completion, read: Callable[[Completion], T], *, is_last: bool = False
    ) -> T:
        value = read(self._whole(completion, is_last=is_last))
        if completion.finish_reason != "stop" and not self._has_all_sentences(value):
            self.cut = True
        return value

    def _has_all_sentences(self, value: object) -> bool:
        """Whether an answer has as many sentences as it may, so that nothing of it is missed."""
        most = self.task.limits.max_sentences
        return isinstance(value, str) and 0 < most <= len(split_sentences(value))

    def _whole(self, completion: Completion, *, is_last: bool) -> Completion:
        """The answer, without the half sentence that it ends with at its limit.

        A sentence that did not end at the second attempt either ends where a part of it does, and
        shows it: better a piece of a summary, marked as cut, than none.
        """
        if completion.finish_reason != "length":
            return completion
        text = trim_to_sentence(completion.text) if self.task.kind == "text" else ""
        if not text and is_last and self.task.kind == "text":
            text = trim_to_clause(completion.text)
        if not text:
            raise ResultError(
                "cut",
                f"the answer was longer than max_tokens={answer_tokens(self.task, self.model)} and "
                "could not be completed: answer more briefly (the task may raise max_tokens)",
            )
        return replace(completion, text=text)
