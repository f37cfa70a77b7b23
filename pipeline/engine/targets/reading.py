"""Prompts that are being read while the host goes on.

Beside a small model on a fast GPU the host is what a step waits for: it prepares the next one while
the device is at a prompt. What it then waits for the prompt is not the step's time, so the two are
waited for one after the other.
"""

import time

import mlx.core as mx


class Reading:
    """The piece of a prompt that was begun last: one at most is being read."""

    def __init__(self) -> None:
        self._running: list[mx.array] = []
        self._waited_s = 0.0

    def begin(self, running: list[mx.array]) -> None:
        """Notes what is computed once a piece has been read."""
        self._running = running

    def wait(self) -> None:
        """Waits until no prompt is being read."""
        running, self._running = self._running, []
        mx.eval(running)

    def finish(self) -> None:
        """Likewise, in a step, which is told how long: see `waited`."""
        if self._running:
            began_s = time.perf_counter()
            self.wait()
            self._waited_s += time.perf_counter() - began_s

    def forget(self) -> None:
        """Forgets the prompt, and what was waited for it: the step has failed."""
        self._running, self._waited_s = [], 0.0

    def waited(self) -> float:
        """For how many seconds a step has waited since this was asked last."""
        waited_s, self._waited_s = self._waited_s, 0.0
        return waited_s
