"""Calibrations: fitted, kept, and applied alike by Python and by the published tables."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.calibration import Calibration, FieldOffset, FieldShare, ShareMap, find_share
from pipeline.calibration_file import (
    FILE_NAME,
    load_calibrations,
    read_calibrations,
    write_calibrations,
)
from pipeline.calibration_fit import (
    LEAST_TAKEN,
    LEAST_VALUES,
    MANY_VALUES,
    STEP_VALUES,
    fit_map,
    fit_offsets,
    fit_shares,
)
from pipeline.errors import InputError
from pipeline.evaluation.calibrating import fit_calibrations, hold_out, measure_reliability
from pipeline.evaluation.grading import Graded, Sureness
from pipeline.evaluation.reliability import bin_values, brier_score, calibration_error
from pipeline.evidence import Evidence
from pipeline.parquet import publish
from pipeline.prompts import load_tasks
from pipeline.records import Field
from pipeline.store import Store
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

FIELDS = (
    Field("name", "string"),
    Field("lines", "list", items=Field("line", "object", fields=(Field("sum", "decimal"),))),
)
TASK = make_task("bill", "fields", fields=FIELDS)
OTHER = make_task("letter", "fields", fields=(Field("name", "string"),))
STEPS = ShareMap(200, 100, steps=((0.0, 0.1), (0.5, 0.4), (0.9, 0.8)))
CURVE = ShareMap(50, 30, 1.5, -0.5)
SHARES = st.floats(0.0, 1.0)


def drawn(count: int, chance_of_right: Any, seed: int = 1) -> list[tuple[float, bool]]:
    rng = random.Random(seed)
    probabilities = [rng.random() for _ in range(count)]
    return [(p, rng.random() < chance_of_right(p)) for p in probabilities]


@pytest.mark.parametrize("asked", [STEPS, CURVE])
@given(one=SHARES, other=SHARES, offset=st.floats(-5, 5))
def test_a_map_never_falls_and_stays_a_share(
    asked: ShareMap, one: float, other: float, offset: float
) -> None:
    low, high = sorted((one, other))
    assert 0.0 <= asked.share(low, offset) <= asked.share(high, offset) <= 1.0


@given(st.lists(st.tuples(SHARES, st.booleans()), max_size=300))
def test_what_is_fitted_never_falls_and_is_never_sure(values: list[tuple[float, bool]]) -> None:
    asked = fit_map(values)
    if len(values) < LEAST_VALUES:
        assert asked is None
        return
    assert asked is not None
    shares = [asked.share(number / 50) for number in range(51)]
    assert shares == sorted(shares)
    assert 0.0 < shares[0] <= shares[-1] < 1.0
    assert (asked.values, asked.right) == (len(values), sum(right for _, right in values))
    assert bool(asked.steps) == (len(values) >= MANY_VALUES)


def test_few_values_give_the_curve_that_they_were_drawn_from() -> None:
    values = [(p, right) for p, right in drawn(MANY_VALUES - 1, lambda p: p**2) if p > 0.02]
    asked = fit_map(values)
    assert asked is not None
    assert asked.slope > 0
    assert abs(asked.share(0.9) - 0.81) < 0.1
    assert abs(asked.share(0.3) - 0.09) < 0.1


def test_many_values_give_steps_near_what_they_were_drawn_from() -> None:
    asked = fit_map(drawn(4000, lambda p: 0.2 if p < 0.5 else 0.7))
    assert asked is not None
    assert asked.share(0.3) == pytest.approx(0.2, abs=0.05)
    assert asked.share(0.7) == pytest.approx(0.7, abs=0.05)


def test_neighbours_that_would_fall_are_pooled() -> None:
    lowest = [(0.1, number < 2) for number in range(STEP_VALUES * 3)]
    falling = [(0.5, number < 45) for number in range(STEP_VALUES * 4)]
    fallen = [(0.9, number < 35) for number in range(STEP_VALUES * 4)]
    asked = fit_map([*lowest, *falling, *fallen])
    assert asked is not None
    assert asked.steps == ((0.0, pytest.approx(2 / 60)), (0.5, 0.5))


def test_probabilities_that_foretell_nothing_give_one_share() -> None:
    asked = fit_map([(0.9, False)] * 15 + [(0.2, True)] * 15)
    assert asked is not None
    assert (asked.slope, asked.share(0.1)) == (0.0, asked.share(0.99))
    assert asked.share(0.5) == pytest.approx(0.5)


def test_a_field_that_is_right_more_often_is_raised_by_how_much_is_known() -> None:
    def offset(count: int, *, right: bool) -> float:
        (one,) = fit_offsets(STEPS, [("name", 0.95, right)] * count)
        return one.offset

    assert 0 < offset(2, right=True) < offset(20, right=True)
    assert offset(20, right=False) < offset(2, right=False) < 0
    (even,) = fit_offsets(STEPS, [("name", 0.95, number < 8) for number in range(10)])
    assert (even.values, even.right) == (10, 8)
    assert even.offset == pytest.approx(0.0, abs=1e-6)


def test_shares_of_fields_with_few_values_are_near_their_tasks() -> None:
    values = [("a", True)] * 30 + [("a", False)] * 10 + [("b", False)] * 2
    one, other = fit_shares(values)
    assert (one.field, one.values, one.right) == ("a", 40, 30)
    assert one.share == pytest.approx(0.75, abs=0.01)
    assert 0.4 < other.share < 0.5
    assert fit_shares([("a", True)] * (LEAST_TAKEN - 1)) == ()
    (alone,) = fit_shares([("a", True)] * 30)
    assert alone.share == pytest.approx(31 / 32)


def test_errors_are_those_of_the_definitions() -> None:
    said = [(0.95, True), (0.95, False), (0.15, False), (1.0, True)]
    bins = bin_values(said)
    assert [(one.values, one.said, one.right) for one in bins if one.values] == [
        (1, 0.15, 0.0),
        (3, pytest.approx(2.9 / 3), pytest.approx(2 / 3)),
    ]
    assert calibration_error(said) == pytest.approx((0.15 + 3 * (2.9 / 3 - 2 / 3)) / 4)
    assert brier_score(said) == pytest.approx((0.05**2 + 0.95**2 + 0.15**2) / 4)
    assert calibration_error([]) is brier_score([]) is None


def graded(document: int, probability: float | None, *, right: bool, field: str = "name") -> Graded:
    sure = Sureness(probability, None, MODEL, TASK.fingerprint)
    return Graded(f"{document}.txt", TASK.name, field, right, sure)


def test_what_is_held_out_knows_nothing_of_its_own_documents() -> None:
    values = [graded(number % 10, 0.9, right=number % 10 != 3) for number in range(300)]
    held = hold_out(values, [TASK])
    said = {one.document: one.sure.confidence for one in held}
    # Document 3 alone is wrong: the others' folds know of it, its own does not.
    assert said["3.txt"] == max(value for value in said.values() if value is not None)
    assert said["3.txt"] == said["8.txt"]  # of the same part
    measured = measure_reliability(held)
    (row,) = measured.rows
    assert (row.kind, row.values, row.right, row.calibrated) == ("asked", 300, 0.9, 300)
    assert row.error_before == pytest.approx(0.0, abs=1e-9)


def test_a_task_with_few_values_has_its_models_map_and_offsets_of_its_own() -> None:
    other = replace(TASK, name="other", fingerprint="f" * 64)
    values = [graded(n, 0.9, right=n % 2 == 0) for n in range(100)]
    few = [graded(n, 0.9, right=True) for n in range(5)]
    few = [replace(one, sure=replace(one.sure, prompt=other.fingerprint)) for one in few]
    old = [replace(one, sure=replace(one.sure, prompt="gone")) for one in values]
    by_task = {one.task: one for one in fit_calibrations([*values, *few, *old], [TASK, other], "x")}
    assert set(by_task) == {"", TASK.name, "other"}
    assert by_task[""].asked is not None
    assert by_task[""].asked.values == 105
    assert by_task["other"].asked == by_task[""].asked
    assert by_task["other"].offsets[0].offset > 0.5
    known = tuple(by_task.values())
    raised = find_share(known, MODEL, other, "name", 0.9)
    general = find_share([by_task[""]], MODEL, OTHER, "name", 0.9)
    assert raised is not None
    assert general is not None
    assert raised > general
    assert find_share(known, "another model", other, "name", 0.9) is None
    assert find_share(known, MODEL, replace(OTHER, form="free"), "name", 0.9) is None


CALIBRATIONS = (
    Calibration(MODEL, "", "", "auto", "x", CURVE),
    Calibration(
        MODEL,
        TASK.name,
        TASK.fingerprint,
        "auto",
        "it's x",
        STEPS,
        (FieldOffset("lines.sum", 9, 9, 1.25),),
        (FieldShare("name", 20, 15, 0.75),),
    ),
)


def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    assert read_calibrations(path) == ()
    write_calibrations(path, CALIBRATIONS, "a command")
    assert read_calibrations(path) == CALIBRATIONS
    assert "`a command`" in json.loads(path.read_text())["about"]
    newer = replace(CALIBRATIONS[1], measured_on="y")
    write_calibrations(path, [*CALIBRATIONS, newer], "a command")
    assert read_calibrations(path) == (CALIBRATIONS[0], newer)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"share": 1.5}, "1.5 is not from 0 to 1"),
        ({"right": 30}, "right=30 of values=20"),
        ({"field": 5}, "field=5 is not text"),
        ({"share": "0.5"}, "'0.5' is not a number"),
    ],
)
def test_a_damaged_file_is_told_with_its_entry(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    path = tmp_path / FILE_NAME
    write_calibrations(path, CALIBRATIONS, "a command")
    values = json.loads(path.read_text())
    values["calibrations"][1]["taken"][0] |= change
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"entry 2") as caught:
        load_calibrations(tmp_path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["{", '{"version": 9, "calibrations": []}', "[]", "\udc80"])
def test_a_file_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"docflash eval GOLD\.json --calibrate"):
        load_calibrations(tmp_path)


def test_steps_that_fall_are_refused(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    falling = replace(CALIBRATIONS[0], asked=replace(STEPS, steps=((0.0, 0.5), (0.5, 0.4))))
    write_calibrations(path, [falling], "a command")
    with pytest.raises(InputError, match="do not rise"):
        read_calibrations(path)


def test_a_users_calibration_takes_the_place_of_docflashs_own(tmp_path: Path) -> None:
    own = load_calibrations()
    changed = replace(own[0], measured_on="my documents")
    write_calibrations(tmp_path / FILE_NAME, [changed], "a command")
    both = load_calibrations(tmp_path)
    assert {one.key for one in both} == {one.key for one in own}
    assert next(one for one in both if one.key == changed.key) == changed
    assert load_tasks(tmp_path) == load_tasks()  # a folder with nothing else is one of tasks


def test_docflashs_own_calibration_is_of_its_tasks_as_they_are() -> None:
    """After a change of these tasks: `python benchmarks/calibration.py`."""
    prompts = {task.name: task.fingerprint for task in load_tasks()}
    own = [one for one in load_calibrations() if one.form != "class"]
    assert {one.task for one in own} == {"", "contract", "invoice", "letter", "minutes"}
    assert {one.task: one.prompt for one in own if one.task} == {
        name: prompts[name] for name in ("contract", "invoice", "letter", "minutes")
    }


def published(
    out: Path, evidence: tuple[Evidence, ...], calibrations: tuple[Calibration, ...]
) -> list[dict[str, Any]]:
    """What is published of one answer to each task with this evidence."""
    document = make_document("One two")
    with open_library(out, "run1") as store:
        store.documents.save("run1", READER, [(make_file("a.txt"), document)])
        for job in plan(store, "run1", TASK, OTHER).pending:
            value: dict[str, Any] = {"name": "x", "lines": []}
            store.jobs.finish("run1", job, make_result(job, value, evidence=evidence))
        snapshot = publish(store, [TASK, OTHER], "run1", calibrations)
        return pq.read_table(snapshot / "evidence.parquet").to_pylist()


def test_the_published_confidence_is_what_the_calibration_says(tmp_path: Path) -> None:
    probabilities = [None, 0.0, 0.001, 0.3, 0.49999, 0.5, 0.7, 0.9, 0.95, 0.9999, 1.0]
    evidence = tuple(
        Evidence(field, item, "x", "verbatim", probability=probability)
        for field in ("name", "lines.sum")
        for item, probability in enumerate(probabilities)
    )
    rows = published(tmp_path, evidence, CALIBRATIONS)
    assert len(rows) == 2 * len(evidence)
    tasks = {task.name: task for task in (TASK, OTHER)}
    for row in rows:
        task = tasks[row["task"]]
        wanted = find_share(CALIBRATIONS, MODEL, task, row["field"], row["probability"])
        if row["task"] == OTHER.name and row["field"] == "lines.sum":
            wanted = None  # no field of this task
        assert row["confidence"] == (None if wanted is None else pytest.approx(wanted))
        source = "task" if row["task"] == TASK.name else "model"
        assert row["measured"] == (None if wanted is None else source)
    said = {(r["task"], r["field"], r["probability"]): r["confidence"] for r in rows}
    assert said[TASK.name, "name", 0.5] == 0.4
    assert said[TASK.name, "name", None] == 0.75
    assert said[OTHER.name, "name", None] is None
    raised = said[TASK.name, "lines.sum", 0.5]
    assert raised == pytest.approx(1 / (1 + math.exp(-(math.log(0.4 / 0.6) + 1.25))))


def test_what_was_not_chosen_or_not_measured_has_no_confidence(tmp_path: Path) -> None:
    evidence = (
        Evidence("name", 0, None, "not_found", probability=0.9),
        Evidence("name", 1, "x", "verbatim", probability=0.9, chosen=False),
    )
    assert {row["confidence"] for row in published(tmp_path / "a", evidence, CALIBRATIONS)} == {
        None
    }
    sure = (Evidence("name", 0, "x", "verbatim", probability=0.9),)
    (row, _) = published(tmp_path / "b", sure, ())
    assert (row["probability"], row["confidence"], row["measured"]) == (0.9, None, None)


def test_a_new_calibration_is_published_with_old_answers(tmp_path: Path) -> None:
    evidence = (Evidence("name", 0, "x", "verbatim", probability=0.95),)
    published(tmp_path, evidence, ())
    with Store.open(tmp_path) as store:
        snapshot = publish(store, [TASK, OTHER], "run2", CALIBRATIONS)
        rows = pq.read_table(snapshot / "evidence.parquet").to_pylist()
    assert rows[0]["confidence"] == pytest.approx(0.8)
