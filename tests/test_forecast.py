"""A dry run knows what failed before: what would be tried again now, what not, when, and why."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.forecast import Forecast, LeftAlone, forecast
from pipeline.jobs import BACKOFF_HOURS
from pipeline.run_order import RunOrder
from pipeline.store import Store
from tests.home import OLD_S
from tests.scripted_run import KILLER, ScriptedEngine, make_order, run_folder
from tests.test_retrying import shift
from tests.tiny import write_llama


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("model"), context_tokens=4096)


@pytest.fixture
def order(tmp_path: Path, model: Path) -> RunOrder:
    """A folder that was run over: two letters are answered, one is quarantined, one is damaged."""
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "a.txt").write_text("A letter.")
    (documents / "b.txt").write_text("Another letter.")
    (documents / "bad.txt").write_text(f"A letter with a {KILLER}.")
    (documents / "damaged.pdf").write_bytes(b"%PDF-1.7 and no more")
    order = make_order(documents, tmp_path / "out", model)
    for file in documents.iterdir():
        os.utime(file, (OLD_S, OLD_S))
    run_folder(order, ScriptedEngine())
    return order


def fail_again(order: RunOrder, name: str, times: int, hours: float) -> None:
    """A job of before failed so often by a timeout, the last time so long ago."""
    with Store.open(order.search.out) as store:
        [entry] = [e for e in store.documents.list_live(order.search.folder) if name in e.names]
        with store._database.transaction() as session:
            changed = session.count(
                "UPDATE jobs SET state = 'failed', failure_kind = 'timeout', failure = 'too long', "
                "attempts = ?, changed_at = now() WHERE text_sha256 = ?",
                times,
                entry.text_sha256,
            )
        assert changed == 1
        shift(store, hours)


def left_by_kind(found: Forecast) -> dict[str, LeftAlone]:
    return {left.kind: left for left in found.left_alone}


def test_what_is_quarantined_or_unreadable_is_named_with_its_reason(order: RunOrder) -> None:
    found = forecast(order)
    assert (found.jobs, found.calls, found.changes.unchanged) == ((), 0, 4)
    left = left_by_kind(found)
    assert set(left) == {"quarantined", "damaged"}
    quarantined, damaged = left["quarantined"], left["damaged"]
    assert (quarantined.task, quarantined.such_as) == ("summary", "bad.txt")
    assert (damaged.task, damaged.such_as) == ("reading", "damaged.pdf")
    assert (quarantined.count, damaged.count) == (1, 1)
    assert (quarantined.due, damaged.due) == (None, None)
    assert "engine was lost twice" in quarantined.why


def test_what_waits_for_its_time_is_told_with_it_and_is_a_job_once_it_has_come(
    order: RunOrder,
) -> None:
    fail_again(order, "a.txt", times=2, hours=BACKOFF_HOURS[1] - 1)
    found = forecast(order)
    left = left_by_kind(found)["timeout"]
    assert (found.jobs, left.task, left.such_as, left.why) == ((), "summary", "a.txt", "too long")
    assert left.due is not None
    assert abs(left.due - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=5)
    assert run_folder(order, ScriptedEngine()).summary.jobs_done == 0

    with Store.open(order.search.out) as store:
        shift(store, 1.1)
    found = forecast(order)
    assert (found.jobs, "timeout" in left_by_kind(found)) == ((("summary", 1),), False)
    assert run_folder(order, ScriptedEngine()).summary.jobs_done == 1


def test_a_retry_leaves_nothing_alone(order: RunOrder, model: Path) -> None:
    fail_again(order, "a.txt", times=3, hours=0)
    found = forecast(make_order(order.search.folder, order.search.out, model, retry=True))
    assert found.left_alone == ()
    assert found.jobs == (("summary", 2),)
    assert (found.changes.again, found.changes.unchanged) == (1, 3)


def test_a_document_that_crashed_its_reader_is_read_again_when_it_is_time(order: RunOrder) -> None:
    with Store.open(order.search.out) as store, store._database.transaction() as session:
        session.run(
            "UPDATE documents SET failure_kind = 'crashed', attempts = 2, read_at = now() "
            "WHERE status = 'failed'"
        )
    found = forecast(order)
    assert left_by_kind(found)["crashed"].due is not None
    assert (found.changes.again, found.changes.unchanged) == (0, 4)
    with Store.open(order.search.out) as store:
        shift(store, BACKOFF_HOURS[1] + 0.1)
    found = forecast(order)
    assert "crashed" not in left_by_kind(found)
    assert (found.changes.again, found.changes.unchanged) == (1, 3)


def test_failures_that_are_alike_are_told_once_with_the_earliest_time(order: RunOrder) -> None:
    fail_again(order, "b.txt", times=2, hours=2)
    fail_again(order, "a.txt", times=2, hours=0)
    left = left_by_kind(forecast(order))["timeout"]
    assert (left.count, left.such_as) == (2, "a.txt")
    assert left.due is not None
    expected = datetime.now(UTC) + timedelta(hours=BACKOFF_HOURS[1] - 2)
    assert abs(left.due - expected) < timedelta(minutes=5)
