"""Runs that don't get to their end: nothing is lost, it is said why, and the next run goes on."""

import json
import os
import signal
from subprocess import Popen
from typing import Any

import pytest

from tests.home import TIMEOUT_S, Home

pytestmark = pytest.mark.flow

DOCUMENTS = 24


@pytest.fixture
def asked(home: Home) -> tuple[Any, ...]:
    """The options of a run that takes some seconds."""
    home.write(**{f"d{number}": f"Letter number {number}." for number in range(DOCUMENTS)})
    return ("--prompts", home.prompts, "--task", "long")


def _end_of(process: Popen[bytes]) -> Any:
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert out, err.decode()
    return json.loads(out)


def _goes_on(home: Home, asked: tuple[Any, ...], done: int) -> None:
    """The next run does what is left, and all is there."""
    assert len(home.rows("SELECT path FROM long")) == done
    rest = home.run(*asked)
    assert (rest.code, rest.json["run"]["jobs_done"]) == (0, DOCUMENTS - done)
    assert len(home.rows("SELECT path FROM long")) == DOCUMENTS


def test_ctrl_c_publishes_what_is_finished(home: Home, asked: tuple[Any, ...]) -> None:
    with home.running(*asked) as run:
        home.wait_until_busy(run)
        run.send_signal(signal.SIGINT)
        ended = _end_of(run)
    assert (run.returncode, ended["exit_code"], ended["stopped"]) == (130, 130, "by you")
    assert (ended["run"]["state"], ended["run"]["jobs_failed"]) == ("stopped", 0)
    _goes_on(home, asked, ended["run"]["jobs_done"])


def test_a_second_ctrl_c_does_not_wait(home: Home, asked: tuple[Any, ...]) -> None:
    with home.running(*asked) as run:
        home.wait_until_busy(run)
        run.send_signal(signal.SIGINT)
        run.send_signal(signal.SIGINT)
        ended = _end_of(run)
    assert run.returncode == 130
    assert ended.get("stopped", "by you") == "by you"
    rest = home.run(*asked)
    assert rest.code == 0
    assert len(home.rows("SELECT path FROM long")) == DOCUMENTS


def test_a_run_that_is_killed_is_gone_on_with(home: Home, asked: tuple[Any, ...]) -> None:
    with home.running(*asked) as run:
        home.wait_until_busy(run)
    rest = home.run(*asked)
    assert rest.code == 0
    assert 0 < rest.json["run"]["jobs_done"] <= DOCUMENTS
    assert len(home.rows("SELECT path FROM long")) == DOCUMENTS
    states = home.rows("SELECT state FROM runs ORDER BY started_at")
    assert [row["state"] for row in states] == ["stopped", "done"]


def test_a_second_run_is_told_to_wait(home: Home, asked: tuple[Any, ...]) -> None:
    with home.running(*asked) as run:
        home.wait_until_busy(run)
        run.send_signal(signal.SIGSTOP)  # or it might be done before the second one looks
        second = home.run(*asked)
        run.send_signal(signal.SIGCONT)
        first = _end_of(run)
    assert (second.code, second.error["kind"]) == (2, "BusyError")
    assert f"another run is using out='{home.out}'" in second.error["message"]
    assert f"pid={run.pid}" in second.error["message"]
    assert (run.returncode, first["run"]["jobs_done"]) == (0, DOCUMENTS)


def test_a_killed_engine_is_started_again(home: Home, asked: tuple[Any, ...]) -> None:
    with home.running(*asked) as run:
        os.kill(home.wait_until_busy(run), signal.SIGKILL)
        ended = _end_of(run)
    assert (run.returncode, ended["run"]["jobs_done"]) == (0, DOCUMENTS)
    assert len(home.rows("SELECT path FROM long")) == DOCUMENTS


def test_an_engine_that_is_stopped_stops_the_run(home: Home, asked: tuple[Any, ...]) -> None:
    with home.running(*asked) as run:
        home.wait_until_busy(run)
        assert home.ask_engine("POST", "/admin/stop", now=True)
        ended = _end_of(run)
    assert (run.returncode, ended["error"]["exit_code"]) == (3, 3)
    assert ended["error"]["kind"] == "EngineStoppedError"
    assert "run again to go on" in ended["error"]["message"]
    done = len(home.rows("SELECT path FROM long"))
    assert 0 < done < DOCUMENTS
    _goes_on(home, asked, done)


_FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, resource.RLIM_INFINITY))
"""


@pytest.mark.parametrize("size", [4_000, 400_000])
def test_a_full_disk_is_told_and_the_next_run_goes_on(home: Home, size: int) -> None:
    home.write(a="A letter.", b=os.urandom(400_000).hex())
    asked = ("--prompts", home.prompts, "--task", "quick")
    full = home.run(*asked, before=_FULL_DISK.format(size=size))
    assert (full.code, full.error["kind"]) == (2, "InputError")
    assert "free disk space" in full.error["message"]
    home.write(b="Shorter.")
    done = home.run(*asked)
    assert done.code == 0, done.out
    assert len(home.rows("FROM quick")) == 2
