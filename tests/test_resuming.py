"""A run that is stopped in the middle of a long document goes on there."""

import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.engine.interface import (
    Completion,
    Message,
    Request,
    Sampling,
    TokenLogprob,
)
from pipeline.errors import EngineError
from pipeline.kept_calls import KeptCalls, call_key
from pipeline.store import Store
from tests.library import make_document, make_file, make_task, open_library, plan
from tests.scripted_run import ScriptedRun, answer_all, make_order, run_folder
from tests.tiny import write_llama

CHAPTERS = 5
TEXT = "\n\n".join(
    f"Chapter {n}\n" + " ".join(f"The keeper of store {n} counts crate {m}." for m in range(150))
    for n in range(1, CHAPTERS + 1)
)


class StoppingEngine:
    """Answers so many requests, each with what it was about, then stops."""

    def __init__(self, stops_after: int = 10_000, answer: str = "") -> None:
        self.asked: list[Request] = []
        self.lock = threading.Lock()
        self.stops_after = stops_after
        self.answer = answer

    def complete(self, request: Request) -> Completion:
        with self.lock:
            if len(self.asked) == self.stops_after:
                raise EngineError("the engine stopped")
            self.asked.append(request)
        said = re.findall(r"crate \d+|keeper \d+", request.messages[1].content)
        text = self.answer or f"The keeper {len(said)} counts."
        return Completion(request.id, text, "stop", 9, 0, 4, 0.0, 0.1, 0.1)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_llama(tmp_path / "model", context_tokens=2048)


def write_document(tmp_path: Path) -> Path:
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "long.txt").write_text(TEXT, encoding="utf-8")
    return documents


def stop_in_the_middle(run: ScriptedRun) -> None:
    try:
        run.ingest()
        with pytest.raises(EngineError):
            answer_all(run, run.plan())
        run.publish("stopped")
    finally:
        run.close()


@pytest.mark.parametrize("share", [0.3, 0.95])
def test_only_what_is_left_is_asked_and_the_answer_is_the_same(
    tmp_path: Path, model: Path, share: float
) -> None:
    documents = write_document(tmp_path)
    whole = StoppingEngine()
    run_folder(make_order(documents, tmp_path / "whole", model), whole)
    keys = [call_key(request) for request in whole.asked]
    merges = [r for r in whole.asked if r.messages[1].content.startswith("Part 1")]
    assert len(merges) > CHAPTERS
    assert 'of "Chapter 3": The keeper' in "".join(r.messages[1].content for r in merges)

    order = make_order(documents, tmp_path / "out", model)
    first = StoppingEngine(stops_after=round(len(keys) * share))
    stop_in_the_middle(ScriptedRun(order, first))
    assert any(r.messages[1].content.startswith("Part 1") for r in first.asked)  # a merge, too
    with Store.open(tmp_path / "out") as store, store.snapshot() as session:
        assert session.count("SELECT count(*) FROM calls") == len(first.asked)

    second = StoppingEngine()
    run_folder(order, second)
    asked = [call_key(request) for request in (*first.asked, *second.asked)]
    assert sorted(asked) == sorted(keys)  # none twice; parts are asked some at once
    assert results(tmp_path / "out") == results(tmp_path / "whole")
    with Store.open(tmp_path / "out") as store, store.snapshot() as session:
        assert session.count("SELECT count(*) FROM calls") == 0


def results(out: Path) -> list[tuple[object, ...]]:
    with Store.open(out) as store, store.snapshot() as session:
        return session.rows("SELECT job_key, value, chunks, calls, prompt_tokens, cut FROM results")


def test_an_invalid_answer_is_not_kept_for_the_next_try(tmp_path: Path, model: Path) -> None:
    documents = write_document(tmp_path)
    order = make_order(documents, tmp_path / "out", model)
    run_folder(order, StoppingEngine(answer=" "))
    with Store.open(tmp_path / "out") as store, store.snapshot() as session:
        assert session.rows("SELECT state FROM jobs") == [("failed",)]
        assert session.count("SELECT count(*) FROM calls") == 0
    run_folder(make_order(documents, tmp_path / "out", model, retry=True), StoppingEngine())
    with Store.open(tmp_path / "out") as store, store.snapshot() as session:
        assert session.rows("SELECT state FROM jobs") == [("done",)]


def test_a_document_of_one_part_keeps_nothing(tmp_path: Path, model: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "short.txt").write_text("A letter.", encoding="utf-8")
    run = ScriptedRun(make_order(documents, tmp_path / "out", model), StoppingEngine())
    saved: list[str] = []
    run._store.calls.save = lambda *call: saved.append(call[0])  # type: ignore[method-assign]
    try:
        run.ingest()
        answer_all(run, run.plan())
    finally:
        run.close()
    assert not saved


REQUEST = Request(
    "one", "m", (Message("user", "What?"),), {"b": 1, "a": 2}, 9, Sampling(seed=1), 2, (), 60.0, "x"
)


def test_an_answer_comes_back_whole(tmp_path: Path) -> None:
    logprobs = (TokenLogprob("a", -0.5, (("a", -0.5), ("ü", -2.0))), TokenLogprob("\ud800", -1.0))
    given = Completion("one", "aü\x00", "closed", 9, 3, 2, 0.5, 0.25, 0.125, logprobs[:1])
    with open_library(tmp_path / "out", "run1") as store:

        class Once:
            def complete(self, request: Request) -> Completion:
                assert request.id == "one"
                return given

        kept = KeptCalls(Once(), store.calls, "job")
        assert kept.complete(REQUEST) == given
        other = Request("two", *[getattr(REQUEST, n) for n in Request.__slots__ if n != "id"])
        assert kept.complete(other) == Completion(
            "two", "aü\x00", "closed", 9, 3, 2, 0.5, 0.25, 0.125, logprobs[:1]
        )
        assert KeptCalls(Once(), store.calls, "other job").complete(REQUEST) == given


def test_requests_are_the_same_only_if_nothing_differs_that_changes_an_answer() -> None:
    key = call_key(REQUEST)
    assert call_key(replace(REQUEST, id="two", timeout_s=1.0)) == key
    different = [
        replace(REQUEST, messages=(Message("user", "Who?"),)),
        replace(REQUEST, schema={"a": 2, "b": 1}),
        replace(REQUEST, max_tokens=10),
        replace(REQUEST, sampling=Sampling(seed=2)),
        replace(REQUEST, top_logprobs=1),
        replace(REQUEST, stop=(".",)),
        replace(REQUEST, source="y"),
    ]
    assert len({key, *map(call_key, different)}) == 8


def test_answers_go_with_their_document_and_with_their_question(tmp_path: Path) -> None:
    with open_library(tmp_path / "out", "run1") as store:
        document, file = make_document("Some text."), make_file("a.txt")
        store.documents.save("run1", "r", [(file, document)])
        [job] = plan(store, "run1", make_task("summary")).pending
        store.calls.save(job.key, "c", "answer")
        store.calls.save("of a changed question", "c", "answer")
        assert store.calls.find(job.key, "c") == "answer"
        assert store.calls.find(job.key, "d") is None
        store.removal.forget_old_runs()
        assert store.calls.find(job.key, "c") == "answer"
        assert store.calls.find("of a changed question", "c") is None
        store.removal.forget(store.removal.find("/in/a.txt"))
        assert store.calls.find(job.key, "c") is None
