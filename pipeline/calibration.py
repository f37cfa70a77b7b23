"""What a confidence means: how often values of a kind were right on labelled documents.

In: measurements of a model and a task (`docflash eval --calibrate` makes them). Out: for a value of
an answer, the share of values like it that were right. There are two kinds of values:

- asked: the model wrote it, so there is a probability (`pipeline.probabilities`); a `ShareMap`,
  which never falls, leads from it to a share, and a field's `FieldOffset` raises or lowers it. A
  task that was not measured has the map of all measured tasks of its model ("model" instead of
  "task" in the column `measured`), without offsets.
- taken: a rule found it, and no model was asked. The share is that of its field (`FieldShare`).

The class of a document is such a value, too, of the one field `CLASS_FIELD`; it is asked in a form
of its own.

Where nothing was measured there is no confidence. `pipeline.calibration_fit` fits these records,
`pipeline.calibration_file` keeps them, `pipeline.calibration_sql` applies them as tables are
published, so that answers need not be asked for again when a calibration is new.
"""

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.records import Task

CLASS_FIELD = "class"

LEAST_PROBABILITY = 0.001
"""Probabilities nearer to 0 or 1 count as this near: their log-odds would decide all."""


@dataclass(frozen=True, slots=True)
class ShareMap:
    """Leads from the probability of a value to the share that was right; never falls.

    Attributes:
        values: How many labelled values it was fitted to.
        right: How many of them were right.
        slope, intercept: With no steps: the share is the logistic function of
            `slope * log-odds + intercept`; the slope is 0 or more.
        steps: (least probability, share) of each step, rising in both; the first begins at 0.
    """

    values: int
    right: int
    slope: float = 0.0
    intercept: float = 0.0
    steps: tuple[tuple[float, float], ...] = ()

    def share(self, probability: float, offset: float = 0.0) -> float:
        """The share of values with this probability that were right.

        Args:
            probability: The value's.
            offset: Its field's, in log-odds.
        """
        if self.steps:
            place = bisect.bisect_right(self.steps, (probability, math.inf)) - 1
            return shift(self.steps[max(place, 0)][1], offset)
        return logistic(self.slope * log_odds(probability) + self.intercept + offset)


@dataclass(frozen=True, slots=True)
class FieldOffset:
    """How much more often the model's values of a field were right than the map says.

    Attributes:
        field: Dotted path, such as "total" or "lines.amount".
        values: How many labelled values there were.
        right: How many of them were right.
        offset: In log-odds; nearer to 0 the fewer they were.
    """

    field: str
    values: int
    right: int
    offset: float


@dataclass(frozen=True, slots=True)
class FieldShare:
    """How often a rule's values of a field were right.

    Attributes:
        field: Dotted path, such as "total" or "lines.amount".
        values: How many labelled values there were.
        right: How many of them were right.
        share: What is said of a value: nearer to the task's share the fewer they were.
    """

    field: str
    values: int
    right: int
    share: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured of a model and a task.

    Attributes:
        model: The model's fingerprint.
        task: The task's name; empty: all tasks that were measured with this model and form.
        prompt: The task's fingerprint; empty if `task` is.
        form: As `form_of` has it.
        measured_on: In words: which documents.
        asked: Of values that the model wrote, None if there were too few; of a task with few it
            is that of its model.
        offsets: To that, by field.
        taken: Of values that rules found, by field; empty if there were too few.
    """

    model: str
    task: str
    prompt: str
    form: str
    measured_on: str
    asked: ShareMap | None = None
    offsets: tuple[FieldOffset, ...] = ()
    taken: tuple[FieldShare, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """Of two with the same key, the newer one counts."""
        return self.model, self.task, self.prompt or self.form

    def share(self, field: str, probability: float | None) -> float | None:
        """The share of values like this that were right, None if it was not measured."""
        if probability is not None:
            return None if self.asked is None else self.asked.share(probability, self.offset(field))
        return next((one.share for one in self.taken if one.field == field), None)

    def offset(self, field: str) -> float:
        """The offset of a field, 0 if it was not measured."""
        return next((one.offset for one in self.offsets if one.field == field), 0.0)


def find_share(
    calibrations: Iterable[Calibration],
    model: str,
    task: Task,
    field: str,
    probability: float | None,
) -> float | None:
    """The confidence of a value: by its task's calibration, else by its model's for the same form.

    Args:
        calibrations: All there are.
        model: Fingerprint of the model that was asked.
        task: The task.
        field: Dotted path of the value's field.
        probability: The value's; None if a rule found it.
    """
    of_model = [one for one in calibrations if one.model == model]
    own = [one for one in of_model if one.prompt == task.fingerprint]
    general = [one for one in of_model if not one.task and one.form == form_of(task)]
    shares = (one.share(field, probability) for one in (*own, *general))
    return next((share for share in shares if share is not None), None)


def form_of(task: Task) -> str:
    """The form of a task: what was measured in one form says nothing of others."""
    return "class" if task.kind == "class" else task.form


def log_odds(probability: float) -> float:
    """ln(p / (1 - p)), with p kept away from 0 and 1."""
    bounded = min(max(probability, LEAST_PROBABILITY), 1.0 - LEAST_PROBABILITY)
    return math.log(bounded / (1.0 - bounded))


def logistic(score: float) -> float:
    """The probability whose log-odds these are."""
    return 1.0 / (1.0 + math.exp(-score))


def shift(share: float, offset: float) -> float:
    """A share with its log-odds moved; 0 and 1 stay."""
    if offset == 0.0 or share in (0.0, 1.0):
        return share
    return logistic(math.log(share / (1.0 - share)) + offset)
