"""Starts, finds and stops the engine process.

In: the word to start or stop. Out: its status. Any number of starters at once make one engine.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import httpx

from pipeline.engine.interface import EngineStats
from pipeline.engine.journal import log_path, output_path
from pipeline.engine.loading.embedded import no_progress
from pipeline.engine.loading.models import resolve_model
from pipeline.engine.machine.blas import serving_environment
from pipeline.engine.planning.speculation_stats import parse_speculation
from pipeline.engine.serving.endpoint import (
    build,
    is_listening,
    lock_holder,
    socket_path,
    start_lock,
)
from pipeline.errors import EngineError, InputError
from pipeline.settings import EMBEDDED_MODEL

ANSWER_S = 30.0
"""A health check may wait this long: an engine that loads weights is slow to answer."""
POLL_S = 0.05
START_S = 900.0
STOP_S = 120.0
KILL_AFTER_S = 10.0
QUOTED_CHARS = 300


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What the engine process says of itself.

    Attributes:
        state: "loading", "ready" or "stopping".
        model: The loaded model, or None.
        doing, progress: What the loading is at, and how far, 0 to 1.
        failed_model, failure: The last model that could not be loaded, and why; else empty.
        in_flight: Requests that have not ended.
        idle_s, idle_timeout_s: How long it has had nothing to do, and when it will leave.
        build: Hash of the code it runs.
        drafter: Folder of the drafter it uses, or empty.
    """

    state: str
    pid: int
    model: str | None
    doing: str
    progress: float
    failed_model: str
    failure: str
    in_flight: int
    idle_s: float
    idle_timeout_s: float
    uptime_s: float
    rss_bytes: int
    build: str
    drafter: str
    stats: EngineStats


def engine_status() -> EngineStatus | None:
    """The engine's status; None if none is running.

    Raises:
        InputError: The runtime folder or the socket is not this user's.
        EngineError: There is an engine, but it does not answer.
    """
    if not is_listening():
        return None
    try:
        with open_http(ANSWER_S) as http:
            body = http.get("/health").json()
        return _parse_status(body)
    except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError):
        return None  # it has just left
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise EngineError(
            f"the engine (pid={lock_holder()!r}) gives no sensible answer "
            f"({type(error).__name__}); stop it with `docflash engine stop --now`"
        ) from error


def start_engine(
    model: str = EMBEDDED_MODEL,
    progress: Callable[[str, float], None] = no_progress,
    wait_s: float = START_S,
) -> EngineStatus:
    """Makes sure that an engine is running and ready.

    Args:
        model: Loaded first if an engine must be started; a running one keeps its own until a
            request asks for another.
        progress: Told what is being done, and the part of it that is done, 0 to 1.
        wait_s: Give up after this long.

    Raises:
        InputError: The model can't be found or loaded.
        EngineError: The engine can't be started.
    """
    name = resolve_model(model, progress).name
    deadline_s = time.monotonic() + wait_s
    with start_lock():
        status = engine_status()
        if status is not None and (status.state == "stopping" or status.build != build()):
            _make_way(status, deadline_s)
            status = None
        if status is None:
            progress("starting the engine", 0.0)
            _spawn(name, deadline_s)
    return _wait_ready(name, progress, deadline_s)


def stop_engine(*, now: bool = False, wait_s: float = STOP_S) -> bool:
    """Stops the engine: it finishes the requests it has begun, or with `now` ends them too.

    Returns:
        False if none was running.

    Raises:
        EngineError: It is still running after `wait_s`.
    """
    pid = lock_holder()
    if pid is None:
        return False
    try:
        with open_http(ANSWER_S) as http:
            http.post("/admin/stop", json={"now": now})
    except httpx.HTTPError:
        pass  # it is leaving, or it hangs: the wait tells
    patience_s = min(wait_s, KILL_AFTER_S) if now else wait_s
    if _wait_gone(time.monotonic() + patience_s):
        return True
    if now and pid and lock_holder() == pid:
        os.kill(pid, signal.SIGKILL)
        if _wait_gone(time.monotonic() + KILL_AFTER_S):
            return True
    raise EngineError(
        f"the engine pid={pid} is still at work after wait_s={wait_s:g}; "
        "wait longer, or end its requests too with `docflash engine stop --now`"
    )


def open_http(timeout_s: float) -> httpx.Client:
    """An HTTP client of the engine; the caller closes it."""
    transport = httpx.HTTPTransport(
        uds=str(socket_path()),
        verify=False,  # no TLS on a unix socket, so no certificates to load
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
    )
    return httpx.Client(
        transport=transport,
        base_url="http://docflash",
        timeout=httpx.Timeout(timeout_s, pool=None),
        trust_env=False,
    )


def _parse_status(body: dict[str, Any]) -> EngineStatus:
    values: dict[str, Any] = {field.name: body[field.name] for field in fields(EngineStatus)}
    stats = {field.name: body["stats"][field.name] for field in fields(EngineStats)}
    if stats["speculation"] is not None:
        stats["speculation"] = parse_speculation(stats["speculation"])
    values["stats"] = EngineStats(**stats)
    return EngineStatus(**values)


def _make_way(status: EngineStatus, deadline_s: float) -> None:
    """Waits for a leaving engine, or asks an idle one that runs other code to leave."""
    if status.state != "stopping":
        if status.in_flight:
            raise EngineError(
                f"the engine pid={status.pid} runs the code of another docflash and is at work; "
                "wait for it, stop it with `docflash engine stop`, or set DOCFLASH_RUNTIME to "
                "a folder of this installation's own"
            )
        stop_engine()
    if not _wait_gone(deadline_s):
        raise EngineError(
            f"the engine pid={status.pid} is stopping, but has not ended in time; "
            "end it with `docflash engine stop --now`"
        )


def _wait_gone(deadline_s: float) -> bool:
    while lock_holder() is not None:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(POLL_S)
    return True


def _spawn(model: str, deadline_s: float) -> None:
    """Starts the process and waits until it answers; the caller holds the start lock."""
    process = _popen(model)
    while engine_status() is None:
        code = process.poll()
        if code:
            raise EngineError(
                f"the engine could not be started (exit={code}): {_last_output()}; "
                f"its log is {str(log_path())!r}"
            )
        if time.monotonic() > deadline_s:
            raise EngineError(
                f"the engine pid={process.pid} does not answer in time; "
                f"its log is {str(log_path())!r}"
            )
        time.sleep(POLL_S)
        if code == 0:  # an engine that was leaving still had the lock
            process = _popen(model)


def _popen(model: str) -> "subprocess.Popen[bytes]":
    path = output_path()
    path.unlink(missing_ok=True)
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.engine.serving.host", "--model", model],
            # This package's own folder, so that a folder of documents can't shadow a module.
            cwd=Path(__file__).parents[3],
            env=os.environ | serving_environment(model),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    finally:
        os.close(output)
    # It outlives us; if it ends before, somebody must take note, or it stays a zombie.
    threading.Thread(target=process.wait, name="engine-reaper", daemon=True).start()
    return process


def _last_output() -> str:
    try:
        lines = output_path().read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        lines = []
    told = [line.strip() for line in lines if line.strip()]
    return told[-1][-QUOTED_CHARS:] if told else "it said nothing"


def _wait_ready(
    model: str, progress: Callable[[str, float], None], deadline_s: float
) -> EngineStatus:
    while True:
        status = engine_status()
        if status is None:
            raise EngineError(
                f"the engine ended while it was starting ({_last_output()}); the machine may "
                f"lack memory for the model={model!r}; its log is {str(log_path())!r}"
            )
        if status.failed_model == model:
            raise InputError(status.failure)
        if status.state != "loading":
            return status
        if time.monotonic() > deadline_s:
            raise EngineError(
                f"the engine pid={status.pid} is still {status.doing or 'loading'}; "
                "try again later, or stop it with `docflash engine stop --now`"
            )
        progress(status.doing, status.progress)
        time.sleep(POLL_S)
