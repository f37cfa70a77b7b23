"""How the host comes by tokens that a kernel leaves in memory that both see."""

import threading
import time
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from pipeline.engine.choosing import fused_choice
from pipeline.engine.choosing.fused_choice import Chooser

TOKENS = [[7, 0, 3], [49151, 2, 5]]


class Kernel:
    """Leaves tokens in a mailbox when it is told to.

    Attributes:
        waited: How often somebody waited for its end.
    """

    def __init__(
        self, patch: pytest.MonkeyPatch, ending: Callable[[Callable[[], None]], None]
    ) -> None:
        self.waited = 0
        self._ending, self._leave = ending, lambda: None
        patch.setattr(fused_choice, "launch", self._launch)
        patch.setattr(fused_choice.mx, "async_eval", lambda *_: None)
        patch.setattr(fused_choice.mx, "eval", self._wait)

    def _launch(self, _kernel: Any, inputs: list[mx.array], *_: Any) -> list[mx.array]:
        memory = np.array(inputs[-1], copy=False).ravel()

        def leave() -> None:
            memory[: np.size(TOKENS)] = np.ravel(TOKENS)

        self._leave = leave
        self._ending(leave)
        return []

    def _wait(self, *_: Any) -> None:
        self.waited += 1
        self._leave()


def choose(chooser: Chooser) -> list[list[int]]:
    return chooser.begin(lambda: None, [], (2, 3), 6).wait().tolist()


def test_tokens_are_seen_as_soon_as_all_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    chooser = Chooser()
    kernel = Kernel(monkeypatch, lambda leave: threading.Timer(0.005, leave).start())
    monkeypatch.setattr(fused_choice, "LOOKING_S", 30.0)
    assert choose(chooser) == TOKENS
    assert choose(chooser) == TOKENS  # the last ones are not taken for these
    assert not kernel.waited


def test_a_kernel_that_takes_long_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    chooser = Chooser()
    kernel = Kernel(monkeypatch, lambda _: None)
    monkeypatch.setattr(fused_choice, "LOOKING_S", 0.001)
    wait = kernel._wait
    monkeypatch.setattr(fused_choice.mx, "eval", lambda *_: (time.sleep(0.002), wait()))
    for count in range(1, 3):
        assert choose(chooser) == TOKENS
        assert kernel.waited == count
    assert chooser._looks


def test_where_the_host_can_t_see_them_it_looks_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    chooser = Chooser()
    Kernel(monkeypatch, lambda _: None)
    monkeypatch.setattr(fused_choice, "LOOKING_S", 0.001)
    assert choose(chooser) == TOKENS
    assert not chooser._looks
    monkeypatch.setattr(fused_choice, "LOOKING_S", 30.0)
    assert choose(chooser) == TOKENS
