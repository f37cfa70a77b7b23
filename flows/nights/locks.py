"""One server, one worker: a lock each, held by the process that is it, with its pid inside.

The lock is the operating system's (`flock`), so it goes when its process goes, however it ends.
"""

import fcntl
import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Literal

from flows.nights.home import prefect_home
from pipeline.errors import BusyError

Role = Literal["server", "worker"]
ROLES: tuple[Role, ...] = ("server", "worker")

_POLL_S = 0.05
_TRIES = 5


@contextmanager
def hold_role(role: Role) -> Generator[int]:
    """Is the server, or the worker, while the block lasts; gives the lock's file descriptor.

    Raises:
        BusyError: Another process is it.
    """
    lock = _open(role)
    try:
        if not _take(lock):
            raise BusyError(
                f"docflash's {role} is running already (process pid={_pid(lock)!r}); end it with "
                "`docflash service stop`"
            )
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield lock
    finally:
        os.close(lock)


def _take(lock: int) -> bool:
    """Whether the lock is ours now; who only looks at it has it for a moment, too."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_POLL_S)
        else:
            return True
    return False


def role_pid(role: Role) -> int | None:
    """The process that is the server, or the worker; None if there is none."""
    lock = _open(role)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid(lock)
    finally:
        os.close(lock)
    return None


def end_role(role: Role, wait_s: float) -> bool:
    """Asks the server, or the worker, to end, and waits.

    Returns:
        Whether it has ended, or was not there.
    """
    pid = role_pid(role)
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + wait_s
    while role_pid(role) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _open(role: Role) -> int:
    path = prefect_home() / f"docflash-{role}.lock"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _pid(lock: int) -> int:
    text = os.pread(lock, 32, 0).decode(errors="replace").strip()
    return int(text) if text.isdecimal() else 0
