"""`docflash eval` and `docflash label` as a user has them: real processes, a tiny model."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.home import Home

pytestmark = pytest.mark.flow


def write_gold(home: Home, **documents: Any) -> Path:
    path = home.folder / "gold.json"
    entries = {f"{name}.txt": {"answers": answers} for name, answers in documents.items()}
    gold = {"version": 1, "folder": "documents", "documents": entries}
    path.write_text(json.dumps(gold), encoding="utf-8")
    return path


def options(home: Home) -> list[str | Path]:
    return ["--prompts", home.prompts, "--out", home.out]


def test_labelled_documents_are_answered_and_scored(home: Home) -> None:
    home.write(a="Ann has signed this.", b="Bob has not.", c="Nobody asks about this one.")
    gold = write_gold(home, a={"quick": {"signed": True}}, b={"quick": {"signed": False}})
    scores = home.folder / "scores.parquet"
    asked = ["eval", gold, *options(home), "--model", home.model, "--json", "--wrong"]
    done = home.docflash(*asked, "--parquet", scores)
    assert done.code == 0, done.err
    assert (done.json["documents"], done.json["unanswered"]) == (2, 0)
    head = next(s for s in done.json["scores"] if s["system"] == "docflash")
    assert head["task"] == "quick"
    assert head["completion_tokens"] > 0
    assert len(done.json["wrong"]) == round(2 * (1 - head["precision"]))
    assert pq.read_table(scores).num_rows == len(done.json["scores"])
    paths = home.rows("SELECT parse_filename(path) AS name FROM files ORDER BY name")
    assert [row["name"] for row in paths] == ["a.txt", "b.txt"]

    before = home.answered()
    again = home.docflash("eval", gold, *options(home), "--no-run", "--json")
    assert again.json["scores"] == done.json["scores"]
    assert home.answered() == before

    labels = home.folder / "labels.json"
    assert home.docflash("label", labels, *options(home), "--task", "quick").code == 0
    refused = home.docflash("eval", labels, *options(home), "--no-run", "--json")
    assert (refused.code, "checked" in refused.error["message"]) == (2, True)
    labels.write_text(labels.read_text().replace('"checked": false', '"checked": true'))
    own = home.docflash("eval", labels, *options(home), "--no-run", "--json").json
    assert next(s for s in own["scores"] if s["system"] == "docflash")["f1"] == 1.0


def test_a_calibration_is_kept_and_later_runs_use_it(home: Home) -> None:
    names = [f"d{number:02}" for number in range(24)]
    home.write(**{name: f"Letter {name} is signed." for name in names})
    truth = {name: {"quick": {"signed": number % 3 > 0}} for number, name in enumerate(names)}
    gold = write_gold(home, **truth)
    asked = ["eval", gold, "--out", home.out, "--model", home.model, "--json"]
    refused = home.docflash(*asked, "--calibrate")
    assert (refused.code, "--prompts" in refused.error["message"]) == (2, True)
    done = home.docflash(*asked, "--prompts", home.prompts, "--calibrate")
    assert done.code == 0, done.err
    row = done.json["reliability"]["rows"][0]
    assert (row["task"], row["kind"], row["values"]) == ("quick", "asked", 24)
    assert row["calibrated"] == 4  # where 5 of the 24 are held out, too few are left
    kept = json.loads((home.prompts / "calibration.json").read_text())["calibrations"]
    assert {one["task"] for one in kept} == {"", "quick"}
    assert home.rows("SELECT DISTINCT confidence FROM evidence") == [{"confidence": None}]

    before = home.answered()
    again = home.docflash(*asked, "--prompts", home.prompts)
    assert again.code == 0, again.err
    assert home.answered() == before
    row = again.json["reliability"]["rows"][0]
    assert row["calibrated"] == 24
    assert row["brier_after"] <= row["brier_before"]
    rows = home.rows("SELECT DISTINCT measured, confidence BETWEEN 0 AND 1 AS ok FROM evidence")
    assert rows == [{"measured": "task", "ok": True}]


def test_a_document_that_fails_counts_as_wrong(home: Home) -> None:
    home.write(a="Ann has signed this.", empty=" ")
    truth = {"quick": {"signed": True}}
    gold = write_gold(home, a=truth, empty=truth)
    done = home.docflash("eval", gold, *options(home), "--model", home.model, "--json")
    assert (done.code, done.json["unanswered"]) == (1, 1)
    head = next(s for s in done.json["scores"] if s["system"] == "docflash")
    assert (head["documents"], head["answered"]) == (2, 1)
    assert head["recall"] <= 0.5
