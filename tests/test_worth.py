"""Drafts that lose by what whole steps take are left alone, whatever plans promise."""

import random
import time
from collections.abc import Callable, Sequence

import pytest

from pipeline.engine.drafting.draft import Drafts
from pipeline.engine.planning.plan import Plan, RowView
from pipeline.engine.planning.worth import FIRST, LONGEST, MOST_TASKS, SHORTEST, TRIAL, Worth
from tests.test_draft import Resting, a_row

ROWS, PLAIN_MS = 8, 0.8


def decode(
    worth: Worth, gain: Callable[[int], float], steps: int, *, tasks: Sequence[str] = ("a",)
) -> tuple[float, float]:
    """The part of so many steps that drafted, and what all of them gained over plain ones."""
    chance, drafted, tokens, ms = random.Random(2), 0, 0.0, 0.0
    for step in range(steps):
        drafts = worth.meet(tasks, ROWS)
        drafted += drafts
        got = chance.choice((8, 24, 40)) if drafts else ROWS
        took = got / ROWS * PLAIN_MS / gain(step) if drafts else PLAIN_MS
        worth.took(got, took := took * chance.uniform(0.9, 1.1))
        tokens, ms = tokens + got, ms + took
    return drafted / steps, tokens / ms / (ROWS / PLAIN_MS)


@pytest.mark.parametrize("gain", [0.8, 0.9, 0.97])
def test_where_drafts_lose_next_to_none_are_made(gain: float) -> None:
    drafted, gained = decode(Worth(), lambda _: gain, 20_000)
    assert drafted < 0.03
    assert gained > 0.985
    early, gained = decode(Worth(), lambda _: gain, 1000)
    assert early < 0.15
    assert gained > 1 - 0.15 * (1 - gain) - 0.02


@pytest.mark.parametrize("gain", [1.08, 1.5, 3.0])
def test_where_they_win_nearly_all_steps_are_theirs(gain: float) -> None:
    drafted, gained = decode(Worth(), lambda _: gain, 20_000)
    assert drafted > 0.97
    assert gained > 1 + 0.95 * (gain - 1) - 0.02


def test_a_change_is_noticed_both_ways() -> None:
    for before, after in ((0.8, 2.0), (2.0, 0.8)):
        worth = Worth()
        decode(worth, lambda _, was=before: was, 5000)
        changed, _ = decode(worth, lambda _, now=after: now, 2 * LONGEST)
        settled, _ = decode(worth, lambda _, now=after: now, 2 * LONGEST)
        assert (settled > 0.9) == (after > 1)
        assert (changed > 0.5) == (after > 1)


def test_kinds_of_batches_are_judged_by_themselves() -> None:
    worth = Worth()
    decode(worth, lambda _: 0.7, 5000)
    for tasks, rows in ((("b",), ROWS), (("a",), ROWS + 1), (("a", "b"), ROWS), (("a",), 4)):
        assert worth.meet(tasks, rows)
    assert not worth.meet(("a",), ROWS - 1)
    assert not worth.meet(("a", "a"), ROWS)
    decode(worth, lambda _: 0.7, 5000, tasks=("a", "b", "c"))
    assert not worth.meet(("d", "e", "f", "g"), ROWS)  # many tasks, whichever
    for number in range(2 * MOST_TASKS):
        worth.meet((f"t{number}",), ROWS)
    assert len(worth._kinds) == MOST_TASKS


def test_a_step_that_compiled_does_not_decide() -> None:
    worth = Worth()
    for step in range(FIRST + TRIAL[False]):
        drafts = worth.meet(("a",), ROWS)
        worth.took(16 if drafts else ROWS, 900.0 if step == 20 else PLAIN_MS)
    assert worth.meet(("a",), ROWS)


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
    for _ in range(FIRST + TRIAL[False] + SHORTEST + 5):
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
    assert plans[FIRST] == FIRST == plans[FIRST + TRIAL[False] + SHORTEST - 1]
    assert plans[-1] > FIRST  # it is tried again
