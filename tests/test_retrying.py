"""What failed is tried again when that may help, ever more rarely; what kills the engine, not."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.jobs import BACKOFF_HOURS
from pipeline.queries import query
from pipeline.records import Failure, Job
from pipeline.run_order import RunOrder
from pipeline.store import Store
from pipeline.suspects import QUARANTINED, Suspects
from tests.library import (
    READER,
    make_document,
    make_file,
    make_result,
    make_task,
    open_library,
    plan,
)
from tests.scripted_run import KILLER, ScriptedEngine, make_order, run_folder
from tests.test_store import make_failed
from tests.tiny import write_llama


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("model"), context_tokens=4096)


@pytest.fixture
def order(tmp_path: Path, model: Path) -> RunOrder:
    documents = tmp_path / "documents"
    documents.mkdir()
    for number in range(6):
        (documents / f"{number}.txt").write_text(f"Letter number {number}.")
    (documents / "bad.txt").write_text(f"A letter with a {KILLER}.")
    return make_order(documents, tmp_path / "out", model)


def shift(store: Store, hours: float) -> None:
    """Lets time go by."""
    with store._database.transaction() as session:
        past = timedelta(hours=hours)
        session.run("UPDATE jobs SET changed_at = changed_at - ?", past)
        session.run("UPDATE documents SET read_at = read_at - ?", past)


def test_a_job_that_keeps_failing_is_tried_more_and_more_rarely(tmp_path: Path) -> None:
    with open_library(tmp_path / "out", "run1") as store:
        store.documents.save("run1", READER, [(make_file("a.txt"), make_document("a"))])
        [job] = plan(store, "run1", make_task()).pending
        for hours in (*BACKOFF_HOURS, BACKOFF_HOURS[-1]):
            store.jobs.fail("run1", job, Failure("timeout", "it took too long"))
            shift(store, hours - 0.1)
            assert len(plan(store, "run1", make_task()).pending) == (not hours)
            shift(store, 0.2)
            assert plan(store, "run1", make_task()).pending == (job,)
        # Asked for, it is tried at once, and begins anew.
        store.jobs.fail("run1", job, Failure("timeout", "it took too long"))
        assert plan(store, "run1", make_task()).pending == ()
        assert plan(store, "run1", make_task(), retry=True).pending == (job,)
        store.jobs.fail("run1", job, Failure("timeout", "it took too long"))
        assert plan(store, "run1", make_task()).pending == (job,)


def test_a_clock_that_was_put_back_holds_nothing_up(tmp_path: Path) -> None:
    with open_library(tmp_path / "out", "run1") as store:
        store.documents.save("run1", READER, [(make_file("a.txt"), make_document("a"))])
        [job] = plan(store, "run1", make_task()).pending
        for _ in range(2):
            store.jobs.fail("run1", job, Failure("timeout", "it took too long"))
        assert plan(store, "run1", make_task()).pending == ()
        shift(store, -48)
        assert plan(store, "run1", make_task()).pending == (job,)


def test_a_document_that_keeps_failing_is_read_more_and_more_rarely(tmp_path: Path) -> None:
    file, failed = make_file("a.pdf"), make_failed("a", kind="crashed")

    def is_read(store: Store) -> bool:
        return bool(store.files.check("run1", [file], READER).to_read)

    with open_library(tmp_path / "out", "run1") as store:
        for hours in (*BACKOFF_HOURS, BACKOFF_HOURS[-1]):
            store.documents.save("run1", READER, [(file, failed)])
            shift(store, hours - 0.1)
            assert is_read(store) == (not hours)
            shift(store, 0.2)
            assert is_read(store)
        # Another kind of failure, or another reader, begins anew.
        store.documents.save("run1", READER, [(file, make_failed("a", kind="timeout"))])
        assert is_read(store)
        assert store.files.check("run1", [file], "reader 2").to_read == (file,)


def test_a_document_that_kills_the_engine_twice_is_quarantined(order: RunOrder) -> None:
    engine = ScriptedEngine()
    run = run_folder(order, engine)
    assert (run.summary.jobs_done, run.summary.jobs_failed) == (6, 1)
    rows = query(order.search.out, "SELECT kind, message, path FROM failures").to_pylist()
    assert [row["kind"] for row in rows] == [QUARANTINED]
    assert "--retry" in rows[0]["message"]
    assert rows[0]["path"].endswith("bad.txt")
    # It stays so, at no cost.
    asked = len(engine.asked)
    assert run_folder(order, engine).summary.jobs_failed == 0
    assert len(engine.asked) == asked


def test_a_quarantined_document_can_be_forced_and_is_then_alone(
    order: RunOrder, tmp_path: Path, model: Path
) -> None:
    run_folder(order, ScriptedEngine())
    forced = make_order(order.search.folder, order.search.out, model, retry=True)
    engine = ScriptedEngine()
    assert run_folder(forced, engine).summary.jobs_failed == 1
    assert len(engine.asked) == 1  # it was lost once more: that is enough
    (order.search.folder / "bad.txt").write_text("A letter that is well again.")
    assert run_folder(order, ScriptedEngine()).summary.jobs_done == 1


def test_an_engine_that_is_lost_by_chance_costs_no_document(order: RunOrder) -> None:
    (order.search.folder / "bad.txt").unlink()
    engine = ScriptedEngine()

    def lose_once(_: str) -> None:
        if len(engine.asked) == 2:
            engine._lives += 1

    engine._on_ask = lose_once
    run = run_folder(order, engine)
    assert (run.summary.jobs_done, run.summary.jobs_failed) == (6, 0)


def test_who_is_in_doubt_is_remembered_and_asked_alone(tmp_path: Path) -> None:
    with open_library(tmp_path / "out", "run1") as store:
        files = [(make_file(f"{n}.txt"), make_document(f"text {n}")) for n in range(2)]
        store.documents.save("run1", READER, files)
        doubtful, other = plan(store, "run1", make_task()).pending
        Suspects(store).add("run1", doubtful)
        assert plan(store, "run1", make_task()).pending == (doubtful, other)
        suspects = Suspects(store)  # of the next run
        assert _alone(suspects, doubtful) == [True]
        assert _alone(suspects, other) == [False]
        store.jobs.finish("run1", doubtful, make_result(doubtful, "text"))
        assert store.jobs.list_suspects() == ()


def _alone(suspects: Suspects, job: Job) -> list[bool]:
    def turns() -> Iterator[bool]:
        with suspects.turn(job) as alone:
            yield alone

    return list(turns())
