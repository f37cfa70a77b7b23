"""The Prefect server of one run: a child process on a loopback port, which leaves with its parent.

Prefect would start one by itself, but only once it is imported, open to every user of the machine,
and left behind when the run is killed. This one starts while Prefect is still being imported, asks
for a password made for this run, refuses web pages, and ends when its standard input closes,
however the run ended.
"""

import asyncio
import base64
import fcntl
import http.client
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from flows.loopback_only import LoopbackOnly
from pipeline.errors import InputError
from pipeline.few_heaps import ENVIRONMENT as FEW_HEAPS

if TYPE_CHECKING:
    import uvicorn

START_TIMEOUT_S = 120.0  # the first start makes the database: 6 s on two idle cores
STOP_TIMEOUT_S = 5.0
GRACE_S = 4.0

# What only a server that outlives its run has a use for. Who finished which task is still kept.
_LEAN = {
    "PREFECT_UI_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
}


class ApiServer:
    """A running Prefect server; make it with `start_server`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, password: str) -> None:
        self._process = process
        self._port = port
        self._password = password

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Waits until the server answers.

        Raises:
            InputError: It ended, or did not answer in time.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None:
                raise InputError(
                    f"Prefect's server ended at start, exit={self._process.returncode!r}; its log "
                    f"is {str(_log_path())!r}; check the free disk space"
                )
            if time.monotonic() > deadline:
                raise InputError(
                    f"Prefect's server did not answer in timeout_s={START_TIMEOUT_S!r}; its log is "
                    f"{str(_log_path())!r}; try again when the machine is less busy"
                )
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends the server; safe to call twice."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        token = base64.b64encode(self._password.encode()).decode()
        try:
            connection.request("GET", "/api/health", headers={"Authorization": f"Basic {token}"})
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()


def start_server() -> ApiServer:
    """Starts a server for this process and points Prefect's settings at it; does not wait.

    Call it after `prepare_prefect` and before Prefect is imported.
    """
    password = f"docflash:{secrets.token_urlsafe(24)}"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        port = int(listener.getsockname()[1])
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
        os.environ["PREFECT_API_AUTH_STRING"] = password
        with _open_log() as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.api_server", str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno()],
                env={
                    **os.environ,
                    **_LEAN,
                    **FEW_HEAPS,
                    "PREFECT_SERVER_API_AUTH_STRING": password,
                },
                start_new_session=True,  # Ctrl-C is for the run, which still needs its server
            )
    return ApiServer(process, port, password)


@contextmanager
def one_migration_at_a_time() -> Generator[None]:
    """Two first runs at once would both make the database."""
    path = Path(os.environ["PREFECT_HOME"]) / "docflash.lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _open_log() -> BinaryIO:
    return _log_path().open("ab")  # cut by `flows.tidying` when it is long


def _log_path() -> Path:
    return Path(os.environ["PREFECT_HOME"]) / "docflash-server.log"


def _leave_with_parent(server: "uvicorn.Server") -> None:
    """Ends the server when standard input does: what it was told last is still written down."""
    sys.stdin.buffer.read()
    server.should_exit = True
    time.sleep(GRACE_S)
    os._exit(0)


def _serve(listener_fd: int) -> None:
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.server.database import provide_database_interface

    os.umask(0o077)  # the database is made here
    with one_migration_at_a_time():
        asyncio.run(provide_database_interface().create_db())
    with socket.socket(fileno=os.dup(listener_fd)) as listener:
        port = int(listener.getsockname()[1])
    app = LoopbackOnly(create_app(ephemeral=True, final=True), port)
    server = uvicorn.Server(uvicorn.Config(app, fd=listener_fd, log_level="error", lifespan="on"))
    threading.Thread(target=_leave_with_parent, args=(server,), daemon=True).start()
    server.run()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
