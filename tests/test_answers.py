"""Jobs are answered call by call: parts, merging, retries, limits, and what is recorded."""

import dataclasses
import json
import math
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest

from pipeline.answers import DocumentText, answer_job
from pipeline.budget import chunk_limits, most_parts
from pipeline.chunks import cut_chunks
from pipeline.engine.interface import Completion, ModelInfo, Request, TokenLogprob
from pipeline.errors import EngineError, InputError, RequestError, ResultError
from pipeline.headings import find_sections
from pipeline.records import Job, Limits, Task
from pipeline.task_files import read_task
from pipeline.tokens import load_tokens
from tests.byte_tokenizer import write_tokenizer

Reply = str | Completion
PLAIN = 'instructions = "Summarise."\n[limits]\nmax_tokens = 40\nchunk_tokens = 200\n'
FIELDS = (
    'form = "free"\n'
    + PLAIN
    + (
        '[fields.name]\ntype = "string"\nrequired = true\n'
        '[fields.words]\ntype = "list"\nitems = "string"\nmax_merged_items = 50\n'
    )
)
CLASS = 'instructions = "Which?"\nclasses = ["letter", "other"]\n'


@pytest.fixture
def model(tmp_path: Path) -> ModelInfo:
    path = write_tokenizer(tmp_path / "tokenizer.json")
    return ModelInfo("embedded", str(tmp_path), "f", 2048, str(path))


class ScriptedEngine:
    """Answers by a function; keeps the requests, and checks that each fits the model."""

    def __init__(self, model: ModelInfo, reply: Callable[[Request, int], Reply]) -> None:
        self.model = model
        self.reply = reply
        self.requests: list[Request] = []
        self.lock = threading.Lock()

    def complete(self, request: Request) -> Completion:
        with self.lock:
            self.requests.append(request)
            number = len(self.requests)
        count = load_tokens(self.model.tokenizer_json).count
        # What SmolLM2's template adds: "<|im_start|>role\n" and "<|im_end|>\n" around each turn.
        prompt = sum(count(m.content) + 6 for m in request.messages) + 3
        assert prompt + request.max_tokens <= self.model.context_tokens
        reply = self.reply(request, number)
        return reply if isinstance(reply, Completion) else completion(reply)


def completion(
    text: str,
    finish: Literal["stop", "length", "closed"] = "stop",
    logprobs: tuple[float, ...] = (),
) -> Completion:
    return Completion(
        id="x", text=text, finish_reason=finish, prompt_tokens=100, cached_tokens=10,
        completion_tokens=5, queue_s=9.0, prefill_s=0.5, decode_s=0.25,
        logprobs=tuple(TokenLogprob("t", value) for value in logprobs),
    )  # fmt: skip


def task_of(text: str) -> Task:
    task, problems = read_task("prompts/example.toml", text)
    assert not problems
    assert task is not None
    return task


JOB = Job("k" * 64, "d" * 64, "t" * 64, "example", "f", "m")


def document_of(text: str, task: Task, model: ModelInfo, title: str = "") -> DocumentText:
    tokens = load_tokens(model.tokenizer_json)
    return DocumentText(title, text, cut_chunks(text, (), tokens, chunk_limits(task, model)))


LONG = " ".join(f"word{number}." for number in range(700))


def test_a_short_document_takes_one_call(model: ModelInfo) -> None:
    task = task_of(PLAIN)
    engine = ScriptedEngine(model, lambda _, __: " It is short. ")
    result = answer_job(JOB, task, document_of("Some text.", task, model, "Title"), engine, model)
    assert result.value == "It is short."
    assert (result.calls, result.chunks, result.cut, result.probability) == (1, (0,), False, 1.0)
    assert (result.prompt_tokens, result.cached_tokens, result.completion_tokens) == (100, 10, 5)
    assert result.model_s == 0.75
    request = engine.requests[0]
    assert request.schema is None
    assert (request.sampling.no_repeat_ngram, request.sampling.no_repeat_copied) == (4, 12)
    assert "Document: Title\n\nSome text.\n\n---\nSummarise." in request.messages[1].content
    assert "part" not in request.messages[1].content


def test_every_word_of_a_long_document_is_seen_and_merged_as_a_tree(model: ModelInfo) -> None:
    task = task_of(PLAIN)
    document = document_of(LONG, task, model)
    engine = ScriptedEngine(model, lambda _, number: f"Answer {number} has some words in it.")
    result = answer_job(JOB, task, document, engine, model)

    questions = [request.messages[1].content for request in engine.requests]
    maps = [text for text in questions if text.startswith("Document:")]
    merges = [text for text in questions if text.startswith("Part 1:")]
    assert len(maps) == len(document.chunks) > 8
    assert len(merges) > 2  # more parts than fit one call: a tree
    for word in LONG.split():
        assert sum(word in text.split() for text in maps) == 1
    for number in range(1, len(questions)):  # each answer but the last is merged exactly once
        assert sum(f"Answer {number} has" in text for text in merges) == 1
    assert f"This is part 2 of {len(maps)} of the document." in maps[1]
    assert result.chunks == tuple(range(len(maps)))
    assert result.calls == len(questions)
    assert len({request.id for request in engine.requests}) == len(questions)
    assert all(request.id.startswith("k" * 16) for request in engine.requests)


def sectioned_of(task: Task, model: ModelInfo) -> DocumentText:
    """A document of five chapters, each of some chunks."""
    text = "\n\n".join(
        f"Chapter {n}\n" + " ".join(f"word{n}x{m}." for m in range(300)) for n in range(1, 6)
    )
    sections = find_sections(text)
    tokens = load_tokens(model.tokenizer_json)
    chunks = cut_chunks(text, (), tokens, chunk_limits(task, model), sections)
    return DocumentText("", text, chunks, sections)


def test_the_parts_of_a_section_are_merged_first_and_its_title_is_told(model: ModelInfo) -> None:
    task = task_of(PLAIN)
    document = sectioned_of(task, model)
    engine = ScriptedEngine(model, lambda _, number: f"Answer {number} is fine.")
    result = answer_job(JOB, task, document, engine, model)
    questions = [request.messages[1].content for request in engine.requests]
    merges = [
        re.findall(r'(?m)^Part \d+(?:, of "(.*)")?: Answer', text)
        for text in questions
        if text.startswith("Part 1")
    ]
    assert len(document.chunks) > 15
    chapters = [f"Chapter {n}" for n in range(1, 6)]
    for chapter in chapters:
        assert [chapter] * 3 in merges or [chapter] * 4 in merges  # its own parts
        mixed = [titles for titles in merges if chapter in titles and len(set(titles)) > 1]
        assert [titles.count(chapter) for titles in mixed] == [1]  # whole, once
    assert merges[-1] == ["", ""]  # five chapters are more than fit one request
    assert [titles for titles in merges if len(set(titles)) > 1] == [chapters[:2], chapters[2:]]
    assert result.value == f"Answer {len(questions)} is fine."


@pytest.mark.parametrize("context", [1100, 1200, 2048])
def test_no_merge_is_too_long_whatever_the_answers_are(model: ModelInfo, context: int) -> None:
    """The engine checks each prompt; answers are as long as can be, and longer written anew."""
    model = dataclasses.replace(model, context_tokens=context)
    limits = PLAIN.replace("chunk_tokens = 200", "chunk_tokens = 5000")
    for task in (task_of(PLAIN), task_of(limits)):
        most = most_parts(task, model, titled=True)
        for answer in ("x" * 39 + ".", "\u0e01" * 40 + "."):
            engine = ScriptedEngine(model, lambda _, __, answer=answer: answer)
            result = answer_job(JOB, task, sectioned_of(task, model), engine, model)
            joins = [r.messages[1].content for r in engine.requests]
            joins = [text for text in joins if text.startswith("Part 1")]
            assert joins
            for text in joins:
                assert 2 <= len(re.findall("(?m)^Part [0-9]+[,:]", text)) <= most
            assert result.cut == (answer[0] != "x")


def test_a_context_without_room_for_titles_merges_without_them(model: ModelInfo) -> None:
    task = task_of(PLAIN)
    contexts = range(700, 1400, 10)
    models = [dataclasses.replace(model, context_tokens=context) for context in contexts]
    sizes = [[most_parts(task, m, titled=titled) for titled in (False, True)] for m in models]
    tight = next(m for m, (plain, titled) in zip(models, sizes, strict=True) if plain > 1 >= titled)
    engine = ScriptedEngine(tight, lambda _, __: "Fine.")
    answer_job(JOB, task, sectioned_of(task, tight), engine, tight)
    assert not any('of "Chapter' in r.messages[1].content for r in engine.requests)


def test_fields_of_a_long_document_are_merged_by_rules(model: ModelInfo) -> None:
    task = task_of(FIELDS)

    def reply(request: Request, number: int) -> str:
        first = re.search(r"word\d+", request.messages[1].content)
        assert first is not None
        name = "Ada" if number == 3 else ""
        return json.dumps({"name": name, "words": [first.group(), "same"]})

    engine = ScriptedEngine(model, reply)
    result = answer_job(JOB, task, document_of(LONG, task, model), engine, model)
    assert result.value["name"] == "Ada"
    assert result.value["words"][:2] == ["word0", "same"]
    assert len(result.value["words"]) == result.calls + 1
    schema = engine.requests[0].schema
    assert schema is not None
    assert schema["properties"]["name"]["type"] == "string"  # no null to run to


def test_an_invalid_answer_is_asked_for_again_with_its_error(model: ModelInfo) -> None:
    task = task_of(FIELDS)
    replies = ["{}", '{"name": "Ada", "words": []}']
    engine = ScriptedEngine(model, lambda _, number: replies[number - 1])
    result = answer_job(JOB, task, document_of("Text.", task, model), engine, model)
    assert result.value == {"name": "Ada", "words": []}
    assert (result.calls, result.prompt_tokens) == (2, 200)
    first, second = engine.requests
    assert second.messages[:2] == first.messages
    assert second.messages[2].content == "{}"
    assert "lacks the field 'name'" in second.messages[3].content


def test_an_answer_invalid_twice_is_an_error_without_the_document(model: ModelInfo) -> None:
    task = task_of(FIELDS)
    engine = ScriptedEngine(model, lambda _, __: "word3 is not JSON")
    with pytest.raises(ResultError) as caught:
        answer_job(JOB, task, document_of(LONG, task, model), engine, model)
    assert caught.value.kind == "invalid_json"
    assert "asked twice (part 1 of" in str(caught.value)
    assert "word3" not in str(caught.value)
    assert len(engine.requests) == 2


def test_an_answer_closed_by_the_grammar_counts_and_is_marked(model: ModelInfo) -> None:
    task = task_of(FIELDS)
    closed = completion('{"name":"Ada","words":["a"]}', "closed")
    engine = ScriptedEngine(model, lambda _, __: closed)
    result = answer_job(JOB, task, document_of("Text.", task, model), engine, model)
    assert result.value["words"] == ["a"]
    assert result.cut


def test_text_at_its_limit_ends_with_a_sentence_or_a_part_of_one_or_fails(
    model: ModelInfo,
) -> None:
    task = task_of(PLAIN)
    document = document_of("Text.", task, model)
    engine = ScriptedEngine(model, lambda _, __: completion("One. Two. And th", "length"))
    result = answer_job(JOB, task, document, engine, model)
    assert result.value == "One. Two."
    assert result.cut
    assert result.calls == 1

    engine = ScriptedEngine(
        model, lambda _, __: completion("It is long, and goes on and", "length")
    )
    result = answer_job(JOB, task, document, engine, model)
    assert result.value == "It is long …"
    assert result.cut
    assert result.calls == 2

    engine = ScriptedEngine(model, lambda _, __: completion("And so on and", "length"))
    with pytest.raises(ResultError, match=r"longer than max_tokens=40.*asked twice") as caught:
        answer_job(JOB, task, document, engine, model)
    assert caught.value.kind == "cut"


def test_text_at_its_limit_is_not_marked_if_it_has_all_sentences_that_it_may(
    model: ModelInfo,
) -> None:
    task = task_of(PLAIN + "max_sentences = 2\n")
    document = document_of("Text.", task, model)
    for text, value, cut in (
        ("One. Two. And th", "One. Two.", False),
        ("One. Two. Three. And th", "One. Two.", False),
        ("One. And th", "One.", True),
    ):
        engine = ScriptedEngine(model, lambda _, __, text=text: completion(text, "length"))
        result = answer_job(JOB, task, document, engine, model)
        assert (result.value, result.cut) == (value, cut)


def test_fields_at_their_limit_fail_and_a_better_second_answer_is_not_marked(
    model: ModelInfo,
) -> None:
    task = task_of(FIELDS)
    replies = [completion('{"name":"A', "length"), completion('{"name":"A","words":[]}')]
    engine = ScriptedEngine(model, lambda _, number: replies[number - 1])
    result = answer_job(JOB, task, document_of("Text.", task, model), engine, model)
    assert result.value["name"] == "A"
    assert not result.cut


def test_the_class_is_found_from_the_beginning_with_its_probability(model: ModelInfo) -> None:
    task = task_of(CLASS)
    reply = completion('"letter"', logprobs=(0.0, math.log(0.5), math.log(0.8), 0.0))
    engine = ScriptedEngine(model, lambda _, __: reply)
    result = answer_job(JOB, task, document_of(LONG, task, model), engine, model)
    assert result.value == "letter"
    assert result.probability == pytest.approx(0.4)
    assert (result.calls, result.chunks) == (1, (0,))
    request = engine.requests[0]
    assert request.top_logprobs >= 1
    assert request.schema is not None
    assert request.schema["enum"] == ["letter", "other"]
    assert load_tokens(model.tokenizer_json).count(request.messages[1].content) < 480
    assert "word0." in request.messages[1].content


@pytest.mark.parametrize(
    ("parameters", "text", "calls"),
    [(1, "Dear Ann, kind regards", 0), (1, "Ann", 1), (9 * 10**9, "Dear Ann, kind regards", 1)],
)
def test_a_small_model_is_not_asked_for_a_class_that_words_tell(
    model: ModelInfo, parameters: int, text: str, calls: int
) -> None:
    task = task_of(CLASS + '[words]\nletter = ["dear", "kind regards"]\n')
    model = dataclasses.replace(model, parameters=parameters)
    engine = ScriptedEngine(model, lambda _, __: completion('"letter"', logprobs=(-0.5,)))
    result = answer_job(JOB, task, document_of(text, task, model), engine, model)
    assert (result.value, result.calls) == ("letter", calls)
    assert (result.probability == 1) == (calls == 0)


def test_a_small_model_chooses_among_the_classes_that_words_leave(model: ModelInfo) -> None:
    words = '[words]\nletter = ["dear", "regards"]\nbill = ["sum", "tax"]\n'
    task = task_of(CLASS.replace('"other"', '"bill", "other"') + words)
    model = dataclasses.replace(model, parameters=1)
    engine = ScriptedEngine(model, lambda _, __: completion('"bill"', logprobs=(-0.5,)))
    text = "Dear Ann, sum and tax. Regards"
    answer_job(JOB, task, document_of(text, task, model), engine, model)
    assert engine.requests[0].schema is not None
    assert engine.requests[0].schema["enum"] == ["letter", "bill"]


def test_the_class_of_larger_chunks_reads_no_more(model: ModelInfo) -> None:
    task = task_of(CLASS)
    tokens = load_tokens(model.tokenizer_json)
    chunks = cut_chunks(LONG, (), tokens, Limits(chunk_tokens=1500))
    reply = completion('"other"', logprobs=(0.0,))
    engine = ScriptedEngine(model, lambda _, __: reply)
    answer_job(JOB, task, DocumentText("", LONG, chunks), engine, model)
    assert tokens.count(engine.requests[0].messages[1].content) < 480


def test_errors_of_the_engine_pass_through(model: ModelInfo) -> None:
    task = task_of(PLAIN)
    for error in (RequestError("context_too_long", "too long"), EngineError("gone")):

        def fail(_: Request, __: int, error: EngineError = error) -> str:
            raise error

        with pytest.raises(EngineError) as caught:
            answer_job(
                JOB, task, document_of("Text.", task, model), ScriptedEngine(model, fail), model
            )
        assert caught.value is error


def test_a_document_without_text_is_an_error_and_blank_chunks_are_not_asked(
    model: ModelInfo,
) -> None:
    task = task_of(PLAIN)
    engine = ScriptedEngine(model, lambda _, __: "Fine.")
    for text in ("", "\f\n \f"):
        with pytest.raises(ResultError, match="no text") as caught:
            answer_job(JOB, task, document_of(text, task, model), engine, model)
        assert caught.value.kind == "no_text"
    assert not engine.requests
    text = "One." + " \n" * 2000 + "Two."
    document = document_of(text, task, model)
    result = answer_job(JOB, task, document, engine, model)
    assert len(document.chunks) > 2
    assert result.chunks == (0, len(document.chunks) - 1)


def test_a_long_title_does_not_push_the_document_out(model: ModelInfo) -> None:
    task = dataclasses.replace(task_of(PLAIN), limits=Limits(max_tokens=40, chunk_tokens=100_000))
    engine = ScriptedEngine(model, lambda _, __: "x" * 60 + ".")
    document = document_of(LONG * 3, task, model, title="word0. " * 500)
    answer_job(JOB, task, document, engine, model)  # the engine checks that every prompt fits
    assert len(engine.requests) > 2


def test_many_threads_answer_at_once(model: ModelInfo) -> None:
    task = task_of(PLAIN)
    engine = ScriptedEngine(model, lambda _, __: "Fine.")
    document = document_of(LONG, task, model)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(answer_job, JOB, task, document, engine, model) for _ in range(8)]
        results = [call.result() for call in calls]
    assert len({result.calls for result in results}) == 1
    assert len({request.id for request in engine.requests}) == len(engine.requests)


@pytest.mark.parametrize("context", [1200, 1500, 2048])
@pytest.mark.parametrize("text", [PLAIN, FIELDS, CLASS], ids=["text", "fields", "class"])
def test_no_prompt_is_ever_too_long(context: int, text: str, model: ModelInfo) -> None:
    model = dataclasses.replace(model, context_tokens=context)
    task = task_of(text)
    long_answer = " ".join(["word"] * 30) + "."

    def reply(request: Request, _: int) -> Reply:
        if task.kind == "text":
            return long_answer if len(request.messages) > 2 else ""
        if len(request.messages) == 2:
            return completion(long_answer, logprobs=(0.0,))
        return completion(
            '"other"' if task.kind == "class" else '{"name":"a","words":[]}', logprobs=(0.0,)
        )

    answer_job(JOB, task, document_of(LONG, task, model), ScriptedEngine(model, reply), model)


def test_a_task_that_cannot_fit_is_refused_with_the_figures(model: ModelInfo) -> None:
    small = dataclasses.replace(model, context_tokens=512)
    with pytest.raises(InputError, match=r"'example'.*context_tokens=512, max_tokens=40; lower"):
        chunk_limits(task_of(PLAIN), small)


def test_enough_context_leaves_the_limits_alone(model: ModelInfo) -> None:
    task = task_of(PLAIN + "overlap_tokens = 30\n")
    assert chunk_limits(task, model) == task.limits
