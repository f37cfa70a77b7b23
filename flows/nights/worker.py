"""The worker that runs deployments, in the foreground: what `docflash service run worker` is.

It is Prefect's own worker of type process, started with docflash's server (or the user's, if
PREFECT_API_URL names one), once that answers and the runs of a killed worker have been cleared up.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil

from flows.nights.home import POOL, load_home, prefect_home
from flows.nights.locks import hold_role
from flows.nights.own_server import use_password
from flows.nights.probe import is_ready
from flows.prefect_env import quiet_prefect, refuse_remote
from pipeline.errors import EngineError

_WAIT_S = 180.0
_POLL_S = 0.5
_RUN_END_S = 150.0
_WORKER_END_S = 15.0


def work_nights() -> None:
    """Is the worker until a signal ends it.

    Raises:
        InputError: There is no server to work for, or it is on another machine.
        EngineError: The server does not answer in time, or the worker ended by itself.
        BusyError: docflash's worker is running already.
    """
    quiet_prefect()
    join_server(wait_s=_WAIT_S)
    with hold_role("worker"):
        # In a process of its own: this one stays, and has no need of Prefect in its memory.
        subprocess.run([sys.executable, "-P", "-m", "flows.nights.reaping"], check=False)
        command = ["-P", "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
        worker = subprocess.Popen(
            [sys.executable, *command, "--name", POOL],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # signals are for this process, which ends it in order
        )
        _watch_over(worker)


def _watch_over(worker: "subprocess.Popen[bytes]") -> None:
    """Waits for a signal, then ends the worker, its runs first: it would kill them outright."""
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: asked.set())
    while not asked.wait(_POLL_S):
        if worker.poll() is not None:
            raise EngineError(
                f"Prefect's worker ended by itself, exit={worker.returncode!r}; its own words are "
                "above; start it again with `docflash service start`"
            )
    worker.send_signal(signal.SIGSTOP)  # so that it begins no other run meanwhile
    _end_runs(worker.pid)
    worker.terminate()
    worker.send_signal(signal.SIGCONT)
    try:
        worker.wait(timeout=_WORKER_END_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def _end_runs(worker_pid: int) -> None:
    """Asks the flow runs of a worker to end, and waits until they have published."""
    try:
        family = psutil.Process(worker_pid).children(recursive=True)
        runs = [one for one in family if "prefect.engine" in one.cmdline()]
    except psutil.Error:
        return
    for run in runs:
        with suppress(psutil.Error):
            run.terminate()
    deadline = time.monotonic() + _RUN_END_S
    while any(_is_at_work(run) for run in runs) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _is_at_work(run: psutil.Process) -> bool:
    try:
        return run.is_running() and run.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


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
        use_password()
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
