"""The log of runs and the user's own command: numbers and kinds, nothing of a document."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.notice import NOTIFY, Outcome, tell_failure
from flows.run_log import RunLog, log_path
from pipeline.progress import Counts
from pipeline.records import Failure, RunSummary

CANARY = "Zebrafink-4711"


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCFLASH_STATE", str(tmp_path / "state"))
    monkeypatch.delenv(NOTIFY, raising=False)


def summary(run_id: str, state: str = "done") -> RunSummary:
    start = datetime(2026, 11, 1, 2, tzinfo=UTC)
    end = datetime(2026, 11, 1, 2, 1, tzinfo=UTC)
    return RunSummary(run_id, "/papers", start, end, state, "m", "f", tasks=("summary",))  # type: ignore[arg-type]


def test_a_line_for_each_event_and_no_names() -> None:
    log = RunLog("r1")
    log.begin(summary("r1"))
    failures = [Failure("encrypted", f"{CANARY}.pdf", f"{CANARY}.pdf"), Failure("empty", "", "b")]
    counts = Counts(files=3, jobs_done=2, jobs_failed=1)
    log.end(summary("r1", "stopped"), counts, failures, f"engine: {CANARY} failed")
    log.close()
    text = log_path().read_text("utf-8")
    assert CANARY not in text
    begun, ended = map(json.loads, text.splitlines())
    assert (begun["event"], begun["run_id"], begun["folder"]) == ("begun", "r1", "/papers")
    assert (ended["event"], ended["state"], ended["reason"]) == ("ended", "stopped", "engine")
    assert (ended["files"], ended["seconds"], ended["level"]) == (3, 60.0, "warning")
    assert ended["failures_by_kind"] == {"encrypted": 1, "empty": 1}


def test_it_is_private_and_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.run_log._BYTES", 2000)
    for number in range(100):
        log = RunLog(f"r{number}")
        log.begin(summary(f"r{number}"))
        log.close()
    files = sorted(log_path().parent.iterdir())
    assert [file.suffix for file in files] == [".jsonl", ".1", ".2", ".3", ".4", ".5"]
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert all(file.stat().st_size <= 2000 for file in files)
    assert log_path().parent.stat().st_mode & 0o777 == 0o700
    assert json.loads(log_path().read_text("utf-8").splitlines()[-1])["run_id"] == "r99"


def test_the_users_command_finds_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = tmp_path / "told"
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "secret")
    monkeypatch.setenv(NOTIFY, f"env | grep -E '^(DOCFLASH_RUN_|PREFECT)' | sort > '{place}'")
    assert not tell_failure(Outcome("r1", "done", 0, 5))
    assert not place.exists()
    assert tell_failure(Outcome("r1", "done", 1, 5, 2, 3))
    assert place.read_text("utf-8").splitlines() == [
        "DOCFLASH_RUN_ANSWERS=5",
        "DOCFLASH_RUN_ANSWERS_FAILED=2",
        "DOCFLASH_RUN_EXIT_CODE=1",
        "DOCFLASH_RUN_ID=r1",
        "DOCFLASH_RUN_NEW_FAILURES=3",
        "DOCFLASH_RUN_STATE=done",
    ]


def test_a_command_that_fails_is_told_and_harms_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(NOTIFY, "echo loud; exit 7")
    assert tell_failure(Outcome("", "failed", 2))
    assert capfd.readouterr() == ("", f"docflash: the command in {NOTIFY} ended with 7\n")
    monkeypatch.setenv(NOTIFY, "sleep 60")
    monkeypatch.setattr("flows.notice._TIMEOUT_S", 0.1)
    assert tell_failure(Outcome("", "failed", 2))
    assert "TimeoutExpired" in capfd.readouterr().err
