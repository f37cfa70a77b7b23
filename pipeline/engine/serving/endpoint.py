"""Where the engine is reached: its socket and lock, and the checks that they are this user's."""

import contextlib
import fcntl
import hashlib
import os
import socket
import stat
from collections.abc import Generator
from functools import cache
from pathlib import Path

from pipeline.errors import InputError
from pipeline.settings import runtime_folder

SOCKET_NAME = "engine.sock"
LOCK_NAME = "engine.lock"
START_LOCK_NAME = "engine-start.lock"
LONGEST_SOCKET_PATH = 103
"""In bytes; what macOS takes, Linux takes 107."""
BACKLOG = 512


def socket_path() -> Path:
    """The engine's socket.

    Raises:
        InputError: The runtime folder is not this user's, or its path is too long for a socket.
    """
    path = runtime_folder() / SOCKET_NAME
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise InputError(
            f"the socket's path={str(path)!r} is over {LONGEST_SOCKET_PATH} bytes, more than the "
            "system takes; set DOCFLASH_RUNTIME to a folder with a shorter path"
        )
    return path


def check_socket(path: Path) -> bool:
    """Whether there is a socket, of this user.

    Raises:
        InputError: There is something else, or another user's.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if found.st_uid != os.getuid() or not stat.S_ISSOCK(found.st_mode):
        raise InputError(
            f"the engine's path={str(path)!r} is not a socket of this user; remove it, or set "
            "DOCFLASH_RUNTIME to a folder of your own"
        )
    return True


def is_listening() -> bool:
    """Whether somebody listens on this user's socket.

    Raises:
        InputError: As for `socket_path` and `check_socket`.
    """
    path = socket_path()
    if not check_socket(path):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:  # left behind by an engine that was killed
            return False
    return True


def take_engine_lock() -> int | None:
    """Takes the lock that makes the engine the only one, until this process ends.

    Returns:
        The lock's open file, which holds this process's id; None if another engine has it.
    """
    lock = os.open(runtime_folder() / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def lock_holder() -> int | None:
    """The id of the process that holds the engine's lock, if one does."""
    try:
        with (runtime_folder() / LOCK_NAME).open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = lock.read().strip()
                return int(text) if text.isdigit() else 0
    except FileNotFoundError:
        pass
    return None


@contextlib.contextmanager
def start_lock() -> Generator[None]:
    """Held while an engine is being started, so that starters come one at a time."""
    lock = os.open(runtime_folder() / START_LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def listen() -> socket.socket:
    """The engine's listening socket; for the holder of the engine's lock only.

    Raises:
        InputError: The path can't be used.
    """
    path = socket_path()
    if check_socket(path):
        path.unlink()  # of an engine that was killed: its lock is ours
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        raise InputError(
            f"the engine can't listen on path={str(path)!r} ({error.strerror}); "
            "set DOCFLASH_RUNTIME to a folder on a local disk"
        ) from error
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener


@cache
def build() -> str:
    """A hash of the engine's own code: a process started before an update has another."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for file in sorted([*root.rglob("*.py"), *root.rglob("*.cuh")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
