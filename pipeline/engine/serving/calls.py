"""Requests inside the engine process that have not ended: waiting ones, started ones, and bounds.

In, from any thread: calls, cancellations, the word to stop. Out, to the engine thread: what to
start, what to end and why.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.engine.interface import Event, Request
from pipeline.engine.serving.turns import Waiting
from pipeline.errors import RequestError


@dataclass(slots=True, eq=False)
class Call:
    """A request on its way through the engine process.

    Attributes:
        request: What is asked.
        key: The model, and the state of its folder when the request came.
        on_event: Called in the engine thread, last with `Done` or `Failed`, exactly once.
        wants_text: Whether `TextDelta` events are wanted as well.
        arrived_s, started_s: When it came and was handed to the core, on the monotonic clock.
    """

    request: Request
    key: str
    on_event: Callable[[Event], None]
    wants_text: bool
    arrived_s: float = field(default_factory=time.monotonic)
    started_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CallBounds:
    """How many requests are taken in.

    Attributes:
        waiting: Most requests that wait; one more is refused with "queue_full".
        started: Most requests handed to the core at once, rows and its own queue together.
    """

    waiting: int = 256
    started: int = 32


@dataclass(frozen=True, slots=True)
class Sweep:
    """What the engine thread has to end.

    Attributes:
        ended: Calls that leave the queue unstarted, each with the reason.
        cancelled: Ids of started calls to cancel.
    """

    ended: list[tuple[Call, RequestError]]
    cancelled: list[str]


class Calls:
    """All calls that have not ended. Safe to use from many threads."""

    def __init__(self, bounds: CallBounds) -> None:
        self._bounds = bounds
        self._changed = threading.Condition()
        self._waiting: list[Call] = []
        self._started: dict[str, Call] = {}
        self._cancelled: set[Call] = set()
        self._stop_error: RequestError | None = None
        self._stop_now = False

    def add(self, call: Call) -> None:
        """Takes a call in.

        Raises:
            RequestError: "queue_full", "duplicate_id", or the engine is stopping.
        """
        request_id = call.request.id
        with self._changed:
            if self._stop_error:
                raise self._stop_error
            if request_id in self._started or any(
                other.request.id == request_id for other in self._waiting
            ):
                raise RequestError(
                    "duplicate_id", f"request_id={request_id!r} is running; choose another"
                )
            if len(self._waiting) >= self._bounds.waiting:
                raise RequestError(
                    "queue_full",
                    f"{len(self._waiting)} requests are waiting, the most that the engine takes; "
                    "try again later",
                )
            self._waiting.append(call)
            self._changed.notify()

    def cancel(self, request_id: str) -> None:
        """Asks for a call's end; an unknown or ended one is left alone."""
        with self._changed:
            # The call, not its id: the id may come again before the engine thread looks.
            for call in (*self._waiting, *self._started.values()):
                if call.request.id == request_id:
                    self._cancelled.add(call)
                    self._changed.notify()

    def stop(self, error: RequestError, *, now: bool) -> None:
        """Refuses calls from here on, and ends those that wait, or with `now` all."""
        with self._changed:
            self._stop_error = self._stop_error or error
            self._stop_now = self._stop_now or now
            self._changed.notify()

    @property
    def stop_error(self) -> RequestError | None:
        """What calls are told once the engine is stopping."""
        return self._stop_error

    def wait(self) -> bool:
        """Sleeps until there is something to do; False when nothing will come any more."""
        with self._changed:
            while not (self._waiting or self._started or self._stop_error):
                self._changed.wait()
            return bool(self._waiting or self._started)

    def sweep(self) -> Sweep:
        """Takes out what was cancelled, is late, or meets a stopping engine."""
        now_s = time.monotonic()
        with self._changed:
            cancelled, self._cancelled = self._cancelled, set()
            reasons = [(call, self._end_reason(call, now_s, cancelled)) for call in self._waiting]
            self._waiting = [call for call, reason in reasons if reason is None]
            started = list(self._started.values())
        wanted = [c.request.id for c in started if self._stop_now or c in cancelled]
        ended = [(call, reason) for call, reason in reasons if reason is not None]
        return Sweep(ended, wanted)

    def waiting(self) -> list[Waiting]:
        """What waits, in the order of arrival."""
        with self._changed:
            return [Waiting(call.key, call.arrived_s) for call in self._waiting]

    def start(self, key: str) -> list[Call]:
        """Moves calls of one model to the started ones, oldest first, as far as there is room."""
        now_s = time.monotonic()
        with self._changed:
            room = max(0, self._bounds.started - len(self._started))
            chosen = [call for call in self._waiting if call.key == key][:room]
            self._waiting = [call for call in self._waiting if call not in chosen]
            for call in chosen:
                call.started_s = now_s
                self._started[call.request.id] = call
        return chosen

    def started(self) -> list[Call]:
        """The calls that the core has."""
        with self._changed:
            return list(self._started.values())

    def end(self, call: Call) -> bool:
        """Takes a started call out; False if it had ended before."""
        with self._changed:
            return self._started.pop(call.request.id, None) is not None

    def take_waiting(self, key: str | None = None) -> list[Call]:
        """Takes out the waiting calls of one model, or all of them."""
        with self._changed:
            taken = [call for call in self._waiting if key in (None, call.key)]
            self._waiting = [call for call in self._waiting if call not in taken]
        return taken

    def counts(self) -> tuple[int, int]:
        """How many wait, and how many were started."""
        with self._changed:
            return len(self._waiting), len(self._started)

    def _end_reason(self, call: Call, now_s: float, cancelled: set[Call]) -> RequestError | None:
        if self._stop_error:
            return self._stop_error
        if call in cancelled:
            return RequestError("cancelled", "the request was cancelled while it waited")
        if now_s - call.arrived_s > call.request.timeout_s:
            return RequestError(
                "timeout",
                f"timeout={call.request.timeout_s:g} s was over before the request's turn came; "
                "allow more time, or send fewer requests at once",
            )
        return None
