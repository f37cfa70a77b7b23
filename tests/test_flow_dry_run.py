"""`--dry-run` says what the next run will do, changes nothing; files that move cost no model."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.home import QUICK, Home

pytestmark = pytest.mark.flow


def state_of(home: Home) -> dict[str, tuple[int, bytes]]:
    """All files of the library, with their times; but for the lock, which who looks takes, too."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in home.out.rglob("*")
        if path.is_file() and path.name != "store.lock"
    }


def ask(home: Home, *asked: str | Path) -> Any:
    """The forecast; and that nothing was changed, nor the engine asked."""
    before, answered = state_of(home), home.answered()
    done = home.run(*asked, "--dry-run")
    assert done.code == 0, done.out + done.err
    assert (state_of(home), home.answered()) == (before, answered)
    found = done.json
    found["changes"] = {name: number for name, number in found["changes"].items() if number}
    return found


def names_of(home: Home, table: str = "quick") -> list[str]:
    rows = home.rows(f"SELECT parse_filename(path) AS name FROM {table} ORDER BY ALL")  # noqa: S608
    return [row["name"] for row in rows]


def test_what_is_forecast_is_done(home: Home) -> None:
    asked = ("--prompts", home.prompts, "--task", "quick")
    texts = {name: f"Letter {name}." for name in ("kept", "edited", "moved", "copied", "deleted")}
    home.write(**texts, empty="")
    found = ask(home, *asked)
    assert not home.out.exists()
    assert (found["files"], found["changes"]) == (6, {"new": 6})
    assert (found["calls"], found["seconds"]) == (6, None)
    first = home.run(*asked)
    assert first.json["run"]["jobs_done"] == 5

    found = ask(home, *asked)
    assert found["changes"] == {"unchanged": 6}
    assert (found["jobs"], found["calls"], found["seconds"]) == ({}, 0, 0.0)

    home.write(edited="Another letter.", new="A new letter.", twin="A new letter.")
    (home.documents / "moved.txt").rename(home.documents / "renamed.txt")
    shutil.copy2(home.documents / "copied.txt", home.documents / "copy.txt")
    (home.documents / "deleted.txt").unlink()
    found = ask(home, *asked)
    expected = {"unchanged": 3, "new": 2, "changed": 1, "moved": 1, "copied": 1, "deleted": 1}
    assert found["changes"] == expected
    assert found["jobs"] == {"quick": 2}
    assert found["seconds"] > 0
    done = home.run(*asked)
    assert (done.json["run"]["jobs_done"], done.json["run"]["model_calls"]) == (2, 2)
    assert names_of(home, "files") == [
        *("copied.txt", "copy.txt", "edited.txt", "empty.txt"),
        *("kept.txt", "new.txt", "renamed.txt", "twin.txt"),
    ]
    assert "deleted.txt" not in names_of(home)

    home.write(deleted=texts["deleted"])
    found = ask(home, *asked)
    assert (found["changes"], found["jobs"]) == ({"unchanged": 8, "back": 1}, {})
    home.write_task("quick", QUICK.replace("document above", "text above"))
    assert ask(home, *asked)["jobs"] == {"quick": 6}  # the twins and the copies are asked once
    home.write_task("quick")
    back = home.run(*asked)
    assert (back.json["run"]["jobs_done"], back.json["run"]["model_calls"]) == (0, 0)
    assert "deleted.txt" in names_of(home)

    shown = home.docflash(
        *("run", home.documents, "--out", home.out, "--model", home.model, *asked, "--dry-run")
    )
    assert (shown.code, "no answer is to be asked for" in shown.err) == (0, True)
