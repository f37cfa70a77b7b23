"""How far a confidence can be believed: what was said, and how often it was right.

In: (what was said, whether it was right) of many values. Out: bins of a reliability diagram, the
expected calibration error (Naeini, Cooper and Hauskrecht 2015) and the Brier score (Brier 1950).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

BINS = 10

Said = tuple[float, bool]


@dataclass(frozen=True, slots=True)
class Bin:
    """The values of which about the same was said.

    Attributes:
        low, high: What was said is from `low` to below `high`; the last bin has 1, too.
        values: How many there are.
        said: The mean of what was said, None without values.
        right: The share that was right, None without values.
    """

    low: float
    high: float
    values: int
    said: float | None
    right: float | None


def bin_values(said: Sequence[Said]) -> tuple[Bin, ...]:
    """The values in `BINS` bins of equal width, empty ones too."""
    bins: list[list[Said]] = [[] for _ in range(BINS)]
    for one in said:
        bins[min(int(one[0] * BINS), BINS - 1)].append(one)
    return tuple(
        Bin(
            number / BINS,
            (number + 1) / BINS,
            len(own),
            fmean(share for share, _ in own) if own else None,
            fmean(is_right for _, is_right in own) if own else None,
        )
        for number, own in enumerate(bins)
    )


def calibration_error(said: Sequence[Said]) -> float | None:
    """The mean distance of a bin's `said` from its `right`, by values; None of no values."""
    if not said:
        return None
    return sum(
        one.values * abs(one.said - one.right)
        for one in bin_values(said)
        if one.said is not None and one.right is not None
    ) / len(said)


def brier_score(said: Sequence[Said]) -> float | None:
    """The mean squared distance from 1 of right values and 0 of wrong ones; None of no values."""
    return fmean((share - is_right) ** 2 for share, is_right in said) if said else None
