"""The engine process: `python -m pipeline.engine.serving.host`. Exactly one per user on a machine.

In: HTTP on a unix socket. It takes the lock, listens, answers until it is stopped or has been idle
for long enough, then removes its socket. A second one leaves at once, quietly.
"""

import argparse
import asyncio
import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from types import FrameType
from typing import Any

import psutil
import uvicorn

from pipeline.engine.interface import CoreOptions
from pipeline.engine.journal import note, note_fault, open_journal
from pipeline.engine.loader import MlxLoader
from pipeline.engine.loading.shipped import drafter_of
from pipeline.engine.machine.blas_threads import blas_threads
from pipeline.engine.serving.calls import CallBounds
from pipeline.engine.serving.endpoint import build, listen, socket_path, take_engine_lock
from pipeline.engine.serving.engine_thread import EngineThread
from pipeline.engine.serving.routes import Routes
from pipeline.errors import InputError, RequestError
from pipeline.settings import EMBEDDED_MODEL

IDLE_S = 600.0
EMPTY_IDLE_S = 30.0
"""An engine that could not load its model has nothing to keep in memory."""
WATCH_S = 0.5
CLOSE_S = 5
KEEP_ALIVE_S = 30
"""Longer than clients keep an idle connection, so that none is closed while they write to it."""
DRAIN_S = 30.0
"""After a signal, started requests may take this long to finish."""
PATIENCE_SIGNALS = 3
"""So many signals end the process whatever it is doing."""
DRAFTER_VARIABLE = "DOCFLASH_DRAFTER"
DEFAULT_ROWS = 16
DEFAULT_KV_MIB = 2048
DEFAULT_WAITING = 256


class _Server(uvicorn.Server):
    """Leaves the signals to the host, which ends the requests first."""

    def __init__(self, config: uvicorn.Config, on_signal: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_signal = on_signal

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Called by uvicorn on SIGINT and SIGTERM."""
        self._on_signal()


class Host:
    """One engine process: its thread, its server, and the reasons to leave.

    Args:
        settings: Parsed by `parse_settings`.
        listener: The socket, already listening.
    """

    def __init__(self, settings: argparse.Namespace, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._inode = _socket_inode()
        self._began_s = time.monotonic()
        self._failed = False
        self._signals = 0
        self._reason = ""
        options = CoreOptions(
            max_rows=settings.rows,
            kv_bytes=settings.kv_mib << 20,
            speculate=not settings.plain,
            drafter=settings.drafter,
        )
        bounds = CallBounds(waiting=settings.waiting, started=2 * settings.rows)
        self._thread = EngineThread(MlxLoader(options), bounds, self._thread_ended)
        routes = Routes(self._thread, self.health, self.stop, self.uptime_s)
        config = uvicorn.Config(
            routes.application(),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=CLOSE_S,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self._server = _Server(config, self._signalled)

    def run(self) -> int:
        """Serves until the end; returns the exit code."""
        note("engine_started", pid=os.getpid(), model=self._settings.model, build=build())
        self._thread.start(self._settings.model)
        asyncio.run(self._serve())
        note("engine_left", pid=os.getpid(), uptime_s=round(self.uptime_s(), 1))
        return int(self._failed)

    def uptime_s(self) -> float:
        """Age of the engine, in seconds."""
        return time.monotonic() - self._began_s

    def health(self) -> dict[str, Any]:
        """The body of GET /health."""
        status = asdict(self._thread.status())
        model = status["model"] or self._settings.model or EMBEDDED_MODEL
        return status | {
            "pid": os.getpid(),
            "build": build(),
            "drafter": drafter_of(model, self._settings.drafter),
            "uptime_s": round(self.uptime_s(), 3),
            "idle_timeout_s": self._settings.idle_timeout,
            "rss_bytes": _rss_bytes(),
        }

    def stop(self, now: bool) -> None:  # noqa: FBT001  called back by the routes
        """Ends the engine: started requests finish first, or with `now` are ended too."""
        self._leave("stopped", "the engine was stopped (`docflash engine stop`)", now=now)

    def _leave(self, kind: str, message: str, *, now: bool = False) -> None:
        if not self._reason or now:
            note("engine_leaving", reason=kind, now=str(now).lower())
        self._reason = self._reason or kind
        self._thread.stop(RequestError(kind, message), now=now)

    def _signalled(self) -> None:
        """A signal: the first lets started requests finish, the second ends them."""
        self._signals += 1
        if self._signals >= PATIENCE_SIGNALS:
            os._exit(1)
        # Not from inside the handler: it may have interrupted the holder of a lock it needs.
        threading.Thread(target=self.stop, args=(self._signals > 1,), daemon=True).start()
        if self._signals == 1:
            late = threading.Timer(DRAIN_S, self.stop, args=(True,))
            late.daemon = True
            late.start()

    def _thread_ended(self, failed: bool) -> None:  # noqa: FBT001  called back by the thread
        self._failed = failed
        if _socket_inode() == self._inode:
            socket_path().unlink(missing_ok=True)
        self._server.should_exit = True

    async def _serve(self) -> None:
        watcher = asyncio.create_task(self._watch())
        await self._server.serve(sockets=[self._listener])
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher

    async def _watch(self) -> None:
        """Leaves after the idle time, or when the socket is gone; gives way to other processes."""
        threads = blas_threads()
        while not self._reason:
            await asyncio.sleep(WATCH_S)
            if threads:
                threads.adjust()
            status = self._thread.status()
            limit_s = self._settings.idle_timeout
            if status.failure and not status.model:
                limit_s = min(limit_s, EMPTY_IDLE_S)
            if status.state == "ready" and status.idle_s > limit_s:
                self._leave("leaving", "the engine is leaving after its idle time; start it again")
            elif _socket_inode() != self._inode:
                self._leave("leaving", "the engine's socket is gone; start the engine again")


def _socket_inode() -> tuple[int, int] | None:
    try:
        found = socket_path().lstat()
    except (OSError, InputError):
        return None
    return found.st_dev, found.st_ino


def _rss_bytes() -> int:
    return psutil.Process().memory_info().rss


def parse_settings(arguments: list[str]) -> argparse.Namespace:
    """The process's command line; the environment gives the defaults."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.engine.serving.host")
    parser.add_argument("--model", help="load this model before any request asks for one")
    parser.add_argument(
        "--idle-timeout",
        type=float,
        default=float(os.environ.get("DOCFLASH_ENGINE_IDLE_S") or IDLE_S),
        help="leave after this many seconds without a request",
    )
    parser.add_argument(
        "--drafter",
        default=os.environ.get(DRAFTER_VARIABLE, ""),
        help="folder of a DFlash drafter for the model, shipped, or none",
    )
    parser.add_argument("--plain", action="store_true", help="draft nothing: one token a step")
    parser.add_argument("--rows", type=int, default=DEFAULT_ROWS, help="most rows decoded at once")
    parser.add_argument("--kv-mib", type=int, default=DEFAULT_KV_MIB, help="keys and values, MiB")
    parser.add_argument(
        "--waiting", type=int, default=DEFAULT_WAITING, help="most waiting requests"
    )
    return parser.parse_args(arguments)


def main() -> int:
    """Runs the engine process; returns its exit code."""
    os.umask(0o077)
    settings = parse_settings(sys.argv[1:])
    lock = take_engine_lock()
    if lock is None:
        return 0
    faulthandler.enable()
    open_journal()
    sys.excepthook = lambda _, error, __: note_fault("process_failed", error)
    threading.excepthook = lambda hook: note_fault(
        "thread_failed", hook.exc_value or hook.exc_type()
    )
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        code = Host(settings, listen()).run()
    except InputError as error:
        sys.exit(str(error))  # the starter reads it
    # Libraries' own threads may still run; nothing is left that an orderly exit would save.
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
