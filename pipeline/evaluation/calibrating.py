"""Fits calibrations to graded values, and says how far confidences can be believed.

In: `Graded` values of labelled documents. Out: `Calibration` records to keep, and `Believed` rows,
with the confidences that were published or with those of parts of the documents held out.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.calibration import Calibration, find_share, form_of
from pipeline.calibration_fit import LEAST_TAKEN, LEAST_VALUES, fit_map, fit_offsets, fit_shares
from pipeline.errors import InputError
from pipeline.evaluation.grading import Graded
from pipeline.evaluation.reliability import Bin, Said, bin_values, brier_score, calibration_error
from pipeline.records import Task

FOLDS = 5
"""So many parts of the documents are held out in turn."""

Kind = Literal["asked", "taken"]


@dataclass(frozen=True, slots=True)
class Believed:
    """How far what was said of values of one kind can be believed. None: there is nothing said.

    Attributes:
        task: The task; "all": all of them.
        kind: "asked": the model wrote the value. "taken": a rule found it.
        values: How many were judged.
        right: The share of them that was right.
        error_before, brier_before: Expected calibration error and Brier score of the model's
            probabilities.
        calibrated: How many values have a confidence.
        error_after, brier_after: Likewise of their confidences.
    """

    task: str
    kind: Kind
    values: int
    right: float
    error_before: float | None
    brier_before: float | None
    calibrated: int
    error_after: float | None
    brier_after: float | None


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far confidences can be believed.

    Attributes:
        rows: By task and kind, then of all tasks.
        before: The model's probabilities in bins.
        after: The confidences in bins.
    """

    rows: tuple[Believed, ...]
    before: tuple[Bin, ...]
    after: tuple[Bin, ...]


def measure_reliability(graded: Sequence[Graded]) -> Reliability:
    """How far the probabilities and confidences of graded values can be believed."""
    rows: list[Believed] = []
    names = sorted({one.task for one in graded})
    for task in (*names, *(("all",) if len(names) > 1 else ())):
        own = [one for one in graded if task in (one.task, "all")]
        rows += _believe(task, "asked", [one for one in own if one.sure.probability is not None])
        rows += _believe(task, "taken", [one for one in own if one.sure.probability is None])
    return Reliability(
        tuple(rows), bin_values(_probabilities(graded)), bin_values(_confidences(graded))
    )


def fit_calibrations(
    graded: Sequence[Graded],
    tasks: Sequence[Task],
    measured_on: str,
    general: Sequence[Calibration] = (),
) -> tuple[Calibration, ...]:
    """Calibrations of each task and model, and of each model over tasks of the same form.

    A task with few values has the map of its model, with offsets of its own fields. Values of an
    earlier form of a task are left out.

    Args:
        graded: The values.
        tasks: All tasks there are.
        measured_on: In words: of which documents.
        general: Those of models that are known already; others are fitted to all tasks' values.
    """
    by_prompt = {task.fingerprint: task for task in tasks}
    of_task: defaultdict[tuple[str, str], list[Graded]] = defaultdict(list)
    of_model: defaultdict[tuple[str, str], list[Graded]] = defaultdict(list)
    for one in graded:
        if one.sure.prompt in by_prompt:
            of_task[one.sure.model, one.sure.prompt].append(one)
            of_model[one.sure.model, form_of(by_prompt[one.sure.prompt])].append(one)
    known = {(one.model, one.form): one for one in general}
    for (model, form), own in of_model.items():
        new = Calibration(model, "", "", form, measured_on, fit_map(_probabilities(own)))
        known.setdefault((model, form), new)
    fitted = [
        _fit_task(by_prompt[prompt], own, known[model, form_of(by_prompt[prompt])], measured_on)
        for (model, prompt), own in of_task.items()
    ]
    fitted += [one for one in known.values() if one not in general]
    return tuple(one for one in fitted if one.asked is not None or one.taken)


def _fit_task(
    task: Task, own: Sequence[Graded], general: Calibration, measured_on: str
) -> Calibration:
    asked = [(one.field, p, one.is_right) for one in own if (p := one.sure.probability) is not None]
    taken = [(one.field, one.is_right) for one in own if one.sure.probability is None]
    known = fit_map([(p, is_right) for _, p, is_right in asked]) or general.asked
    has_map = known is not None and bool(asked)
    return Calibration(
        general.model,
        task.name,
        task.fingerprint,
        form_of(task),
        measured_on,
        known if has_map else None,
        fit_offsets(known, asked) if known is not None and asked else (),
        fit_shares(taken),
    )


def require_values(graded: Sequence[Graded], fitted: Sequence[Calibration]) -> None:
    """Refuses to keep nothing.

    Raises:
        InputError: There were too few values to fit anything to.
    """
    if not fitted:
        raise InputError(
            f"there are too few labelled values to calibrate by: values={len(graded)!r}, and a "
            f"task needs {LEAST_VALUES} that the model wrote, or {LEAST_TAKEN} that rules found; "
            "label more documents (`docflash label`), or more fields"
        )


def hold_out(graded: Sequence[Graded], tasks: Sequence[Task]) -> tuple[Graded, ...]:
    """The values with confidences that know nothing of their own documents.

    The documents are dealt out to `FOLDS` parts; the values of each get the confidences that the
    others lead to. Of one document there are none.
    """
    names = sorted({one.document for one in graded})
    part = {name: number % FOLDS for number, name in enumerate(names)}
    held: list[Graded] = []
    for fold in range(FOLDS):
        known = fit_calibrations([g for g in graded if part[g.document] != fold], tasks, "")
        held += [_say(one, known, tasks) for one in graded if part[one.document] == fold]
    return tuple(held)


def _say(one: Graded, known: Sequence[Calibration], tasks: Sequence[Task]) -> Graded:
    """A value with what these calibrations say of it."""
    task = next((task for task in tasks if task.fingerprint == one.sure.prompt), None)
    confidence = None
    if task is not None:
        confidence = find_share(known, one.sure.model, task, one.field, one.sure.probability)
    return replace(one, sure=replace(one.sure, confidence=confidence))


def _believe(task: str, kind: Kind, own: Sequence[Graded]) -> list[Believed]:
    if not own:
        return []
    before, after = _probabilities(own), _confidences(own)
    return [
        Believed(
            task,
            kind,
            len(own),
            sum(one.is_right for one in own) / len(own),
            calibration_error(before),
            brier_score(before),
            len(after),
            calibration_error(after),
            brier_score(after),
        )
    ]


def _probabilities(graded: Sequence[Graded]) -> list[Said]:
    return [(p, one.is_right) for one in graded if (p := one.sure.probability) is not None]


def _confidences(graded: Sequence[Graded]) -> list[Said]:
    return [(c, one.is_right) for one in graded if (c := one.sure.confidence) is not None]
