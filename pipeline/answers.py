"""Answers one job: asks the engine about a document, chunk by chunk, and joins the answers.

In: a task, a document's text and chunks, an engine. Out: a `Result` with its evidence, or the error
to record. A document of one chunk is asked about at once; a longer one chunk by chunk. Text is then
joined by further calls, section by section (`pipeline.merge_plan`), fields by rules. An invalid
answer is asked for once more. No error holds any of the document.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.asking import Asker, Question, place_of
from pipeline.budget import SECTION_TOKENS, TITLE_TOKENS, chunk_limits, most_parts
from pipeline.class_words import classes_by_words
from pipeline.engine.interface import Completion, Engine, ModelInfo
from pipeline.errors import ResultError
from pipeline.field_answers import answer_fields
from pipeline.forms import is_small
from pipeline.linking import link_sentences
from pipeline.merge_plan import Part, plan_merges
from pipeline.messages import ask_about, ask_to_merge
from pipeline.outline import Section
from pipeline.part_answers import answer_parts
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
        sections: Its sections, in order, if it has any.
    """

    title: str
    text: str
    chunks: tuple[Chunk, ...]
    sections: tuple[Section, ...] = ()


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
    """Asks about the chunks and joins the answers, by a plan that was made before."""
    most = most_parts(asker.task, asker.model, titled=True)
    sections = document.sections if most > 1 else ()
    if not sections:
        most = most_parts(asker.task, asker.model, titled=False)
    spans = [(chunk.own_start, chunk.own_end) for chunk in chunks]
    plan = plan_merges(spans, sections, most) if len(chunks) > 1 else Part("", chunk=0)
    return answer_parts(plan, _Writer(asker, title, document, chunks).write)


@dataclass(frozen=True, slots=True)
class _Writer:
    asker: Asker
    title: str
    document: DocumentText
    chunks: Sequence[Chunk]

    def write(self, part: Part, answers: Sequence[str]) -> str:
        """The answer about a part: of its chunk, or joined of those about its own parts."""
        if part.chunk is not None:
            return self._ask(self._about(part.chunk))
        titles = [self._shorten(inner.title) for inner in part.parts]
        fitting = [self._fit(answer) for answer in answers]
        messages = ask_to_merge(self.asker.task, list(zip(titles, fitting, strict=True)))
        return self._ask(Question(messages, place=" (joining the parts)"))

    def _about(self, place: int) -> Question:
        chunk, count = self.chunks[place], len(self.chunks)
        seen = _seen(self.document, chunk)
        return Question(
            ask_about(self.asker.task, self.title, seen, place + 1, count),
            place=place_of(chunk, place + 1, count),
        )

    def _ask(self, question: Question) -> str:
        task = self.asker.task
        return self.asker.ask(question, lambda completion: parse_result(task, completion.text))

    def _shorten(self, title: str) -> str:
        return load_tokens(self.asker.model.tokenizer_json).head(title, SECTION_TOKENS)

    def _fit(self, answer: str) -> str:
        """The answer as the plan counts it: written anew its words may be other, more tokens."""
        tokens = load_tokens(self.asker.model.tokenizer_json)
        most = self.asker.task.limits.max_tokens
        if tokens.count(answer) <= most:
            return answer
        self.asker.cut = True
        beginning = tokens.head(answer, most)
        return trim_to_sentence(beginning) or beginning
