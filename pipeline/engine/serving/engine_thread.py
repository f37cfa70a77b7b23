"""The one thread that owns the model: calls come in, events go out, models take turns.

    any thread: submit, cancel, stop, status      engine thread: load -> feed -> step -> events

Only this thread touches a core. A call waits here until its model's turn comes and the core has
room, so that a change of model never waits for more than the rows that were started.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.engine.interface import Done, EngineStats, Event, Failed, Request, TextDelta
from pipeline.engine.journal import fault_of, note, note_fault
from pipeline.engine.loader import NO_STATS, Core, CoreLoader, added_stats, totals_only
from pipeline.engine.loading.models import model_stamp
from pipeline.engine.serving.calls import Call, CallBounds, Calls
from pipeline.engine.serving.turns import whose_turn
from pipeline.errors import InputError, RequestError

STATS_EVERY_S = 0.05
"""How old a core's figures may be: to gather them after every step is a part of a fast one."""


@dataclass(frozen=True, slots=True)
class ThreadStatus:
    """A snapshot of the thread, for any other thread.

    Attributes:
        state: "loading" a model, "ready" for requests, or "stopping".
        model: The loaded model, or None.
        doing, progress: What the loading is at, and how far, 0 to 1.
        failed_model, failure: The last model that could not be loaded, and why; else empty.
        in_flight: Requests that have not ended.
        idle_s: Seconds since the last request ended or model was loaded; 0 while there is work.
        stats: Of the loaded core, with the totals of those before it.
    """

    state: str
    model: str | None
    doing: str
    progress: float
    failed_model: str
    failure: str
    in_flight: int
    idle_s: float
    stats: EngineStats


class EngineThread:
    """Runs cores for any number of callers.

    Args:
        loader: Makes cores.
        bounds: How many requests are taken in.
        on_end: Called in the engine thread when it has ended; True after a fault.
    """

    def __init__(
        self, loader: CoreLoader, bounds: CallBounds, on_end: Callable[[bool], None]
    ) -> None:
        self._loader = loader
        self._on_end = on_end
        self._calls = Calls(bounds)
        self._core: Core | None = None
        self._key: str | None = None
        self._model: str | None = None
        self._turn_began_s = 0.0
        self._loading = False
        self._doing, self._progress = "", 0.0
        self._failed_model, self._failure = "", ""
        self._last_work_s = time.monotonic()
        self._past = self._stats = NO_STATS
        self._noted_s = 0.0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self, preload: str | None = None) -> None:
        """Starts the thread.

        Args:
            preload: A model to load before any request asks for it.
        """
        self._preload = preload
        self._loading = preload is not None
        self._thread.start()

    def submit(
        self, request: Request, on_event: Callable[[Event], None], *, wants_text: bool = False
    ) -> None:
        """Takes a request in.

        Args:
            request: What is asked.
            on_event: Called in the engine thread, last with `Done` or `Failed`, exactly once.
            wants_text: Whether `TextDelta` events are wanted as well.

        Raises:
            RequestError: "queue_full", "duplicate_id", or the engine is stopping.
        """
        self._calls.add(Call(request, _key(request.model), on_event, wants_text))

    def cancel(self, request_id: str) -> None:
        """Ends a request with `Failed("cancelled")`, soon; ended ones are left alone."""
        self._calls.cancel(request_id)

    def stop(self, error: RequestError, *, now: bool = False) -> None:
        """Refuses requests from here on, lets the started ones finish, then ends the thread.

        Args:
            error: What waiting and new requests are told.
            now: End the started requests as well.
        """
        self._calls.stop(error, now=now)

    def join(self, timeout_s: float) -> bool:
        """Waits for the thread's end; False if it is still running."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def status(self) -> ThreadStatus:
        """What the thread is doing."""
        waiting, started = self._calls.counts()
        busy = waiting or started or self._loading
        stopping = self._calls.stop_error is not None
        return ThreadStatus(
            state="stopping" if stopping else "loading" if self._loading else "ready",
            model=self._model,
            doing=self._doing,
            progress=self._progress,
            failed_model=self._failed_model,
            failure=self._failure,
            in_flight=waiting + started,
            idle_s=0.0 if busy else time.monotonic() - self._last_work_s,
            stats=added_stats(self._past, self._stats, waiting),
        )

    def _run(self) -> None:
        failed = False
        try:
            if self._preload is not None:
                self._load(self._preload, _key(self._preload))
            while self._calls.wait():
                self._round()
        except BaseException as error:  # noqa: BLE001  the process must end and say so
            failed = True
            note_fault("engine_thread_ended", error)
        self._calls.stop(
            RequestError("engine_failed", "the engine stopped after a fault; see its log"), now=True
        )
        self._fail_all()
        self._drop_core()
        self._on_end(failed)

    def _round(self) -> None:
        """What was cancelled or is late ends, a turn may change, the core steps."""
        sweep = self._calls.sweep()
        for call, reason in sweep.ended:
            self._tell(call, Failed(call.request.id, reason))
        for request_id in sweep.cancelled:
            if self._core is not None:
                self._core.cancel(request_id)
        _, started = self._calls.counts()
        turn = whose_turn(self._key, self._calls.waiting(), self._turn_began_s, time.monotonic())
        if turn == self._key and turn is not None:
            for call in self._calls.start(turn):
                self._start_call(call)
        elif turn is not None and not started:
            self._load(turn.partition("\0")[0], turn)
        self._step()

    def _load(self, model: str, key: str) -> None:
        """Changes over to another model; the old weights are gone before the new ones come."""
        self._loading = True
        self._drop_core()
        began_s = time.monotonic()
        refusal = None
        try:
            self._core = self._loader.load(model, self._tell_progress)
            self._key, self._model = key, model
            self._stats = self._core.stats()
            note("model_loaded", model=model, load_s=round(time.monotonic() - began_s, 3))
        except InputError as error:
            refusal = str(error)
        except Exception as error:  # noqa: BLE001  the engine goes on without this model
            note_fault("load_failed", error, model=model)
            refusal = _load_refusal(model, error)
        self._failed_model, self._failure = (model, refusal) if refusal else ("", "")
        if refusal:
            self._refuse_model(model, key, refusal)
        self._turn_began_s = self._last_work_s = time.monotonic()
        self._loading, self._doing, self._progress = False, "", 0.0

    def _tell_progress(self, doing: str, progress: float) -> None:
        self._doing, self._progress = doing, progress

    def _refuse_model(self, model: str, key: str, refusal: str) -> None:
        note("model_refused", model=model, reason=refusal)
        self._drop_core()
        for call in self._calls.take_waiting(key):
            self._tell(call, Failed(call.request.id, RequestError("bad_model", refusal)))

    def _start_call(self, call: Call) -> None:
        left_s = call.request.timeout_s - (call.started_s - call.arrived_s)
        request = replace(call.request, timeout_s=max(0.001, left_s))
        try:
            if self._core is not None:
                self._core.submit(request, lambda event: self._pass_on(call, event))
        except RequestError as error:
            self._pass_on(call, Failed(call.request.id, error))
        except Exception as error:  # noqa: BLE001  one request must not end the others
            note_fault("submit_failed", error, id=call.request.id)
            self._pass_on(call, Failed(call.request.id, fault_of("starting a request", error)))

    def _step(self) -> None:
        if self._core is None or not self._calls.started():
            return
        try:
            busy = self._core.step()
            self._note_stats(self._core, busy=busy)
        except Exception as error:  # noqa: BLE001  the next request loads the model anew
            note_fault("step_failed", error, rows=len(self._calls.started()))
            fault = fault_of("a step", error)
        else:
            if busy or not self._calls.started():
                return
            note("requests_lost", rows=len(self._calls.started()))
            fault = RequestError("engine_failed", "the engine lost the request; see its log")
        for call in self._calls.started():
            self._pass_on(call, Failed(call.request.id, fault))
        self._drop_core()

    def _note_stats(self, core: Core, *, busy: bool) -> None:
        """Takes the core's figures when something has ended, and now and then in between."""
        now_s = time.monotonic()
        if not busy or self._last_work_s >= self._noted_s or now_s - self._noted_s > STATS_EVERY_S:
            self._stats, self._noted_s = core.stats(), now_s

    def _pass_on(self, call: Call, event: Event) -> None:
        """A core's event, on its way to the caller."""
        if isinstance(event, TextDelta):
            if call.wants_text:
                call.on_event(event)
            return
        if not self._calls.end(call):
            return
        stop_error = self._calls.stop_error
        if isinstance(event, Done):
            waited_s = event.completion.queue_s + call.started_s - call.arrived_s
            event = Done(replace(event.completion, queue_s=waited_s))
        elif stop_error and event.error.kind == "cancelled":
            event = Failed(event.id, stop_error)
        self._tell(call, event)

    def _tell(self, call: Call, event: Done | Failed) -> None:
        """Sends a call's last event and logs it."""
        self._last_work_s = time.monotonic()
        if isinstance(event, Done):
            done = event.completion
            note(
                "request_done",
                id=call.request.id,
                finish_reason=done.finish_reason,
                prompt_tokens=done.prompt_tokens,
                cached_tokens=done.cached_tokens,
                completion_tokens=done.completion_tokens,
                queue_s=round(done.queue_s, 3),
                prefill_s=round(done.prefill_s, 3),
                decode_s=round(done.decode_s, 3),
            )
        else:
            took_s = round(self._last_work_s - call.arrived_s, 3)
            note("request_failed", id=call.request.id, kind=event.error.kind, took_s=took_s)
        call.on_event(event)

    def _fail_all(self) -> None:
        error = self._calls.stop_error or RequestError("engine_failed", "the engine stopped")
        for call in self._calls.take_waiting():
            self._tell(call, Failed(call.request.id, error))
        for call in self._calls.started():
            self._pass_on(call, Failed(call.request.id, error))

    def _drop_core(self) -> None:
        self._past, self._stats = totals_only(added_stats(self._past, self._stats, 0)), NO_STATS
        self._core = self._key = self._model = None
        self._loader.free()


def _key(model: str) -> str:
    """A model as it is now: a folder whose files were changed is another model."""
    return f"{model}\0{model_stamp(model)}"


def _load_refusal(model: str, error: Exception) -> str:
    return (
        f"the model={model!r} can't be loaded ({type(error).__name__}: {error}); "
        "check that the folder is complete and that it fits into memory"
    )
