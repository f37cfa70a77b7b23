"""Answers one job: asks the engine about a document, chunk by chunk, and joins the answers.

In: a task, a document's text and chunks, an engine. Out: a `Result` with its evidence, or the error
to record. A document of one chunk is asked about at once; a longer one chunk by chunk, then text is
joined by further calls (as a tree if the parts do not fit one) and fields by rules. An invalid
answer is asked for once more. No error holds any of the document.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.asking import Asker, Question, place_of
from pipeline.budget import TITLE_TOKENS, chunk_limits, merge_tokens, part_tokens
from pipeline.class_words import classes_by_words
from pipeline.engine.interface import Completion, Engine, ModelInfo
from pipeline.errors import ResultError
from pipeline.field_answers import answer_fields
from pipeline.forms import is_small
from pipeline.linking import link_sentences
from pipeline.messages import ask_about, ask_to_merge
from pipeline.records import Chunk, Job, Result, Task
from pipeline.results import parse_result
from pipeline.schema import answer_schema
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
    asker = Asker(job, task, engine, model)
    title = load_tokens(model.tokenizer_json).head(document.title, TITLE_TOKENS)
    if task.kind == "class":
        return _find_class(asker, title, document, chunks[0])
    if task.kind == "fields":
        answer = answer_fields(asker, title, document.text, chunks)
        return asker.result(answer.value, chunks, answer.evidence)
    text = _write_text(asker, title, document, chunks)
    return asker.result(text, chunks, link_sentences(text, document.text, document.title))


def _seen(document: DocumentText, chunk: Chunk) -> str:
    return document.text[chunk.start_char : chunk.end_char]


def _find_class(asker: Asker, title: str, document: DocumentText, first: Chunk) -> Result:
    """Asks about the beginning of the first chunk only: enough to tell what a document is.

    A small model is asked only if the document's words leave it a choice.
    """
    small = is_small(asker.model)
    classes = classes_by_words(asker.task, document.text) if small else asker.task.classes
    if len(classes) == 1:
        return asker.result(classes[0], [first])
    tokens = load_tokens(asker.model.tokenizer_json)
    most = chunk_limits(asker.task, asker.model).chunk_tokens
    beginning = tokens.head(_seen(document, first), most)
    choices = dataclasses.replace(asker.task, classes=classes)
    question = Question(
        ask_about(asker.task, title, beginning), answer_schema(choices), top_logprobs=1
    )
    value = asker.ask(question, lambda completion: parse_result(asker.task, completion.text))
    return dataclasses.replace(
        asker.result(value, [first]), probability=_probability(asker.completions[-1])
    )


def _probability(completion: Completion) -> float:
    """The probability of the answer's tokens among those that the grammar allowed."""
    if not completion.logprobs:
        raise ResultError(
            "no_probability", "the engine gave no probabilities for the class; update the engine"
        )
    return min(math.exp(sum(token.logprob for token in completion.logprobs)), 1.0)


def _write_text(asker: Asker, title: str, document: DocumentText, chunks: Sequence[Chunk]) -> str:
    task = asker.task

    def read(completion: Completion) -> str:
        return parse_result(task, completion.text)

    texts = [
        asker.ask(
            Question(
                ask_about(task, title, _seen(document, chunk), number, len(chunks)),
                place=place_of(chunk, number, len(chunks)),
            ),
            read,
        )
        for number, chunk in enumerate(chunks, start=1)
    ]
    while len(texts) > 1:
        texts = [
            group[0]
            if len(group) == 1
            else asker.ask(Question(ask_to_merge(task, group), place=" (joining the parts)"), read)
            for group in _groups(asker, texts)
        ]
    return texts[0]


def _groups(asker: Asker, answers: Sequence[str]) -> list[list[str]]:
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
