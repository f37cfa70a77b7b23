"""Answers one job: asks the engine about a document, chunk by chunk, and joins the answers.

In: a task, a document's text and chunks, an engine. Out: a `Result`, or the error to record. A
document of one chunk takes one call; a longer one a call for each chunk, then text is joined by
further calls (as a tree if the parts do not fit one) and fields by rules. An invalid answer is
asked for once more. No error holds any of the document.
"""

import dataclasses
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.budget import ERROR_CHARS, TITLE_TOKENS, chunk_limits, merge_tokens, part_tokens
from pipeline.engine.interface import Completion, Engine, Message, ModelInfo, Request, Sampling
from pipeline.errors import ResultError
from pipeline.merging import merge_fields
from pipeline.messages import ask_about, ask_again, ask_to_merge
from pipeline.records import Chunk, Job, Result, Task
from pipeline.results import parse_result
from pipeline.schema import answer_schema
from pipeline.sentences import trim_to_sentence
from pipeline.tokens import load_tokens


@dataclass(frozen=True, slots=True)
class DocumentText:
    """What a job needs of a document.

    Attributes:
        title: The document's title, or empty.
        text: Its normalised text.
        chunks: Cut by `chunk_limits(task, model)`.
    """

    title: str
    text: str
    chunks: tuple[Chunk, ...]


def answer_job(
    job: Job, task: Task, document: DocumentText, engine: Engine, model: ModelInfo
) -> Result:
    """Answers one job; blocks; safe to call from many threads.

    Args:
        job: The job, for its key.
        task: The job's task.
        document: The document.
        engine: Whatever answers requests.
        model: The model to ask.

    Raises:
        ResultError: The answer was invalid twice, or the document has no text ("no_text").
        RequestError: The engine refuses a request of this job.
        EngineError: The engine stopped.
    """
    chunks = [
        chunk for chunk in document.chunks if document.text[chunk.own_start : chunk.own_end].strip()
    ]
    if not chunks:
        raise ResultError("no_text", "the document has no text to ask about; see its pages' notes")
    asker = _Asker(job, task, engine, model)
    title = load_tokens(model.tokenizer_json).head(document.title, TITLE_TOKENS)
    if task.kind == "class":
        return _find_class(asker, title, document, chunks[0])
    values = [
        asker.ask(
            ask_about(task, title, _seen(document, chunk), number, len(chunks)),
            partial=len(chunks) > 1,
            place=_place(chunk, number, len(chunks)),
        )
        for number, chunk in enumerate(chunks, start=1)
    ]
    value = values[0] if len(values) == 1 else _join(asker, values)
    return asker.result(value, chunks)


def _seen(document: DocumentText, chunk: Chunk) -> str:
    return document.text[chunk.start_char : chunk.end_char]


def _place(chunk: Chunk, number: int, count: int) -> str:
    if count == 1:
        return ""
    return f" (part {number} of {count}, pages {chunk.page_first} to {chunk.page_last})"


def _find_class(asker: "_Asker", title: str, document: DocumentText, first: Chunk) -> Result:
    """Asks about the beginning of the first chunk only: enough to tell what a document is."""
    tokens = load_tokens(asker.model.tokenizer_json)
    most = chunk_limits(asker.task, asker.model).chunk_tokens
    beginning = tokens.head(_seen(document, first), most)
    value = asker.ask(ask_about(asker.task, title, beginning), top_logprobs=1)
    return dataclasses.replace(
        asker.result(value, [first]), probability=_probability(asker.last_completion)
    )


def _probability(completion: Completion) -> float:
    """The probability of the answer's tokens among those that the grammar allowed."""
    if not completion.logprobs:
        raise ResultError(
            "no_probability", "the engine gave no probabilities for the class; update the engine"
        )
    return min(math.exp(sum(token.logprob for token in completion.logprobs)), 1.0)


def _join(asker: "_Asker", values: Sequence[Any]) -> Any:
    if asker.task.kind == "fields":
        merged = merge_fields(asker.task, values)
        asker.cut = asker.cut or merged.cut
        return merged.value
    while len(values) > 1:
        values = [
            group[0]
            if len(group) == 1
            else asker.ask(ask_to_merge(asker.task, group), place=" (joining the parts)")
            for group in _groups(asker, values)
        ]
    return values[0]


def _groups(asker: "_Asker", answers: Sequence[str]) -> list[list[str]]:
    """Neighbouring answers, as many together as fit one request, and at least two."""
    count = load_tokens(asker.model.tokenizer_json).count
    extra = part_tokens(asker.task) - asker.task.limits.max_tokens
    room = merge_tokens(asker.task, asker.model)
    groups: list[list[str]] = []
    used = 0
    for answer in answers:
        size = count(answer) + extra
        if groups and (used + size <= room or len(groups[-1]) == 1):
            groups[-1].append(answer)
            used += size
        else:
            groups.append([answer])
            used = size
    return groups


@dataclass(slots=True)
class _Asker:
    """Asks the questions of one job and adds up what they took."""

    job: Job
    task: Task
    engine: Engine
    model: ModelInfo
    nonce: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    completions: list[Completion] = field(default_factory=list[Completion])
    cut: bool = False

    @property
    def last_completion(self) -> Completion:
        return self.completions[-1]

    def ask(
        self,
        messages: tuple[Message, ...],
        *,
        partial: bool = False,
        top_logprobs: int = 0,
        place: str = "",
    ) -> Any:
        """One question, and once more if the answer is invalid.

        Raises:
            ResultError: It was invalid twice; the message says what was wrong the second time.
        """

        def attempt(turns: tuple[Message, ...]) -> Any:
            completion = self._complete(turns, partial=partial, top_logprobs=top_logprobs)
            return self._read(completion, partial=partial)

        try:
            return attempt(messages)
        except ResultError as error:
            answer = self.last_completion.text
            retry = ask_again(messages, answer, str(error)[:ERROR_CHARS])
        try:
            return attempt(retry)
        except ResultError as error:
            raise ResultError(error.kind, f"{error}; asked twice{place}") from None

    def _complete(
        self, messages: tuple[Message, ...], *, partial: bool, top_logprobs: int
    ) -> Completion:
        request = Request(
            id=f"{self.job.key[:16]}-{self.nonce}-{len(self.completions) + 1}",
            model=self.model.name,
            messages=messages,
            schema=answer_schema(self.task, partial=partial),
            max_tokens=self.task.limits.max_tokens,
            sampling=_sampling(self.task),
            top_logprobs=top_logprobs,
        )
        completion = self.engine.complete(request)
        self.completions.append(completion)
        return completion

    def _read(self, completion: Completion, *, partial: bool) -> Any:
        text = completion.text
        cut = completion.finish_reason != "stop"
        if completion.finish_reason == "length":
            text = trim_to_sentence(text) if self.task.kind == "text" else ""
            if not text:
                raise ResultError(
                    "cut",
                    f"the answer was longer than max_tokens={self.task.limits.max_tokens} and "
                    "could not be completed: answer more briefly (the task may raise max_tokens)",
                )
        value = parse_result(self.task, text, partial=partial)
        self.cut = self.cut or cut
        return value

    def result(self, value: Any, chunks: Sequence[Chunk]) -> Result:
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
        )


def _sampling(task: Task) -> Sampling:
    settings: dict[str, Any] = dict(task.settings)
    return Sampling(**settings)
