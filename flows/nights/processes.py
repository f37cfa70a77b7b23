"""Starts and ends the lasting server and the worker, as the system's services or plain processes.

In: a role. Out: its process, which outlives the command. With `docflash service install` they are
the system's to start; without, they run until the machine is shut down.
"""

import os
import subprocess
import sys
import time
from typing import BinaryIO

from flows.nights import service_control
from flows.nights.home import NightHome, make_home, prefect_home
from flows.nights.locks import Role, end_role, role_pid
from flows.nights.probe import describe_port, installed_version, is_ready, probe
from flows.prefect_env import quiet_prefect
from pipeline.errors import EngineError, InputError

START_TIMEOUT_S = 180.0  # the first start makes the database
END_TIMEOUT_S = 180.0  # a run that is at work publishes
_POLL_S = 0.1


def ensure_server(port: int | None = None) -> str:
    """Has the lasting server run, and answers what was done: "running" or "started".

    Raises:
        InputError: Its port is taken by something else; the message says by what.
        EngineError: It does not answer in time.
    """
    quiet_prefect()
    _end_outdated(port)
    home = make_home(port)
    if is_ready(home):
        return "running"
    wrong = describe_port(home)
    if wrong:
        raise InputError(wrong)
    return _start("server", home)


def ensure_worker() -> str:
    """Has the worker run: "running" or "started"."""
    return "running" if role_pid("worker") is not None else _start("worker", None)


def log_file(role: Role) -> str:
    """Where a role's process writes what it has to say, if it is no service of the system."""
    return str(prefect_home() / f"docflash-{role}.log")


def _end_outdated(port: int | None) -> None:
    """Ends a server of docflash's that runs another Prefect, or must move to another port."""
    if role_pid("server") is None:
        return
    before = make_home()
    answer = probe(before)
    is_other = answer is not None and answer.is_ours and answer.version != installed_version()
    moves = port is not None and port != before.port
    if not is_other and not moves:
        return
    for role in ("worker", "server"):
        if not end_role(role, END_TIMEOUT_S):
            raise EngineError(
                f"docflash's {role} pid={role_pid(role)} is to be started anew, and has not ended "
                f"in {END_TIMEOUT_S:g} s: a run may be at work; try again when it is done"
            )


def _start(role: Role, home: NightHome | None) -> str:
    """Starts a role's process and waits until it is there."""
    if not service_control.start(role):
        with _open_log(role) as log:
            process = subprocess.Popen(
                # -P: the current folder must not shadow docflash's own modules.
                [sys.executable, "-P", "-m", "flows.cli", "service", "run", role],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | ({} if home is None else home.environment),
            )
        _wait(role, home, process)
    else:
        _wait(role, home, None)
    return "started"


def _wait(role: Role, home: NightHome | None, process: "subprocess.Popen[bytes] | None") -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not (role_pid(role) is not None if home is None else is_ready(home)):
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > deadline:
            what = (
                f"ended at start, exit={process.returncode!r}"
                if ended and process
                else (f"is not there after timeout_s={START_TIMEOUT_S:g}")
            )
            raise EngineError(
                f"docflash's {role} {what}: {_last_line(role) or 'it said nothing'}; see "
                f"`docflash service status` and its log {log_file(role)!r}"
            )
        time.sleep(_POLL_S)


def _open_log(role: Role) -> BinaryIO:
    # To append, since a run may cut it meanwhile (`flows.tidying`).
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.fdopen(os.open(log_file(role), flags, 0o600), "ab")


def _last_line(role: Role) -> str:
    try:
        with open(log_file(role), encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            lines = [line.strip() for line in file.read().splitlines() if line.strip()]
    except OSError:
        return ""
    return lines[-1][:400] if lines else ""
