"""The records between the engine's core and the choice of drafts: rows in, a plan out, outcomes in.

Plain data without mlx; `speculation.py` says how a plan is chosen.
"""

from dataclasses import dataclass
from typing import NamedTuple

from pipeline.engine.planning.acceptance import Offer
from pipeline.engine.planning.cost import Shape
from pipeline.engine.planning.retries import Arm


@dataclass(frozen=True, slots=True)
class RowView:
    """A running row as the plan sees it.

    Attributes:
        row: Its id.
        task: What its acceptance has in common with other rows, e.g. the prompt's name.
        context: Its columns of keys and values.
        offers: Drafts that it could use; a draft of the drafter is offered before it is made.
    """

    row: str
    task: str
    context: int
    offers: tuple[Offer, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What the step runs.

    Attributes:
        shape: Of the verify.
        offers: For each row the draft it runs, cut to the width, or None.
        uses_drafter: Whether the drafter's forward is needed.
        tokens, ms: Expected of the step.
        retry: Set if this is no best plan, but a look at what was left out.
        best_rate: Tokens per millisecond that the best plan promised.
        late_ms: What of `ms` comes in the step behind it.
    """

    shape: Shape
    offers: tuple[Offer | None, ...]
    uses_drafter: bool
    tokens: float
    ms: float
    retry: Arm | None = None
    best_rate: float = 1.0
    late_ms: float = 0.0

    @property
    def trees(self) -> bool:
        """Whether a row has a tree."""
        return any(offer is not None and offer.source == "tree" for offer in self.offers)

    @property
    def rate(self) -> float:
        """Expected tokens per millisecond."""
        return self.tokens / self.ms


class Idle(NamedTuple):
    """A plain step without a plan.

    Attributes:
        rows: That it had.
        ms: What it took.
        ahead: Whether its forward had begun before the last step's tokens were seen.
    """

    rows: int
    ms: float
    ahead: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a draft; lengths as `acceptance.checked` gives them.

    Attributes:
        row, task: As in the row's view.
        offer: The draft as offered.
        drafted: Its tokens that could be checked.
        accepted: How many of those were the target's choice.
        used: False if the step did not run it: then it is learnt from, and not counted.
    """

    row: str
    task: str
    offer: Offer
    drafted: int
    accepted: int
    used: bool = True
