"""The drafter leaves out rows that it does not help, and looks again later."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from pipeline.engine.core import Core
from pipeline.engine.drafting.attention import Attention
from pipeline.engine.drafting.every_draft import EverySpeculation
from pipeline.engine.interface import CoreOptions
from pipeline.engine.planning import naps
from pipeline.engine.planning.acceptance import Offer
from pipeline.engine.planning.cost import CONTEXTS, Shape
from pipeline.engine.planning.naps import LEFT_OUT, LONGEST, SHORTEST, Naps
from pipeline.engine.planning.plan import Plan
from tests.plain_decoding import Desk, ask, describe_model
from tests.test_draft import PLAIN, a_row, answers_of
from tests.tiny import CORPUS, write_llama
from tests.tiny_drafter import write_llama_drafter


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def drafter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama_drafter(tmp_path_factory.mktemp("drafter"))


@pytest.fixture
def asleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the drafter looks at no new rows, as the only item."""
    monkeypatch.setenv("DOCFLASH_CACHE", str(tmp_path))
    found = [False]
    monkeypatch.setattr(Naps, "awake", lambda _self, _task: not found[0])
    return found


def leave_out(found: Naps, steps: int, rows: int = 8) -> int:
    """Steps until the task changes from awake to asleep or back, of so many at most."""
    was = found.awake("a")
    for step in range(1, steps + 1):
        found.left_out("a", rows, 1, tapped=was)
        if found.awake("a") != was:
            return step
    return 0


def test_a_task_is_left_out_and_looked_at_again_each_time_later() -> None:
    found = Naps()
    assert found.awake("a")
    lengths = []
    while len(lengths) < 2 or lengths[-1] > lengths[-2]:
        assert leave_out(found, 1000) == LEFT_OUT
        lengths.append(leave_out(found, 2 * LONGEST))
    assert lengths[0] == SHORTEST
    assert lengths[-1] == LONGEST
    assert all(b in {2 * a, LONGEST} for a, b in pairwise(lengths))
    assert found.awake("b")  # another task's rows are another matter


def test_what_is_used_or_not_seen_stays_awake() -> None:
    found = Naps()
    for _ in range(10 * LEFT_OUT):
        assert leave_out(found, LEFT_OUT - 1) == 0
        found.used("a")
    for _ in range(10 * LEFT_OUT):  # it looks at no row of the task
        found.left_out("a", 4, 1, tapped=False)
    assert found.awake("a")


def test_where_far_fewer_rows_run_it_looks_at_once() -> None:
    found = Naps()
    leave_out(found, LEFT_OUT, rows=8)
    assert not found.left_out("a", 5, 1, tapped=False)
    assert found.left_out("a", 4, 1, tapped=False)
    assert found.awake("a")


def test_only_so_many_tasks_are_remembered() -> None:
    found = Naps()
    for number in range(3000):
        found.left_out(f"t{number}", 1, LEFT_OUT, tapped=True)
    assert len(found._tasks) <= naps.MOST_TASKS
    assert not found.awake("t2999")


def a_plan(*offers: Offer | None, drafter: bool, retry: Any = None) -> Plan:
    shape = Shape(len(offers), 16 if drafter else 1, CONTEXTS[0])
    return Plan(shape, offers, drafter, tokens=1.0, ms=1.0, retry=retry)


def test_rows_lose_their_context_where_no_plan_wants_it_and_their_task_alone() -> None:
    hurried: list[int] = []
    attention = Attention(always=False, hurry=lambda: hurried.append(1))
    rows = [a_row("a", [1, 2, 3]), a_row("b", [1, 2, 4]), a_row("c", [1, 2, 4])]
    for row in rows:
        row.tapped = attention.wants(row)
    assert all(row.tapped for row in rows)
    block = Offer("dflash", 15)
    for step in range(2 * LEFT_OUT):
        if step % 2:  # the task of the second and third goes on with it
            attention.note(rows, a_plan(None, block, None, drafter=True))
        else:
            attention.note(rows)
    assert [row.tapped for row in rows] == [False, True, True]
    assert [attention.wants(row) for row in rows] == [False, True, True]
    for _ in range(2 * LEFT_OUT):  # a retry is no use
        attention.note(rows, a_plan(None, block, None, drafter=True, retry="drafter"))
    assert not any(row.tapped for row in rows)
    for _ in range(2 * SHORTEST):
        attention.note(rows)
    assert hurried
    assert all(attention.wants(row) for row in rows)
    every = Attention(always=True, hurry=lambda: None)
    rows[1].tapped = True
    for _ in range(4 * LEFT_OUT):
        every.note(rows)
    assert rows[1].tapped
    assert every.wants(rows[0])


def a_core(model: Path, drafter: Path, **more: Any) -> Core:
    options = CoreOptions(
        max_rows=3, kv_bytes=1 << 25, prefill_tokens=64, drafter=str(drafter), **more
    )
    return Core(describe_model(model), options)


def contexts(core: Core, slot: int, length: int) -> list[np.ndarray[Any, Any]]:
    """The drafter's keys of a row."""
    core._target.cache.late.catch_up()
    assert core._drafts is not None
    assert core._drafts._drafter is not None
    layers = core._drafts._drafter._layers
    keys = [layer.keys for layer in layers if layer.keys is not None]
    assert len(keys) == len(layers)
    return [np.array(key[slot, :, :length].astype(mx.float32)) for key in keys]


def test_while_all_rows_are_left_out_nothing_is_kept_and_then_all_of_it_again(
    model: Path, drafter: Path, asleep: list[bool]
) -> None:
    core = a_core(model, drafter)
    desk = Desk(core)

    def run(name: str, text: str) -> list[np.ndarray[Any, Any]]:
        desk.submit(ask(name, text, 20))
        desk.step(6)
        (row,) = core.rows()
        found = contexts(core, row.slot, len(row.prompt))
        assert core._target.tapping == row.tapped == (not asleep[0])
        desk.finish()
        return found

    seen = run("seen", CORPUS[0])
    assert all(layer[:, -8:].any() for layer in seen)
    asleep[0] = True
    unseen = run("unseen", CORPUS[1])  # but for how it begins, as the first did
    assert all((layer[:, -8:] == 0).all() for layer in unseen)
    kept = [entry.prefix for entry in core._room._prefixes._entries.values()]
    assert [prefix.tapped for prefix in kept] == [True, False]
    asleep[0] = False
    fresh = a_core(model, drafter)
    other = Desk(fresh)
    other.submit(ask("again", CORPUS[1], 90))
    other.step(2)
    (row,) = fresh.rows()
    wanted = contexts(fresh, row.slot, len(row.prompt))
    desk.submit(ask("again", CORPUS[1], 90))  # its prompt was kept without a context
    desk.step(2)
    (row,) = core.rows()
    assert row.tapped
    found = contexts(core, row.slot, len(row.prompt))
    for one, two in zip(found, wanted, strict=True):
        assert one == pytest.approx(two, abs=1e-4)


def test_a_long_document_is_not_read_again_for_a_short_answer(
    model: Path, drafter: Path, asleep: list[bool]
) -> None:
    asleep[0] = True
    core = a_core(model, drafter)
    desk, text = Desk(core), " ".join(CORPUS)
    desk.finish(ask("first", text, 4))
    asleep[0] = False
    desk.submit(ask("second", f"{text} Why?", 4))
    desk.step(1)
    (row,) = core.rows()
    assert row.cached > 16
    assert not row.tapped
    desk.finish(ask("third", f"{text} Who?", 400))
    assert desk.completion("third").cached_tokens < row.cached


def test_rows_that_are_left_out_or_not_give_the_same_answers(
    model: Path, drafter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCFLASH_CACHE", str(tmp_path))
    turn = [0]

    def by_turns(_naps: Naps, _task: str) -> bool:
        turn[0] += 1
        return turn[0] % 7 < 4

    plain, _ = answers_of(model, PLAIN)
    monkeypatch.setattr(Naps, "awake", by_turns)
    monkeypatch.setattr("pipeline.engine.drafting.attention.LEFT_OUT", 2)
    options = replace(PLAIN, speculate=True, drafter=str(drafter))
    assert answers_of(model, options)[0] == plain
    monkeypatch.setattr(EverySpeculation, "always", False)  # drafts wherever it may
    found, core = answers_of(model, replace(options, draft_always=True))
    assert found == plain
    stats = core.stats().speculation
    assert stats is not None
    assert stats.drafter_steps > 3
    assert turn[0] > 50
