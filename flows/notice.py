"""Tells a user's own command that a run had trouble: a mail, a message on the desktop, a sound.

In: how a run ended. Out: the command in DOCFLASH_NOTIFY was run, with counts in its environment: no
file's name and no text of a document. It is the user's own word, given on their command line.
"""

import os
import subprocess
import sys
from dataclasses import dataclass

NOTIFY = "DOCFLASH_NOTIFY"

_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, in counts.

    Attributes:
        run_id: The run; empty if it did not begin.
        state: As in the table `runs`.
        exit_code: What `docflash run` ends with.
        new_failures: Rows of the table `failures` for its folder that were not there before.
    """

    run_id: str
    state: str
    exit_code: int
    jobs_done: int = 0
    jobs_failed: int = 0
    new_failures: int = 0


def tell_failure(outcome: Outcome) -> bool:
    """Runs the user's command if there is one and the run had trouble.

    Returns:
        Whether it was run. That it failed or took too long is said on standard error.
    """
    command = os.environ.get(NOTIFY, "")
    if not command or not outcome.exit_code:
        return False
    told = {
        "DOCFLASH_RUN_ID": outcome.run_id,
        "DOCFLASH_RUN_STATE": outcome.state,
        "DOCFLASH_RUN_EXIT_CODE": str(outcome.exit_code),
        "DOCFLASH_RUN_ANSWERS": str(outcome.jobs_done),
        "DOCFLASH_RUN_ANSWERS_FAILED": str(outcome.jobs_failed),
        "DOCFLASH_RUN_NEW_FAILURES": str(outcome.new_failures),
    }
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")
    }
    try:
        done = subprocess.run(  # noqa: S602 (the user's own words, with pipes if they like)
            command,
            shell=True,
            env=environment | told,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"docflash: the command in {NOTIFY} failed: {type(error).__name__}\n")
    else:
        if done.returncode:
            sys.stderr.write(f"docflash: the command in {NOTIFY} ended with {done.returncode}\n")
    return True
