"""The engine's HTTP interface: chat completions in OpenAI's shape, health, metrics, stop.

Knows nothing of sockets or processes; in tests it runs over any engine thread.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from pipeline.engine.interface import Completion, Done, Event, Failed, TextDelta
from pipeline.engine.journal import note_fault
from pipeline.engine.serving.engine_thread import EngineThread
from pipeline.engine.serving.metrics import metrics_text
from pipeline.engine.serving.wire import BODY_BYTES, GRACE_S, ChatCall, parse_chat, parse_json
from pipeline.engine.serving.wire_answers import (
    completion_body,
    error_body,
    error_status,
    first_chunk,
    last_chunks,
    text_chunk,
)
from pipeline.errors import EngineError, RequestError
from pipeline.settings import EMBEDDED_MODEL

RETRY_AFTER_S = 2
STATUS_KINDS = {404: "not_found", 405: "bad_method"}


class Routes:
    """The application's endpoints.

    Args:
        thread: Where requests are answered.
        health: Makes the body of /health.
        stop: Asked to stop the engine; True means at once, without waiting for running requests.
        uptime: Age of the process, in seconds.
    """

    def __init__(
        self,
        thread: EngineThread,
        health: Callable[[], dict[str, Any]],
        stop: Callable[[bool], None],
        uptime: Callable[[], float],
    ) -> None:
        self._thread = thread
        self._health = health
        self._stop = stop
        self._uptime = uptime

    def application(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self._guarded(self.chat), methods=["POST"]),
                Route("/v1/models", self._guarded(self.models)),
                Route("/health", self._guarded(self.health)),
                Route("/metrics", self._guarded(self.metrics)),
                Route("/admin/cancel", self._guarded(self.cancel), methods=["POST"]),
                Route("/admin/stop", self._guarded(self.stop), methods=["POST"]),
            ],
            exception_handlers={HTTPException: _http_error},  # pyright: ignore[reportArgumentType]
        )

    def _guarded(self, endpoint: Any) -> Any:
        """Refuses browsers' cross-site requests, and turns errors into answers."""

        async def guarded(http: HttpRequest) -> Response:
            try:
                _refuse_browsers(http)
                return await endpoint(http)
            except EngineError as error:
                return _error_response(error)
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception as error:  # noqa: BLE001  the log must not get its message
                note_fault("route_failed", error, route=http.url.path)
                name = type(error).__name__
                return _error_response(
                    RequestError("engine_failed", f"the engine's route failed ({name})")
                )

        return guarded

    async def chat(self, http: HttpRequest) -> Response:
        """POST /v1/chat/completions."""
        call = parse_chat(parse_json(await _read_body(http)))
        events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def pass_on(event: Event) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(events.put_nowait, event)

        self._thread.submit(call.request, pass_on, wants_text=call.stream)
        if call.stream:
            return await self._stream(call, events, http)
        async with self._cancelled_if_left(call):
            event = await self._next_event(call, events, http)
        return JSONResponse(completion_body(call, _completion(event)))

    @contextlib.asynccontextmanager
    async def _cancelled_if_left(self, call: ChatCall) -> AsyncGenerator[None]:
        """However the route ends, the request does not go on without it."""
        try:
            yield
        finally:
            self._thread.cancel(call.request.id)

    async def _next_event(
        self, call: ChatCall, events: asyncio.Queue[Event], http: HttpRequest | None
    ) -> Event:
        """The next event, or an end: the client went away, or the time is over."""
        waiting = {asyncio.ensure_future(events.get())}
        gone = asyncio.ensure_future(_disconnected(http)) if http else None
        try:
            done, _ = await asyncio.wait(
                {*waiting, *([gone] if gone else [])},
                timeout=call.request.timeout_s + GRACE_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for task in (*waiting, *([gone] if gone else [])):
                task.cancel()
        for task in waiting & done:
            return task.result()
        if done:
            raise RequestError("cancelled", "the client went away")
        raise RequestError(
            "timeout", f"timeout={call.request.timeout_s:g} s was over; allow more time"
        )

    async def _stream(
        self, call: ChatCall, events: asyncio.Queue[Event], http: HttpRequest
    ) -> Response:
        """Server-sent events; a refusal before the first of them is still a plain error."""
        try:
            event = _unless_failed(await self._next_event(call, events, http))
        except BaseException:
            self._thread.cancel(call.request.id)
            raise
        return StreamingResponse(
            self._stream_lines(call, event, events),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )

    async def _stream_lines(
        self, call: ChatCall, event: Event, events: asyncio.Queue[Event]
    ) -> AsyncGenerator[str]:
        async with self._cancelled_if_left(call):
            yield _line(first_chunk(call))
            try:
                while isinstance(event, TextDelta):
                    yield _line(text_chunk(call, event.text))
                    event = await self._next_event(call, events, None)
                for chunk in last_chunks(call, _completion(event)):
                    yield _line(chunk)
            except EngineError as error:
                yield _line(error_body(error))
                return
            yield "data: [DONE]\n\n"

    async def models(self, _: HttpRequest) -> Response:
        """GET /v1/models: the embedded one, and the one that is loaded."""
        loaded = self._thread.status().model
        names = [EMBEDDED_MODEL, *([loaded] if loaded and loaded != EMBEDDED_MODEL else [])]
        data = [
            {"id": name, "object": "model", "owned_by": "docflash", "loaded": name == loaded}
            for name in names
        ]
        return JSONResponse({"object": "list", "data": data})

    async def health(self, _: HttpRequest) -> Response:
        """GET /health."""
        return JSONResponse(self._health())

    async def metrics(self, _: HttpRequest) -> Response:
        """GET /metrics."""
        return PlainTextResponse(
            metrics_text(self._thread.status(), self._uptime()),
            media_type="text/plain; version=0.0.4",
        )

    async def cancel(self, http: HttpRequest) -> Response:
        """POST /admin/cancel, with {"request_id": ...}; unknown ones are left alone."""
        self._thread.cancel(str(parse_json(await _read_body(http)).get("request_id")))
        return JSONResponse({}, status_code=202)

    async def stop(self, http: HttpRequest) -> Response:
        """POST /admin/stop, with {"now": true} to end running requests as well."""
        body = await _read_body(http)
        now = bool(body) and parse_json(body).get("now") is True
        self._stop(now)
        return JSONResponse({"state": "stopping", "now": now}, status_code=202)


async def _read_body(http: HttpRequest) -> bytes:
    """The request's body.

    Raises:
        RequestError: It is longer than the engine takes ("body_too_large").
    """
    parts: list[bytes] = []
    size = 0
    async for part in http.stream():
        size += len(part)
        if size > BODY_BYTES:
            raise RequestError(
                "body_too_large", f"the body is over {BODY_BYTES} bytes; send less text"
            )
        parts.append(part)
    return b"".join(parts)


async def _disconnected(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


def _refuse_browsers(http: HttpRequest) -> None:
    if "origin" in http.headers:
        raise RequestError(
            "forbidden_origin",
            "requests with an Origin header are refused: web pages have no business here",
        )


def _unless_failed(event: Event) -> TextDelta | Done:
    if isinstance(event, Failed):
        raise event.error
    return event


def _completion(event: Event) -> Completion:
    event = _unless_failed(event)
    if isinstance(event, TextDelta):
        raise EngineError("the engine sent text that nobody asked for")
    return event.completion


def _line(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n"


def _error_response(error: EngineError) -> JSONResponse:
    status = error_status(error)
    wait = isinstance(error, RequestError) and error.kind in {"queue_full", "leaving"}
    return JSONResponse(
        error_body(error),
        status_code=status,
        headers={"Retry-After": str(RETRY_AFTER_S)} if wait else None,
    )


async def _http_error(http: HttpRequest, error: HTTPException) -> Response:
    kind = STATUS_KINDS.get(error.status_code, "bad_parameter")
    message = f"{http.method} on this path is not served ({error.detail}); see GET /health"
    return JSONResponse(error_body(RequestError(kind, message)), status_code=error.status_code)
