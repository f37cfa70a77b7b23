"""Keeps the machine awake while a run works: caffeinate on macOS, systemd-inhibit on Linux.

In: nothing. Out: a helper process that keeps it from sleeping, and that ends with this one, however
this one ends. The screen may go dark, and closing a laptop's lid still sends it to sleep.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

_WHY = "docflash answers questions about documents"
_SOON_S = 0.3


@contextmanager
def keep_awake() -> Generator[str]:
    """Keeps the machine awake while the block lasts.

    Yields:
        What does so: "caffeinate" or "systemd-inhibit"; empty if nothing can.
    """
    command = _command()
    process = None if command is None else _start(command)
    try:
        yield "" if command is None or process is None else command[0]
    finally:
        if process is not None:
            process.kill()
            process.communicate()


def _command() -> list[str] | None:
    if sys.platform == "darwin" and shutil.which("caffeinate"):
        return ["caffeinate", "-i", "-w", str(os.getpid())]
    if shutil.which("systemd-inhibit"):
        # `cat` ends when the pipe to it does, and so with this process.
        options = ["--what=sleep:idle", "--who=docflash", f"--why={_WHY}", "--no-ask-password"]
        return ["systemd-inhibit", *options, "cat"]
    return None


def _start(command: list[str]) -> "subprocess.Popen[bytes] | None":
    """The helper, if it is still there after a moment: it ends at once where it is refused."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return None
    try:
        process.wait(timeout=_SOON_S)
    except subprocess.TimeoutExpired:
        return process
    process.communicate()
    return None
