"""Locks the process that parses a document in: it can't connect, write, or start anything.

In: a process that has opened what it is to read and where it answers. Out: the same, which can do
that and little else, so that a document that takes its parser over gains nothing: no network, no
file to write, no process, no other document to read. Each layer that a system lacks is named by
`confine`, and shown by `docflash doctor`.
"""

import ctypes
import ctypes.util
import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from pipeline.landlock import restrict_files
from pipeline.seccomp import filter_system_calls

_OPEN_FILES = 64
_GRACE_S = 2
_PROBE_S = 30.0

# Of the system: shared libraries, character sets, time zones.
_SYSTEM_FOLDERS = ("/usr/lib", "/lib", "/usr/lib64", "/lib64", "/usr/share", "/etc/ld.so.cache")

# macOS (sandbox(7)): everything that is not named here stays allowed, since a parser may need it.
SEATBELT = """
(version 1)
(allow default)
(deny network*)
(deny file-write*)
(deny process-exec*)
(deny process-fork)
(deny signal)
(deny mach-lookup)
(deny file-read* (subpath "/Users"))
{readable}
"""


def limit_resources(timeout_s: float, memory_bytes: int) -> None:
    """Sets the limits that every system has: memory, processor time, files, processes.

    Args:
        timeout_s: Wall-clock seconds for the document; an alarm of the caller's ends it sooner.
        memory_bytes: The most data that the process may hold.
    """
    seconds = math.ceil(timeout_s) + _GRACE_S
    for what, limit in (
        (resource.RLIMIT_CORE, 0),  # a dump would hold private text
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CPU, seconds),  # whoever ignores the alarm
        (resource.RLIMIT_DATA, memory_bytes),
    ):
        hard = resource.getrlimit(what)[1]
        allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (allowed, allowed))


def confine() -> tuple[str, ...]:
    """Locks this process in, for good.

    Returns:
        What this system does not let us lock, and why; none: all is locked.
    """
    if sys.platform == "linux":
        # In this order: the filter forbids the calls that set up the other.
        return tuple(filter(None, (restrict_files(readable_folders()), filter_system_calls())))
    if sys.platform == "darwin":
        return tuple(filter(None, (_use_seatbelt(),)))
    return (f"nothing is known of locking a process in on {sys.platform}",)


@cache
def readable_folders() -> tuple[str, ...]:
    """Where Python and its packages lie: parsers import some of them late."""
    own = {sys.prefix, sys.base_prefix, sys.exec_prefix, *filter(None, sys.path)}
    return tuple(sorted(own)) + _SYSTEM_FOLDERS


def seatbelt_profile() -> str:
    """The profile for macOS: `SEATBELT` with Python's folders readable again."""
    paths = " ".join(
        f"(subpath {json.dumps(os.path.realpath(path))})" for path in readable_folders()
    )
    return SEATBELT.format(readable=f"(allow file-read* {paths})").strip()


def _use_seatbelt() -> str:
    """As `sandbox-exec -p`, but from inside, since the process is a fork."""
    try:
        library = ctypes.CDLL(ctypes.util.find_library("sandbox") or "/usr/lib/libsandbox.dylib")
        message = ctypes.c_char_p()
        if library.sandbox_init(
            seatbelt_profile().encode(), ctypes.c_uint64(0), ctypes.byref(message)
        ):
            return f"macOS refuses the sandbox profile ({(message.value or b'').decode()})"
    except (OSError, AttributeError) as error:
        return f"macOS has no sandbox_init ({type(error).__name__})"
    return ""


def try_to_escape() -> tuple[str, ...]:
    """What this process can do though a page reader should not; call it after `confine`."""
    attempts: dict[str, Callable[[], object]] = {
        "open a connection": _open_socket,
        "start a process": _start_process,
        "write a file": lambda: os.open("/dev/null", os.O_WRONLY),
        "read a file of the user": lambda: os.listdir(Path.home()),  # noqa: PTH208
        "end a process": lambda: os.kill(os.getppid(), 0),
    }
    return tuple(what for what, attempt in attempts.items() if _works(attempt))


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, MemoryError):
        return False
    return True


def _open_socket() -> None:
    import socket

    socket.socket().close()


def _start_process() -> None:
    if os.fork() == 0:
        os._exit(0)


def find_gaps() -> tuple[str, ...]:
    """What a page reader on this machine could do though it should not, tried out; none is well.

    Raises:
        OSError: No process can be started to try it.
    """
    code = (
        "import socket; from pipeline.confine import confine, limit_resources, try_to_escape; "
        f"limit_resources({_PROBE_S}, 1 << 30); lacks = confine(); "
        "print('\\n'.join((*(f'it can {it}' for it in try_to_escape()), *lacks)))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ("trying it out took too long",)
    if done.returncode:
        return (f"the process that tried it out ended with exit={done.returncode}",)
    return tuple(filter(None, done.stdout.splitlines()))
