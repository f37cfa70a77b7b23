"""Prompts that are being read while the host goes on.

Beside a small model on a fast GPU the host is what a step waits for: it prepares the next one while
the device is at a prompt. What it then waits for the prompt is not the step's time, so the two are
waited for one after the other.
"""

import time

import mlx.core as mx


class Reading:
    """The piece of a prompt that was begun last."""

    def __init__(self) -> None:
        self._running: mx.array | None = None
        self._waited_s = 0.0

    def begin(self, done: mx.array) -> None:
        """Notes what is computed once a piece has been read."""
        self._running = done

    def finish(self) -> None:
        """Waits until no prompt is being read."""
        if self._running is not None:
            began_s, running = time.perf_counter(), self._running
            self._running = None
            mx.eval(running)
            self._waited_s += time.perf_counter() - began_s

    def waited(self) -> float:
        """For how many seconds somebody has waited since this was asked last."""
        waited_s, self._waited_s = self._waited_s, 0.0
        return waited_s
