"""One owner: the lock that keeps a second run out of a library while the first one lives.

The lock is the operating system's (`flock`), so it goes when its process goes, however it ends.
"""

import fcntl
import os
from pathlib import Path

from pipeline.errors import BusyError, InputError

LOCK_NAME = "store.lock"


def take_lock(out: Path) -> int:
    """Takes the lock of a library.

    Args:
        out: The library's folder; it must exist.

    Returns:
        The open lock file; closing it gives the lock back.

    Raises:
        BusyError: Another process has it.
        InputError: The lock file can't be made.
    """
    path = out / LOCK_NAME
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise InputError(
            f"the lock path={str(path)!r} can't be made ({error.strerror}); "
            "check the folder's permissions and the free disk space"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip()
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise _busy(out, holder) from None
        raise InputError(
            f"the lock path={str(path)!r} can't be taken ({error.strerror}); "
            "choose a folder on a local disk with --out"
        ) from error
    os.fchmod(lock, 0o600)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _busy(out: Path, holder: str) -> BusyError:
    return BusyError(
        f"another run is using out={str(out)!r} (process pid={holder or 'unknown'}); wait until it "
        "is done, stop it, or choose another folder with --out"
    )
