"""The worker that runs deployments, in the foreground: what `docflash service run worker` is.

It is Prefect's own worker of type process, started with docflash's server (or the user's, if
PREFECT_API_URL names one), once that answers and the runs of a killed worker have been cleared up.
"""

import os
import sys
import time
from datetime import timedelta

from flows.nights.home import POOL, load_home, prefect_home
from flows.nights.locks import hold_role
from flows.nights.probe import is_ready
from flows.prefect_env import quiet_prefect, refuse_remote
from pipeline.errors import EngineError

_WAIT_S = 180.0
_POLL_S = 0.5


def work_nights() -> None:
    """Becomes the worker; doesn't return.

    Raises:
        InputError: There is no server to work for, or it is on another machine.
        EngineError: The server does not answer in time.
        BusyError: docflash's worker is running already.
    """
    quiet_prefect()
    join_server(wait_s=_WAIT_S)
    with hold_role("worker") as lock:
        from flows.nights.reaping import clear_up

        clear_up(settled=timedelta())
        # The lock goes on into the worker, but not into the runs that it starts.
        os.set_inheritable(lock, True)  # noqa: FBT003
        command = ["-P", "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
        os.execv(  # noqa: S606 (the point: the worker keeps this process's id and lock)
            sys.executable, [sys.executable, *command, "--name", POOL]
        )


def join_server(wait_s: float = 0.0) -> bool:
    """Leads Prefect's clients in this process to the lasting server, or the user's own.

    Call it before Prefect is imported.

    Args:
        wait_s: How long to wait for docflash's server.

    Returns:
        Whether there is one: True for the user's own, which isn't asked.

    Raises:
        InputError: The user's server is on another machine.
        EngineError: `wait_s` is given, and docflash's server does not answer.
    """
    api_url = os.environ.get("PREFECT_API_URL", "")
    if api_url:
        refuse_remote(api_url)
        return True
    deadline = time.monotonic() + wait_s
    while (home := load_home()) is None or not is_ready(home):
        if time.monotonic() >= deadline:
            if wait_s:
                raise EngineError(
                    f"docflash's Prefect server does not answer after wait_s={wait_s:g}; start it "
                    "with `docflash service run server`, or see `docflash service status`"
                )
            return False
        time.sleep(_POLL_S)
    os.environ["PREFECT_HOME"] = str(prefect_home())
    os.environ.update(home.environment)
    return True
