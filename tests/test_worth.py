"""Drafts that lose by what whole steps take are left alone, whatever plans promise."""

import random
import time
from collections.abc import Callable, Sequence

import pytest

from pipeline.engine.drafting.draft import Drafts
from pipeline.engine.drafting.worthwhile import SKIPPED
from pipeline.engine.planning.plan import Plan, RowView
from pipeline.engine.planning.worth import (
    FIRST,
    LEAST,
    LONGEST,
    MOST_TASKS,
    SHORTEST,
    SOON,
    TRIAL,
    Way,
    Worth,
)
from tests.test_draft import Resting, a_row

ROWS, PLAIN_MS = 8, 0.8


def decode(
    worth: Worth,
    steps: int,
    *,
    free: Callable[[int], float] = lambda _: 0.5,
    every: Callable[[int], float] = lambda _: 0.5,
    tasks: Sequence[str] = ("a",),
    told: float = 1.0,
) -> tuple[dict[Way, float], float]:
    """The part of so many steps that each way ran, and what all gained over plain ones.

    Args:
        worth: What is asked, and told.
        steps: How many.
        free: What drafts gain that the drafter does not make, by step.
        every: What all of them do.
        tasks: Of the rows.
        told: What plain steps should take, of what they do.
    """
    chance, ran, tokens, ms = random.Random(2), dict.fromkeys(Way, 0), 0.0, 0.0
    for step in range(steps):
        way = worth.meet(tasks, ROWS, ROWS)
        ran[way] += 1
        gain = {Way.PLAIN: 1.0, Way.FREE: free(step), Way.ALL: every(step)}[way]
        got = chance.choice((8, 24, 40)) if way else ROWS
        took = got / ROWS * PLAIN_MS / gain * chance.uniform(0.9, 1.1)
        worth.took(got, took, PLAIN_MS * told)
        tokens, ms = tokens + got, ms + took
    return {way: count / steps for way, count in ran.items()}, tokens / ms * PLAIN_MS / ROWS


@pytest.mark.parametrize("gain", [0.8, 0.9])
@pytest.mark.parametrize("drafter", [False, True])
def test_where_drafts_lose_next_to_none_are_made(gain: float, *, drafter: bool) -> None:
    worth = Worth(drafter=drafter)
    ran, gained = decode(worth, 20_000, free=lambda _: gain, every=lambda _: gain)
    assert ran[Way.PLAIN] > 0.95
    assert gained > 0.98
    assert drafter == (ran[Way.ALL] > 0)


@pytest.mark.parametrize("gain", [1.08, 1.5, 3.0])
def test_where_they_win_nearly_all_steps_are_theirs(gain: float) -> None:
    ran, gained = decode(Worth(drafter=True), 20_000, every=lambda _: gain)
    assert ran[Way.ALL] > 0.95
    assert gained > 1 + 0.9 * (gain - 1) - 0.02
    ran, gained = decode(Worth(drafter=True), 20_000, free=lambda _: gain)
    assert ran[Way.FREE] > 0.95
    assert gained > 1 + 0.9 * (gain - 1) - 0.02


def test_what_surely_wins_is_not_interrupted_and_what_was_only_promised_is() -> None:
    ran, gained = decode(Worth(drafter=True), 1000, every=lambda _: 2.0)
    assert ran[Way.ALL] == 1
    assert gained > 1.9
    ran, gained = decode(Worth(drafter=True), 20_000, every=lambda _: 0.9, told=1.4)
    assert ran[Way.PLAIN] > 0.9
    ran, _ = decode(Worth(drafter=True), 3000, free=lambda _: 1.6, every=lambda _: 2.4)
    assert ran[Way.ALL] > 0.8


def test_the_drafter_is_left_out_where_drafts_without_it_give_as_much() -> None:
    ran, _ = decode(Worth(drafter=True), 20_000, free=lambda _: 1.2, every=lambda _: 1.1)
    assert ran[Way.FREE] > 0.9
    ran, _ = decode(Worth(drafter=True), 20_000, free=lambda _: 1.2, every=lambda _: 1.4)
    assert ran[Way.ALL] > 0.95


def test_a_change_is_noticed_both_ways() -> None:
    for before, after in ((0.8, 2.0), (2.0, 0.8)):
        worth = Worth(drafter=True)
        decode(worth, 5000, every=lambda _, was=before: was)
        changed, _ = decode(worth, 2 * LONGEST, every=lambda _, now=after: now)
        settled, _ = decode(worth, 2 * LONGEST, every=lambda _, now=after: now)
        assert (settled[Way.ALL] > 0.9) == (after > 1)
        assert (changed[Way.ALL] > 0.5) == (after > 1)


def test_kinds_of_batches_are_judged_by_themselves() -> None:
    worth = Worth(drafter=True)
    decode(worth, 5000)
    for tasks in ("b",), ("a", "b"):
        assert worth.meet(tasks, ROWS) == Way.ALL
    for rows in ROWS - 1, ROWS + 1, 40:  # as many; or more, which begin as these go on
        assert worth.meet(("a", "a"), rows) == Way.PLAIN
    assert worth.meet(("a",), 1) == Way.ALL  # where drafts pay most
    decode(worth, 5000, tasks=("a", "b", "c"))
    assert worth.meet(("d", "e", "f", "g"), ROWS) == Way.PLAIN  # many tasks, whichever
    for number in range(2 * MOST_TASKS):
        worth.meet((f"t{number}",), ROWS)
    assert len(worth._kinds) == MOST_TASKS


def test_a_step_that_compiled_does_not_decide() -> None:
    worth, steps = Worth(drafter=False), 0
    while len(worth._state.rates) < len(Way) - 1:
        way = worth.meet(("a",), ROWS)
        worth.took(16 if way else ROWS, 900.0 if steps == 20 else PLAIN_MS, PLAIN_MS / 2)
        steps += 1
    assert worth.meet(("a",), ROWS) == Way.FREE


def test_few_rows_are_watched_longer_and_many_each_for_some_tokens() -> None:
    for rows, steps in ((1, FIRST), (8, FIRST // 8), (64, LEAST)):
        worth, seen = Worth(drafter=True), 0
        while not worth._state.rates:
            worth.meet(("a",), rows)
            worth.took(rows, PLAIN_MS, PLAIN_MS)
            seen += 1
        assert seen == steps


def test_rows_are_made_ready_before_the_drafter_is_tried_and_not_long_before() -> None:
    worth, looked, tried = Worth(drafter=True), list[bool](), list[int]()
    for step in range(8000):
        way = worth.meet(("a",), ROWS, ROWS)
        looked.append(worth.looks)
        tried += [step] if way == Way.ALL else []
        took = PLAIN_MS / {Way.PLAIN: 1.0, Way.FREE: 0.9, Way.ALL: 0.8}[way]
        worth.took(ROWS, took, PLAIN_MS)
    begins = [step for step in tried if step - 1 not in tried][1:]
    assert len(begins) >= 2
    for step in begins:
        assert all(looked[step - SOON // ROWS + 1 : step + 1])
        assert not looked[step - SOON // ROWS - 1]
    assert sum(looked) / len(looked) < 0.2


def test_no_plan_is_made_and_nothing_looked_at_where_drafts_lose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now_s[0])

    class Eager(Resting):
        def choose(self, rows: Sequence[RowView]) -> Plan:
            now_s[0] += 0.5e-3  # what the plans don't know of
            return super().choose(rows)

        def rest(self, planning_ms: float) -> int:
            return 0

    speculation = Eager()
    drafts, rows, plans = Drafts(speculation, None), [a_row("a", [1, 2, 3])], list[int]()
    looked: list[object] = []
    monkeypatch.setattr(
        "pipeline.engine.drafting.looks.has_likely", lambda row: bool(looked.append(row))
    )
    first, trial = FIRST, TRIAL[Way.PLAIN][0]
    for _ in range(first + trial + SHORTEST + SKIPPED + 5):
        proposals, width = drafts.propose(rows)
        assert (proposals, width) == ([[]], 1)
        rests, seen = drafts.rests, len(looked)
        drafts.look(rows)
        now_s[0] += 1e-3
        drafts.learn([[7]])
        plans.append(speculation.plans)
        if len(plans) > 1 and plans[-1] == plans[-2]:
            assert rests
            assert len(looked) == seen
    assert plans[first] == first == plans[first + trial + SHORTEST - 1]
    assert plans[-1] > first  # it is tried again


def test_the_drafter_is_not_tried_on_rows_that_it_does_not_look_at() -> None:
    worth, ready, tried = Worth(drafter=True), 0, list[int]()
    for step in range(6000):
        if worth.meet(("a",), ROWS, ready) == Way.ALL:
            tried.append(step)
        took = PLAIN_MS / {Way.PLAIN: 1.0, Way.FREE: 0.8, Way.ALL: 0.8}[worth._state.way]
        worth.took(ROWS, took, PLAIN_MS)
        if step == 4000:
            assert worth.looks
            assert max(tried) < 200
            ready = ROWS
    assert max(tried) > 4000
