"""Talks to a process that does one job: its orders go in, its progress and its last line come out.

In: a running process that takes JSON on standard input and writes lines, those about progress
marked. Out: the last of the others, which is its verdict.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess

PROGRESS = "progress "
"""Begins a line about progress: JSON of what is being done, and the part that is done, 0 to 1."""


def hand_over(process: "subprocess.Popen[str]", job: dict[str, Any]) -> None:
    """Gives it its job; one that ended at once is told by its missing verdict."""
    if process.stdin:
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(job))
            process.stdin.close()


def follow(process: "subprocess.Popen[str]", progress: Callable[[str, float], None]) -> str:
    """Tells its progress until it ends; gives its last line, or nothing."""
    last = ""
    for line in process.stdout or ():
        if line.startswith(PROGRESS):
            progress(*json.loads(line.removeprefix(PROGRESS)))
        else:
            last = line
    return last
