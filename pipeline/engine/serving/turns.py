"""Which model's requests may start: one model is loaded at a time, and none may starve."""

from collections.abc import Sequence
from dataclasses import dataclass

TURN_S = 60.0
"""While others wait, a model's requests start for this long, then the engine changes over."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that has not started.

    Attributes:
        model: What it asks for.
        arrived_s: When it came, on the monotonic clock.
    """

    model: str
    arrived_s: float


def whose_turn(
    current: str | None, waiting: Sequence[Waiting], turn_began_s: float, now_s: float
) -> str | None:
    """The model whose requests may start now.

    The loaded model keeps its turn while it has requests and nobody else has waited for a whole
    turn; loading is not counted, so each turn does some work however slow the loading is.

    Args:
        current: The loaded model, if any.
        waiting: In the order of arrival.
        turn_began_s: When the current model was ready.
        now_s: The monotonic clock.

    Returns:
        A model, which may not be the loaded one; None if nothing is loaded or waits.
    """
    others = [entry for entry in waiting if entry.model != current]
    if not others:
        return current
    first = others[0]
    has_work = len(others) < len(waiting)
    if has_work and now_s - max(first.arrived_s, turn_began_s) < TURN_S:
        return current
    return first.model
