"""The main job as users run it: what is done once is not done again, what changed is."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.home import QUICK, Home

pytestmark = pytest.mark.flow

CANARY = "Zebrafink-4711"


def test_what_is_done_is_not_done_again_and_what_changed_is(home: Home) -> None:
    home.write(a="A letter of the board.", b="Minutes of the board.")
    home.write_task("other", QUICK.replace("signed", "dated"))
    asked = ("--prompts", home.prompts, "--task", "quick", "--task", "other")

    first = home.run(*asked)
    assert (first.code, first.json["documents_read"]) == (0, 2)
    assert (first.json["run"]["jobs_done"], first.json["run"]["model_calls"]) == (4, 4)

    answered = home.answered()
    second = home.run(*asked)
    assert (second.code, second.json["documents_read"]) == (0, 0)
    assert (second.json["run"]["jobs_planned"], second.json["run"]["model_calls"]) == (0, 0)
    assert home.answered() == answered

    home.write_task("quick", QUICK.replace("document above", "text above"))
    third = home.run(*asked)
    assert (third.code, third.json["run"]["jobs_done"]) == (0, 2)

    (home.documents / "a.txt").unlink()
    home.write(c="A new one.")
    fourth = home.run(*asked)
    assert (fourth.json["run"]["files"], fourth.json["run"]["jobs_done"]) == (2, 2)
    names = home.rows("SELECT DISTINCT parse_filename(path) AS name FROM quick ORDER BY ALL")
    assert [row["name"] for row in names] == ["b.txt", "c.txt"]


def test_each_task_gets_its_documents_and_task_forces(home: Home) -> None:
    home.write(a="An invoice of 12 euros.", b="Minutes of the board.")
    done = home.run()
    # What a tiny random model writes may be no text, or have no end; that is recorded.
    assert done.code == (1 if done.json["failures"] else 0)
    classes = home.rows("SELECT class, class_probability AS p FROM documents")
    assert all(row["class"] for row in classes)
    # Of the words that tell a class there are enough in the minutes only if "board" were one.
    assert all(row["p"] is None or 0 < row["p"] <= 1 for row in classes)
    of_class = sum(row["class"] == "invoice" for row in classes)
    assert len(home.rows("FROM invoice")) == of_class
    assert home.rows("SELECT count(*) AS n FROM jobs WHERE task = 'summary'") == [{"n": 2}]

    forced = home.run("--task", "invoice")
    assert forced.json["run"]["tasks"] == ["invoice"]
    assert forced.json["run"]["jobs_done"] == 2 - of_class
    assert forced.json["failures"] == done.json["failures"]
    assert len(home.rows("FROM invoice")) == 2


_CLOCK_JUMPS = """
from datetime import datetime, timedelta
import pipeline.progress as progress

class Clock(datetime):
    ahead = timedelta()

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + cls.ahead

def add_result(self, result):
    add(self, result)
    if self.counts.jobs_done == {answers}:
        Clock.ahead = timedelta(days=1)

add, progress.Progress.add_result = progress.Progress.add_result, add_result
progress.datetime = Clock
"""


def test_it_stops_when_the_clock_says_so_and_the_next_run_goes_on(home: Home) -> None:
    home.write(**{f"d{number}": f"Letter {number}." for number in range(20)})
    asked = ("--prompts", home.prompts, "--task", "long")
    stopped = home.run(*asked, "--until", "07:00", before=_CLOCK_JUMPS.format(answers=3))
    assert (stopped.code, stopped.json["stopped"]) == (3, "it is 07:00")
    assert (stopped.json["run"]["state"], stopped.json["run"]["jobs_failed"]) == ("stopped", 0)
    done = stopped.json["run"]["jobs_done"]
    assert 3 <= done < 20
    assert len(home.rows("SELECT path FROM long")) == done

    rest = home.run(*asked)
    assert (rest.code, rest.json["run"]["jobs_done"]) == (0, 20 - done)
    assert len(home.rows("SELECT path FROM long")) == 20


def test_a_clock_that_strikes_after_the_last_answer_stops_nothing(home: Home) -> None:
    home.write(a="A letter.")
    asked = ("--prompts", home.prompts, "--task", "quick", "--until", "07:00")
    done = home.run(
        *asked,
        before=_CLOCK_JUMPS.format(answers=99)
        + """
import pipeline.folder_run as f
f.FolderRun.list_failures = lambda self, of=f.FolderRun.list_failures: (
    self.summary.state == "done" and setattr(Clock, "ahead", timedelta(days=1)),
    self.progress.is_stopping(), of(self))[-1]
""",
    )
    assert (done.code, done.json["stopped"], done.json["run"]["state"]) == (0, "", "done")


def test_people_read_plain_lines_and_prefect_reads_no_text(home: Home, tmp_path: Path) -> None:
    state = tmp_path / "state"
    names = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME")
    own = {name: value for name, value in home.environment.items() if name not in names}
    alone = Home(home.folder, home.model, own | {"DOCFLASH_STATE": str(state)})
    alone.write(a=f"The secret word is {CANARY}.")
    (alone.documents / "link.txt").symlink_to(alone.documents / "a.txt")
    done = alone.docflash(
        *("run", alone.documents, "--model", alone.model, "--out", alone.out),
        *("--prompts", alone.prompts, "--task", "quick"),
    )
    assert (done.code, done.out) == (0, "")
    lines = done.err.splitlines()
    assert lines[0] == "starting"
    assert lines[-3].startswith("1 files, 1 of them read; 1 answers in 1 model calls; ")
    assert lines[-2] == "passed over: symbolic links (see --symlinks): 1"
    assert lines[-1] == f"tables: {alone.out / 'latest'}"
    assert CANARY in alone.rows("SELECT text FROM pages")[0]["text"]
    files = [path for path in state.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


def test_prefect_shows_the_run_its_tasks_and_what_failed(home: Home) -> None:
    home.write(a=f"The secret word is {CANARY}.", empty="")
    done = home.run("--prompts", home.prompts, "--task", "quick")
    assert done.code == 1
    run_id = done.json["run"]["run_id"]

    found = _ask_prefect(home, "artifacts/filter", sort="CREATED_DESC", limit=2)
    text = {artifact["key"]: str(artifact["data"]) for artifact in found}
    assert f"# Run {run_id}" in text["docflash-run"]
    assert "| answers | 1 |" in text["docflash-run"]
    assert "empty.txt" in text["docflash-failures"]
    assert "## [Failures](/artifacts/key/docflash-failures)" in text["docflash-run"]
    assert "| 1 | empty | reading |" in text["docflash-run"]
    flow_run = _ask_prefect(home, "flow_runs/filter", sort="START_TIME_DESC", limit=1)[0]
    assert (flow_run["state_name"], flow_run["parameters"]["folder"]) == (
        "Completed",
        str(home.documents),
    )
    runs = {"flow_runs": {"id": {"any_": [flow_run["id"]]}}}
    names = {task["name"] for task in _ask_prefect(home, "task_runs/filter", **runs)}
    assert "extract a.txt" in names
    database = Path(home.environment["PREFECT_HOME"])
    assert not [
        path
        for path in database.rglob("*")
        if path.is_file() and CANARY.encode() in path.read_bytes()
    ]


def _ask_prefect(home: Home, path: str, **body: object) -> list[dict[str, Any]]:
    user, _, password = home.environment["PREFECT_API_AUTH_STRING"].partition(":")
    url = f"{home.environment['PREFECT_API_URL']}/{path}"
    response = httpx.post(url, json=body, auth=(user, password), timeout=120)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()
    return found
