"""The class of a document has a confidence as a field has one: measured, and labelled so."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.calibration import CLASS_FIELD, Calibration, FieldShare, ShareMap, find_share
from pipeline.calibration_file import load_calibrations
from pipeline.evaluation.answers import Found
from pipeline.evaluation.calibrating import fit_calibrations
from pipeline.evaluation.gold import Gold, GoldAnswer, GoldDocument
from pipeline.evaluation.grading import Graded, Sureness, grade_values, load_sureness
from pipeline.parquet import publish
from pipeline.prompts import load_tasks
from tests.library import (
    MODEL,
    READER,
    make_document,
    make_file,
    make_result,
    make_task,
    open_library,
    plan,
)

FINDER = make_task("document_class", "class", classes=("letter", "invoice"))
FIELDS = make_task("bill", "fields")
WIDE = ShareMap(100, 60, steps=((0.0, 0.3), (0.8, 0.7)))
OF_FIELDS = Calibration(MODEL, "", "", FIELDS.form, "x", ShareMap(100, 9, steps=((0.0, 0.09),)))
OF_CLASSES = Calibration(MODEL, "", "", "class", "x", WIDE)
OWN = Calibration(
    MODEL, FINDER.name, FINDER.fingerprint, "class", "x", taken=(FieldShare("class", 40, 38, 0.94),)
)
KNOWN = (OF_FIELDS, OF_CLASSES, OWN)


def published(out: Path, known: tuple[Calibration, ...], **answer: Any) -> dict[str, Any]:
    """The row of a document whose class was found so."""
    with open_library(out, "run1") as store:
        store.documents.save("run1", READER, [(make_file("a.txt"), make_document("Dear Ann"))])
        for job in plan(store, "run1", FINDER).pending:
            store.jobs.finish("run1", job, make_result(job, "letter", **answer))
        snapshot = publish(store, [FINDER], "run1", known)
    [row] = pq.read_table(snapshot / "documents.parquet").to_pylist()
    return row


@pytest.mark.parametrize(
    ("known", "answer", "expected"),
    [
        (KNOWN, {"calls": 0}, (None, 0.94, "task")),  # words told it, no model was asked
        (KNOWN, {"probability": 0.9}, (0.9, 0.7, "model")),
        (KNOWN, {"probability": 0.5}, (0.5, 0.3, "model")),
        ((OF_FIELDS,), {"probability": 0.9}, (0.9, None, None)),  # fields tell nothing of classes
        ((), {"calls": 0}, (None, None, None)),
    ],
)
def test_a_class_is_published_with_what_was_measured(
    tmp_path: Path,
    known: tuple[Calibration, ...],
    answer: dict[str, Any],
    expected: tuple[Any, ...],
) -> None:
    row = published(tmp_path, known, **answer)
    names = ("class_probability", "class_confidence", "class_measured")
    assert tuple(row[name] for name in names) == expected
    share = find_share(known, MODEL, FINDER, CLASS_FIELD, row["class_probability"])
    assert share == row["class_confidence"]


@pytest.mark.parametrize(("truth", "is_right"), [("letter", True), ("invoice", False)])
def test_a_published_class_is_graded(tmp_path: Path, truth: str, is_right: bool) -> None:
    row = published(tmp_path, KNOWN, probability=0.9)
    ids = {"a.txt": row["document_id"]}
    answer = GoldAnswer(FINDER.name, truth)
    gold = Gold(tmp_path, (GoldDocument("a.txt", "", (answer,)),), 0)
    [one] = grade_values(
        gold,
        [FINDER],
        {("a.txt", FINDER.name): Found("letter")},
        load_sureness(tmp_path, ids, [FINDER]),
        ids,
    )
    sure = Sureness(0.9, 0.7, MODEL, FINDER.fingerprint)
    assert one == Graded("a.txt", FINDER.name, CLASS_FIELD, is_right, sure)


def test_classes_and_fields_are_fitted_apart() -> None:
    def graded(task: str, prompt: str, *, right: bool) -> list[Graded]:
        sure = Sureness(0.9, None, MODEL, prompt)
        return [Graded(f"{n}.txt", task, CLASS_FIELD, right, sure) for n in range(30)]

    values = [
        *graded(FINDER.name, FINDER.fingerprint, right=True),
        *graded(FIELDS.name, FIELDS.fingerprint, right=False),
    ]
    fitted = fit_calibrations(values, [FINDER, FIELDS], "x")
    shares = {one.form: one.share(CLASS_FIELD, 0.9) for one in fitted if not one.task}
    of_class, of_field = shares["class"], shares[FIELDS.form]
    assert of_class is not None
    assert of_field is not None
    assert of_field < 0.1
    assert of_class > 0.9


def test_docflashs_own_classes_are_measured_as_they_are() -> None:
    """After a change of that task: `python benchmarks/class_calibration.py`."""
    [task] = [task for task in load_tasks() if task.kind == "class"]
    own = [one for one in load_calibrations() if one.form == "class"]
    assert {one.prompt for one in own} == {"", task.fingerprint}
    for probability in (None, 0.99):
        share = find_share(own, own[0].model, task, CLASS_FIELD, probability)
        assert share is not None
