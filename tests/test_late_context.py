"""What a drafter sees of its target is the same, whenever it is put in its place."""

import random
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from pipeline.engine.drafters import late_context
from pipeline.engine.drafters.late_context import TOGETHER, LateContext
from pipeline.engine.memory.cache import RaggedCache
from pipeline.engine.memory.window import Shapes, window_of_row, window_of_rows

COLUMNS = 4096


class Rows:
    """Rows that step, join, leave and move, and a context that numbers are put into.

    Attributes:
        truth: For each row, in slot order, the number of each of its tokens.
        places: By slot and column what is there.
        launches: How often something was put there.
    """

    def __init__(self, taps: int, *, joined: bool) -> None:
        self.cache = RaggedCache(1)
        self.cache.resize(64, COLUMNS)
        layers: Any = [SimpleNamespace(keys=mx.zeros(1))]
        self.late = LateContext(self.cache, layers, self._extend, list)
        self.truth: list[list[int]] = []
        self.places: dict[tuple[int, int], int] = {}
        self.launches = 0
        self._taps, self._joined, self._count = taps, joined, 0

    def _extend(self, taps: Any) -> list[mx.array]:
        self.launches += 1
        window = self.cache.window
        found = np.array(mx.stack(list(taps)).reshape(self._taps, len(window.starts), -1))
        assert (found == found[0] + np.arange(self._taps)[:, None, None] / 8).all()
        assert len(set(window.places)) == len(window.places)  # which comes last is not known
        for (slot, start), numbers in zip(window.places, found[0].tolist(), strict=True):
            for i, number in enumerate(numbers):
                self.places[slot, start + i] = int(number)
        return []

    def _run(self, rows: int, width: int) -> np.ndarray[Any, Any]:
        numbers = self._count + np.arange(rows * width).reshape(rows, width, 1)
        self._count += rows * width
        taps = [mx.array(numbers + i / 8) for i in range(self._taps)]
        self.late.take([mx.concatenate(taps)] if self._joined else taps)
        return numbers[:, :, 0]

    def step(self, width: int, accepted: int) -> None:
        starts = tuple(map(len, self.truth))
        self.cache.window = window_of_rows(starts, width, COLUMNS, Shapes())
        for row, numbers in zip(self.truth, self._run(len(self.truth), width), strict=True):
            row.extend(numbers[:accepted].tolist())

    def unsay(self, slots: list[int]) -> None:
        self.late.unsay(slots)
        for slot in slots:
            self.truth[slot].pop()

    def join(self, length: int) -> None:
        slot = len(self.truth)
        self.cache.window = window_of_row(slot, 0, length, COLUMNS, Shapes())
        self.truth.append(self._run(1, length)[0].tolist())

    def leave(self, slot: int) -> None:
        last = len(self.truth) - 1
        if slot != last:
            self.late.move(last, slot)
            moved = {c: n for (s, c), n in self.places.items() if s == last}
            self.places |= {(slot, column): number for column, number in moved.items()}
            self.truth[slot] = self.truth[last]
        self.truth.pop()

    def check(self) -> None:
        self.late.catch_up()
        for slot, row in enumerate(self.truth):
            assert [self.places[slot, column] for column in range(len(row))] == row


@pytest.mark.parametrize(("taps", "joined"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("seed", range(20))
def test_whatever_rows_do_each_token_comes_to_its_place(
    seed: int, taps: int, *, joined: bool
) -> None:
    chance, rows = random.Random(seed), Rows(taps, joined=joined)
    rows.join(3)
    for _ in range(150):
        kind = chance.random()
        if kind < 0.1 and len(rows.truth) < 40:
            rows.join(chance.randint(1, 9))
        elif kind < 0.2 and len(rows.truth) > 1:
            rows.leave(chance.randrange(len(rows.truth)))
        elif kind < 0.3:
            rows.step(4, chance.randint(1, 4))
        elif kind < 0.35:
            rows.check()
        else:
            rows.step(1, 1)
            if chance.random() < 0.1:  # what was chosen for some of them turned out wrong
                rows.unsay(chance.sample(range(len(rows.truth)), min(2, len(rows.truth))))
    rows.check()


def test_plain_steps_wait_for_each_other() -> None:
    rows = Rows(1, joined=True)
    rows.join(5)
    rows.join(5)
    launches = rows.launches
    for _ in range(TOGETHER // 3):
        rows.step(1, 1)
    rows.join(7)  # neither a prompt nor a row that leaves has them put in
    rows.leave(0)
    assert rows.launches == launches + 1
    assert [rows.late.ready(slot, 100) for slot in (0, 1)] == [100, 5]  # the last one is in slot 0
    rows.check()
    assert rows.launches == launches + 2


def test_no_more_go_in_at_once_than_a_kernel_takes_and_no_more_wait_than_they_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps, count = 51, 40
    monkeypatch.setattr(
        late_context, "MOST_BYTES", (steps + 1) * count * mx.array(np.zeros(1)).nbytes - 1
    )
    rows = Rows(1, joined=False)
    for _ in range(count):
        rows.join(1)
    launches = rows.launches
    for _ in range(steps):
        rows.step(1, 1)
    assert rows.launches == launches
    rows.step(1, 1)
    flushed = rows.launches
    assert flushed == launches + -(-steps // (TOGETHER // count))
    rows.check()
    assert rows.launches == flushed + 1


def test_what_waits_is_forgotten_with_the_memory_of_the_rows() -> None:
    rows = Rows(1, joined=False)
    rows.join(2)
    rows.step(1, 1)
    rows.late._layers = [SimpleNamespace(keys=None)]  # type: ignore[assignment, list-item]
    rows.cache.release()
    before = rows.launches
    rows.late.catch_up()
    assert rows.launches == before
    assert rows.late.ready(0, 100) == 100
