"""The engine as its callers see it: blocking calls, from any thread, over the unix socket.

Starts the engine when there is none, waits while its queue is full, and repeats a request whose
engine was killed: requests are pure, so nothing is done twice.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Self

import httpx

from pipeline.engine.interface import Completion, Request
from pipeline.engine.journal import log_path
from pipeline.engine.loading.embedded import no_progress
from pipeline.engine.serving.endpoint import is_listening
from pipeline.engine.serving.launch import open_http, start_engine
from pipeline.engine.serving.wire import BODY_BYTES, GRACE_S, SHORTEST_TIMEOUT_S, request_body
from pipeline.engine.serving.wire_answers import parse_completion, parse_error
from pipeline.errors import (
    EngineError,
    EngineLostError,
    EngineStoppedError,
    InputError,
    RequestError,
)
from pipeline.settings import EMBEDDED_MODEL

CONNECT_S = 10.0
CLOSE_S = 5.0
FREE_STARTS = 10
"""Starts per request that cost nothing, as the request had not reached an engine."""
LONGEST_PAUSE_S = 10.0
OK = 200


class _EngineGoneError(Exception):
    """The engine is not there, or left before it answered.

    Attributes:
        reached: Whether the request had reached it.
    """

    def __init__(self, *, reached: bool) -> None:
        super().__init__()
        self.reached = reached


class EngineClient:
    """Answers requests through the engine process; implements `interface.Engine`.

    Args:
        restarts: How often one request is repeated after the engine was lost on it.
        start: Start the engine when there is none.
        progress: Told of the engine's start.
    """

    def __init__(
        self,
        *,
        restarts: int = 1,
        start: bool = True,
        progress: Callable[[str, float], None] = no_progress,
    ) -> None:
        self._restarts = restarts
        self._start = start
        self._progress = progress
        self._http = open_http(CONNECT_S)
        self._changed = threading.Condition()
        self._running: set[str] = set()
        self._ended = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends this client: its running requests are cancelled and fail with EngineError."""
        with self._changed:
            self._ended = self._ended or "this client was closed"
            running = sorted(self._running)
        for request_id in running:
            self.cancel(request_id)
        with self._changed:
            self._changed.wait_for(lambda: not self._running, CLOSE_S)
        self._http.close()

    def cancel(self, request_id: str) -> None:
        """Ends a running request with RequestError("cancelled"); ended ones are left alone."""
        with contextlib.suppress(httpx.HTTPError):  # no engine, no request
            self._http.post("/admin/cancel", json={"request_id": request_id})

    def complete(self, request: Request) -> Completion:
        """Answers one request; blocks; safe to call from many threads.

        Raises:
            RequestError: This request can't be served; others can.
            InputError: Its model can't be loaded.
            EngineLostError: The engine was lost more than `restarts` times.
            EngineError: The engine stopped, or can't be started. What is finished is kept by the
                caller; the run can be resumed.
        """
        if request.model != EMBEDDED_MODEL:
            request = replace(request, model=str(Path(request.model).expanduser().resolve()))
        deadline_s = time.monotonic() + request.timeout_s
        lost = starts = 0
        while True:
            attempt = f"{request.id}~{lost + 1}" if lost else request.id
            try:
                completion = self._ask(replace(request, id=attempt), deadline_s)
            except _EngineGoneError as gone:
                self._check_open()
                lost += gone.reached
                starts += not gone.reached
                if lost > self._restarts or starts > FREE_STARTS or not self._start:
                    raise _lost_error(lost, started=self._start) from None
                lost += self._start_again(request.model, last=lost == self._restarts)
            else:
                return replace(completion, id=request.id)

    def _start_again(self, model: str, *, last: bool) -> int:
        """Starts the engine; returns 1 if it was lost while it started, and that may be."""
        try:
            start_engine(model, self._progress)
        except EngineError:
            if last:
                raise
            return 1
        return 0

    def _ask(self, request: Request, deadline_s: float) -> Completion:
        """Asks until the engine has room for the request."""
        while True:
            left_s = deadline_s - time.monotonic()
            if left_s < SHORTEST_TIMEOUT_S:
                raise RequestError(
                    "timeout",
                    f"timeout={request.timeout_s:g} s was over while the engine's queue was full; "
                    "allow more time, or send fewer requests at once",
                )
            response = self._post(request, left_s)
            if response.status_code == OK:
                return parse_completion(response.json())
            error = parse_error(_json(response), response.status_code)
            if error.kind not in {"queue_full", "leaving"}:
                raise self._translated(error)
            time.sleep(min(_retry_after_s(response), max(0.0, deadline_s - time.monotonic())))
            if error.kind == "leaving":
                raise _EngineGoneError(reached=False)

    def _post(self, request: Request, left_s: float) -> httpx.Response:
        body = self._built(request, left_s)
        if not is_listening():
            raise _EngineGoneError(reached=False)
        with self._changed:
            self._check_open()
            self._running.add(request.id)
        try:
            return self._http.send(body)
        except httpx.ConnectError:
            raise _EngineGoneError(reached=False) from None
        except httpx.ReadTimeout:
            raise RequestError(
                "timeout", f"the engine gave no answer within timeout={request.timeout_s:g} s"
            ) from None
        except httpx.HTTPError:
            raise _EngineGoneError(reached=True) from None
        finally:
            with self._changed:
                self._running.discard(request.id)
                self._changed.notify_all()

    def _built(self, request: Request, left_s: float) -> httpx.Request:
        try:
            body = self._http.build_request(
                "POST",
                "/v1/chat/completions",
                json=request_body(request, left_s),
                timeout=httpx.Timeout(CONNECT_S, read=left_s + 2 * GRACE_S, pool=None),
            )
        except ValueError as error:
            raise RequestError(
                "bad_parameter",
                f"the request can't be sent as JSON ({type(error).__name__}): a number is not "
                "finite, or a text has half a surrogate pair",
            ) from None
        if len(body.content) > BODY_BYTES:
            raise RequestError(
                "body_too_large", f"the request is over {BODY_BYTES} bytes; send less text"
            )
        return body

    def _translated(self, error: RequestError) -> Exception:
        """What the engine's refusal means to the caller."""
        if error.kind == "bad_model":
            return InputError(str(error))
        if error.kind == "engine_failed":
            return _EngineGoneError(reached=True)
        if error.kind == "stopped":
            with self._changed:
                self._ended = self._ended or str(error)
        if error.kind in {"stopped", "cancelled"}:
            self._check_open()
        return error

    def _check_open(self) -> None:
        if self._ended:
            raise EngineStoppedError(f"{self._ended}; run again to go on")


def _lost_error(lost: int, *, started: bool) -> EngineError:
    log = f"its log is {str(log_path())!r}"
    if not started and not lost:
        return EngineError(f"no engine is running; start it with `docflash engine start`; {log}")
    if lost:
        times = "" if lost == 1 else f" {lost} times"
        return EngineLostError(
            f"the engine was lost{times} while it answered a request (it was killed, failed, or "
            f"ran out of memory); {log}; run again to go on"
        )
    return EngineError(f"the engine starts but can't be reached; {log}")


def _json(response: httpx.Response) -> object:
    try:
        return response.json()
    except ValueError:
        return None


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "1")
    return min(LONGEST_PAUSE_S, float(text) if text.isdigit() else 1.0)
