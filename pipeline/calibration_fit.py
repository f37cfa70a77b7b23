"""Fits calibrations to labelled values: isotonic regression if they are many, else Platt scaling.

In: probabilities of values, and whether they were right. Out: a `ShareMap`, or the `FieldShare`s of
values that rules found. What a field differs by is the offset of a logistic model with the map as
its base, and a normal prior. Sources: pool adjacent violators (Ayer et al. 1955, An empirical
distribution function for sampling with incomplete information); Platt 1999, Probabilistic outputs
for support vector machines, with the targets and the Newton steps of Lin, Lin and Weng 2007, A note
on Platt's probabilistic outputs.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.calibration import FieldOffset, FieldShare, ShareMap, log_odds, logistic, shift

LEAST_VALUES = 20
"""With fewer no map is fitted."""

LEAST_TAKEN = 10
"""With fewer values of a task that rules found, no shares of its fields are said."""

MANY_VALUES = 200
"""From so many on, the form of the map is left to the values (isotonic regression)."""

STEP_VALUES = 20
"""The fewest values of a step of an isotonic map."""

_OFFSET_DEVIATION = 1.5  # of the prior of a field's offset, in log-odds
_PRIOR_VALUES = 4  # the task's own share counts as much as so many values of a field
_MOST_OFFSET = 10.0
_MOST_ROUNDS = 100
_RIDGE = 1e-6  # keeps the Newton step finite where all probabilities are the same
_ENOUGH = 1e-9


@dataclass(slots=True)
class _Step:
    """Values next to each other, pooled."""

    low: float
    right: int
    values: int

    @property
    def share(self) -> float:
        return self.right / self.values


def fit_map(values: Sequence[tuple[float, bool]]) -> ShareMap | None:
    """The map from probability to share, None of fewer than `LEAST_VALUES`.

    Args:
        values: (probability, whether the value was right).
    """
    if len(values) < LEAST_VALUES:
        return None
    right = sum(is_right for _, is_right in values)
    if len(values) >= MANY_VALUES:
        return ShareMap(len(values), right, steps=_fit_isotonic(values))
    slope, intercept = _fit_logistic(values)
    return ShareMap(len(values), right, slope, intercept)


def fit_offsets(
    asked: ShareMap, values: Iterable[tuple[str, float, bool]]
) -> tuple[FieldOffset, ...]:
    """How much more often a task's values of each field were right than the map says.

    Args:
        asked: The map.
        values: (field, probability, whether the value was right).
    """
    by_field: defaultdict[str, list[tuple[float, bool]]] = defaultdict(list)
    for field, probability, is_right in values:
        by_field[field].append((asked.share(probability), is_right))
    return tuple(
        FieldOffset(field, len(own), sum(right for _, right in own), _fit_offset(own))
        for field, own in sorted(by_field.items())
    )


def _fit_offset(values: Sequence[tuple[float, bool]]) -> float:
    """The likeliest offset under the prior, by halving: its gradient falls all the way."""
    low, high = -_MOST_OFFSET, _MOST_OFFSET
    while high - low > _ENOUGH:
        offset = (low + high) / 2
        missed = sum(is_right - shift(share, offset) for share, is_right in values)
        if missed > offset / _OFFSET_DEVIATION**2:
            low = offset
        else:
            high = offset
    return (low + high) / 2


def fit_shares(values: Iterable[tuple[str, bool]]) -> tuple[FieldShare, ...]:
    """Shares by field of a task's values that rules found; none of fewer than `LEAST_TAKEN`.

    Args:
        values: (field, whether the value was right).
    """
    by_field: defaultdict[str, list[bool]] = defaultdict(list)
    for field, is_right in values:
        by_field[field].append(is_right)
    everything = [is_right for own in by_field.values() for is_right in own]
    if len(everything) < LEAST_TAKEN:
        return ()
    prior = (sum(everything) + 1) / (len(everything) + 2)
    if len(by_field) == 1:  # there is no other field to borrow from
        [(field, own)] = by_field.items()
        return (FieldShare(field, len(own), sum(own), prior),)
    return tuple(
        FieldShare(
            field,
            len(own),
            sum(own),
            (sum(own) + _PRIOR_VALUES * prior) / (len(own) + _PRIOR_VALUES),
        )
        for field, own in sorted(by_field.items())
    )


def _fit_isotonic(values: Sequence[tuple[float, bool]]) -> tuple[tuple[float, float], ...]:
    """Steps by pool adjacent violators; no share is quite 0 or 1."""
    pooled: list[_Step] = []
    for step in _cut_steps(values):
        pooled.append(step)
        while len(pooled) > 1 and pooled[-2].share >= pooled[-1].share:
            last = pooled.pop()
            pooled[-1].right += last.right
            pooled[-1].values += last.values
    steps: list[tuple[float, float]] = []
    for number, step in enumerate(pooled):
        edge = 1 / (step.values + 2)  # what is said of n alike (Laplace's rule of succession)
        share = min(max(step.share, edge), 1 - edge)
        if steps:
            share = max(share, steps[-1][1])
        if number + 1 < len(pooled):
            share = min(share, pooled[number + 1].share)
        steps.append((step.low if number else 0.0, share))
    return tuple(steps)


def _cut_steps(values: Sequence[tuple[float, bool]]) -> list[_Step]:
    """The values by rising probability, `STEP_VALUES` or more together; equal ones stay so."""
    steps: list[_Step] = []
    before = -1.0
    for probability, is_right in sorted(values):
        if not steps or (steps[-1].values >= STEP_VALUES and probability != before):
            steps.append(_Step(probability, 0, 0))
        steps[-1].right += is_right
        steps[-1].values += 1
        before = probability
    if len(steps) > 1 and steps[-1].values < STEP_VALUES:
        last = steps.pop()
        steps[-1].right += last.right
        steps[-1].values += last.values
    return steps


def _fit_logistic(values: Sequence[tuple[float, bool]]) -> tuple[float, float]:
    """Slope and intercept over log-odds; a slope that would fall is 0."""
    right = sum(is_right for _, is_right in values)
    wrong = len(values) - right
    high, low = (right + 1) / (right + 2), 1 / (wrong + 2)  # Platt's targets: never sure
    points = [(log_odds(p), high if is_right else low) for p, is_right in values]
    slope, intercept = _newton(points)
    if slope > 0:
        return slope, intercept
    mean = sum(target for _, target in points) / len(points)
    return 0.0, math.log(mean / (1 - mean))


def _newton(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Minimises the log loss; each step is halved until it does not rise."""
    at = (0.0, 0.0)
    loss = _loss(points, at)
    for _ in range(_MOST_ROUNDS):
        step = _newton_step(points, at)
        scale = 1.0
        while True:
            tried = (at[0] - scale * step[0], at[1] - scale * step[1])
            new = _loss(points, tried)
            if new <= loss or scale < _ENOUGH:
                break
            scale /= 2
        gained, at, loss = loss - new, tried, new
        if gained < _ENOUGH:
            break
    return at


def _newton_step(
    points: Sequence[tuple[float, float]], at: tuple[float, float]
) -> tuple[float, float]:
    """The inverse Hessian times the gradient."""
    slope_slope = both = once = slope_gradient = gradient = 0.0
    for x, target in points:
        share = logistic(at[0] * x + at[1])
        weight, error = share * (1 - share), share - target
        slope_slope += weight * x * x
        both += weight * x
        once += weight
        slope_gradient += error * x
        gradient += error
    slope_slope += _RIDGE
    once += _RIDGE
    determinant = slope_slope * once - both * both
    return (
        (once * slope_gradient - both * gradient) / determinant,
        (slope_slope * gradient - both * slope_gradient) / determinant,
    )


def _loss(points: Sequence[tuple[float, float]], at: tuple[float, float]) -> float:
    """The sum of -t ln s - (1 - t) ln (1 - s), written so that it can't overflow."""
    total = 0.0
    for x, target in points:
        score = at[0] * x + at[1]
        total += max(score, 0.0) - score * target + math.log1p(math.exp(-abs(score)))
    return total
