"""A running read server, as its client sees it: started here, asked here, ended here.

In: an `Order` and an open file. Out: all that came back about it. Used by `pipeline.reader` alone.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

import pipeline
from pipeline.contents import FileBytes
from pipeline.errors import DocflashError
from pipeline.orders import ENDED_FULL, ENDED_KILLED, ENDED_LATE, ENDED_WELL, Order

_GRACE_S = 10.0
_START_S = 60.0
_RECEIVE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """All that came back about a document: whose bytes, its contents, and how its reader ended."""

    file: FileBytes | None
    contents: bytes
    end: bytes

    def contents_of(self, sha256: str) -> bytes:
        """Its contents; none if the bytes that were read are not these, the file has changed."""
        return self.contents if self.file is not None and self.file.sha256 == sha256 else b""


class Server:
    """A running read server, as its client sees it."""

    def __init__(self) -> None:
        """Starts it; it loads the parsers while the caller goes on."""
        self._lock = threading.Lock()
        self._control, other = socket.socketpair()
        # The server finds the modules where this process did, but never in the current folder.
        package = str(Path(pipeline.__file__).parent.parent)
        path = [package, *(folder for folder in sys.path if folder not in {"", package})]
        code = (
            f"import sys; sys.path[:] = {path!r}; "
            f"from pipeline.readserver import serve; serve({other.fileno()})"
        )
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],
                pass_fds=(other.fileno(),),
                # Nothing it might say of a document may be seen.
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # On macOS a fork without exec is refused after some frameworks were loaded.
                env=os.environ | {"OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES"},
            )
        except OSError as error:
            self._control.close()
            raise DocflashError(
                f"the read server can't be started ({error.strerror}); "
                "check the free memory and the limit of processes"
            ) from error
        finally:
            other.close()
        self._control.settimeout(_START_S)

    def is_running(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def close(self) -> None:
        """Ends it; its children end with it."""
        self._control.close()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, order: Order, file_fd: int) -> Answer:
        """Has one document read, and waits for it."""
        data, data_out = socket.socketpair()
        status, status_out = socket.socketpair()
        with data, status:
            try:
                with data_out, status_out:
                    self._send(order, [file_fd, data_out.fileno(), status_out.fileno()])
                return _receive(data, status, order.timeout_s + _GRACE_S, order.memory_bytes)
            except OSError:
                self._process.kill()
                self._process.wait()
                return Answer(None, b"", ENDED_KILLED)

    def _send(self, order: Order, fds: list[int]) -> None:
        """One order at a time: the server answers with a byte when the child is on its way."""
        with self._lock:
            message = json.dumps(asdict(order)).encode() + b"\n"
            sent = socket.send_fds(self._control, [message], fds)
            self._control.sendall(message[sent:])
            if not self._control.recv(1):
                raise ConnectionResetError


def _receive(
    data: socket.socket, status: socket.socket, timeout_s: float, most_bytes: int
) -> Answer:
    """An answer; it has what its maker could hold, unless a document has taken that over."""
    data.settimeout(timeout_s)
    status.settimeout(_GRACE_S)
    pieces: list[bytes] = []
    left = most_bytes
    try:
        while piece := data.recv(_RECEIVE_BYTES):
            left -= len(piece)
            if left < 0:
                return Answer(None, b"", ENDED_FULL)
            pieces.append(piece)
    except TimeoutError:
        # The child's alarm did not end it: it, or the server, is stopped.
        return Answer(None, b"", ENDED_LATE)
    head, _, contents = b"".join(pieces).partition(b"\n")
    try:
        file = FileBytes(**json.loads(head))
    except (ValueError, TypeError, RecursionError):
        file, contents = None, b""  # it ended before it had read the bytes
    if contents.endswith(b"\n"):
        return Answer(file, contents, ENDED_WELL)
    # Cut off: the server says why, or is gone itself.
    return Answer(file, b"", status.recv(1) or ENDED_KILLED)
