"""A run that the system ends, what is logged of it, and whom a failure is told."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.home import TIMEOUT_S, Home

pytestmark = pytest.mark.flow

DOCUMENTS = 24


def log_of(home: Home, run_id: str) -> list[dict[str, Any]]:
    log = Path(home.environment["DOCFLASH_STATE"]) / "logs" / "runs.jsonl"
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    return [line for line in lines if line["run_id"] == run_id]


def test_sigterm_publishes_what_is_finished_and_a_failure_is_told_once(home: Home) -> None:
    told = home.folder / "told"
    home.write(**{f"d{number}": f"Letter number {number}." for number in range(DOCUMENTS)})
    home.write(empty="")
    command = f'echo "$DOCFLASH_RUN_STATE $DOCFLASH_RUN_NEW_FAILURES" >> "{told}"'
    asked = ("--prompts", home.prompts, "--task", "long", "--notify", command)
    with home.running(*asked) as run:
        home.wait_until_busy(run)
        run.send_signal(signal.SIGTERM)
        run.send_signal(signal.SIGTERM)  # a service's stop may send two
        out, err = run.communicate(timeout=TIMEOUT_S)
    ended = json.loads(out)
    assert (run.returncode, ended["exit_code"], ended["stopped"]) == (143, 143, "by the system"), (
        err
    )
    assert (ended["run"]["state"], ended["run"]["jobs_failed"]) == ("stopped", 0)
    done = ended["run"]["jobs_done"]
    assert 0 < done < DOCUMENTS
    assert len(home.rows("SELECT path FROM long")) == done
    begun, logged = log_of(home, ended["run"]["run_id"])
    assert (begun["event"], logged["event"]) == ("begun", "ended")
    assert (logged["state"], logged["reason"]) == ("stopped", "by the system")
    assert (logged["jobs_done"], logged["failures_by_kind"]) == (done, {"empty": 1})
    assert told.read_text("utf-8") == "stopped 1\n"

    rest = home.run(*asked)
    assert (rest.code, rest.json["run"]["jobs_done"]) == (1, DOCUMENTS - done)
    assert len(home.rows("SELECT path FROM long")) == DOCUMENTS
    assert told.read_text("utf-8") == "stopped 1\n"

    wrong = home.run(*asked, "--task", "nowhere")
    assert wrong.code == 2
    shown = home.docflash("status", "--out", home.out)
    assert "empty" in shown.out
