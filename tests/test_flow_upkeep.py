"""`docflash retry`, `backup` and `vacuum` as users type them."""

from pathlib import Path

import pytest

from tests.home import Home

pytestmark = pytest.mark.flow


def asked(home: Home, out: Path) -> tuple[str | Path, ...]:
    return ("--model", home.model, "--prompts", home.prompts, "--task", "quick", "--out", out)


def test_what_failed_is_tried_again_only_when_asked(home: Home) -> None:
    home.write(a="A letter.", empty="")
    first = home.run("--prompts", home.prompts, "--task", "quick")
    assert (first.code, first.json["documents_read"]) == (1, 2)
    again = home.run("--prompts", home.prompts, "--task", "quick")
    assert (again.code, again.json["documents_read"]) == (1, 0)
    retried = home.docflash("retry", home.documents, *asked(home, home.out), "--json")
    assert (retried.code, retried.json["documents_read"]) == (1, 1)
    assert retried.json["run"]["model_calls"] == 0
    assert home.failures() == {"empty.txt": "empty"}


def test_a_backup_takes_the_place_of_a_library_without_a_model_call(home: Home) -> None:
    home.write(a="A letter.", b="Minutes.")
    assert home.run("--prompts", home.prompts, "--task", "quick").code == 0
    rows = home.rows("SELECT path, signed, job_key FROM quick ORDER BY path")
    assert len(rows) == 2

    copy = home.folder / "copy.duckdb"
    done = home.docflash("backup", copy, "--out", home.out, "--json")
    assert (done.code, done.json["size_bytes"]) == (0, copy.stat().st_size)
    again = home.docflash("backup", copy, "--out", home.out)
    assert (again.code, "MB written to" in again.out) == (0, True)
    cleared = home.docflash("vacuum", "--out", home.out, "--json")
    assert (cleared.code, cleared.json["runs"]) == (0, 0)
    assert "MB given back" in home.docflash("vacuum", "--out", home.out).out
    assert home.rows("SELECT path, signed, job_key FROM quick ORDER BY path") == rows

    restored = home.folder / "restored"
    restored.mkdir()
    copy.rename(restored / "store.duckdb")
    run = home.docflash("run", home.documents, *asked(home, restored), "--json")
    assert (run.code, run.json["documents_read"], run.json["run"]["model_calls"]) == (0, 0, 0)
    found = home.docflash(
        "sql", "SELECT path, signed, job_key FROM quick ORDER BY path", "--json", "--out", restored
    )
    assert found.json == rows
