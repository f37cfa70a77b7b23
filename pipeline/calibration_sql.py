"""Calibrations as rows of SQL, to be joined to the evidence as it is published.

In: the tasks and the calibrations. Out: SQL that gives rows for each field of each task: one for
each step of its map, and one for its share where rules found the value. A task without a
calibration of its own has the map of its model, if it is asked in the same form.
"""

from collections.abc import Iterator, Sequence

from pipeline.calibration import CLASS_FIELD, LEAST_PROBABILITY, Calibration, form_of
from pipeline.records import Field, Task

_TYPES = {
    "model_fingerprint": "VARCHAR",
    "prompt_fingerprint": "VARCHAR",
    "field": "VARCHAR",
    "is_asked": "BOOLEAN",
    "low": "DOUBLE",
    "high": "DOUBLE",
    "share": "DOUBLE",
    "slope": "DOUBLE",
    "intercept": "DOUBLE",
    "measured": "VARCHAR",
}
_ABOVE_ALL = 2.0  # no probability is as high

_Row = tuple[str, str, str, bool, float, float, float | None, float, float, str]

_BOUNDED = f"least(greatest(q.probability, {LEAST_PROBABILITY}), {1.0 - LEAST_PROBABILITY})"
CONFIDENCE = (
    f"coalesce(m.share, 1 / (1 + exp(-(m.slope * ln({_BOUNDED} / (1 - {_BOUNDED})) "
    "+ m.intercept))))"
)
"""The confidence of the evidence `q` by the row `m` that `ON` joins to it."""

ON = (
    "m.model_fingerprint = a.model_fingerprint AND m.prompt_fingerprint = a.prompt_fingerprint "
    "AND m.field = q.field AND q.chosen AND q.value IS NOT NULL "
    "AND m.is_asked = (q.probability IS NOT NULL) "
    "AND coalesce(q.probability, 0) >= m.low AND coalesce(q.probability, 0) < m.high"
)
"""Joins the rows `m` to the evidence `q` of the answer `a`: at most one to each."""


def calibration_rows(tasks: Sequence[Task], calibrations: Sequence[Calibration]) -> str:
    """A query of the rows that these tasks' values are calibrated by; none if there are none."""
    rows = [row for task in tasks for row in _rows_of(task, calibrations)]
    columns = ", ".join(_TYPES)
    if not rows:
        empty = ", ".join(f"NULL::{kind} AS {name}" for name, kind in _TYPES.items())
        return f"SELECT {empty} WHERE false"
    casts = ", ".join(f"{name}::{kind} AS {name}" for name, kind in _TYPES.items())
    listed = ", ".join(f"({', '.join(map(_in_sql, row))})" for row in rows)
    return f"SELECT {casts} FROM (VALUES {listed}) t({columns})"


def _rows_of(task: Task, calibrations: Sequence[Calibration]) -> Iterator[_Row]:
    own = [one for one in calibrations if one.prompt == task.fingerprint]
    has_map = {one.model for one in own if one.asked is not None}
    for one in own:
        for taken in one.taken:
            head = (one.model, task.fingerprint, taken.field, False)
            yield (*head, 0.0, _ABOVE_ALL, taken.share, 0.0, 0.0, "task")
        yield from _map_rows(one, task, "task")
    for one in calibrations:
        if not one.task and one.form == form_of(task) and one.model not in has_map:
            yield from _map_rows(one, task, "model")


def _map_rows(one: Calibration, task: Task, measured: str) -> Iterator[_Row]:
    asked = one.asked
    if asked is None:
        return
    lows = [low for low, _ in asked.steps]
    for field in (CLASS_FIELD,) if task.kind == "class" else _leaves(task.fields):
        head = (one.model, task.fingerprint, field, True)
        offset = one.offset(field)
        if not lows:
            yield (*head, 0.0, _ABOVE_ALL, None, asked.slope, asked.intercept + offset, measured)
        for low, high in zip(lows, [*lows[1:], _ABOVE_ALL], strict=False):
            yield (*head, low, high, asked.share(low, offset), 0.0, 0.0, measured)


def _leaves(fields: Sequence[Field], above: str = "") -> Iterator[str]:
    """The dotted paths of all values that an answer may have."""
    for field in fields:
        path = f"{above}{field.name}"
        inner = field
        while inner.type == "list" and inner.items is not None:
            inner = inner.items
        if inner.type == "object":
            yield from _leaves(inner.fields, f"{path}.")
        else:
            yield path


def _in_sql(value: str | float | None) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(float(value))
