"""What a step drafts and what becomes of it, between `Drafts.propose` and its learning.

Plain records: in from one step, out at the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.engine.drafting.offering import Known
from pipeline.engine.planning.acceptance import Offer
from pipeline.engine.planning.plan import Plan, RowView


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a row could draft without the drafter, and which of its drafts was chosen."""

    view: RowView
    known: Known
    tokens: Sequence[int]
    used: Offer | None


@dataclass(frozen=True, slots=True)
class Gained:
    """What became of a step with a plan.

    Attributes:
        plan, proposals: What it was.
        largest: The most tokens of the trees that could have been run.
        gained: Each row's tokens.
        forwards_ms: What the forwards took, a draft's included.
        drafted: Whether there was one.
        beside_ms: Planning that was done while the drafter ran.
        tells: Whether it did not come behind a prompt: then less is done beside the forwards.
    """

    plan: Plan
    proposals: Sequence[Proposal]
    largest: int
    gained: Sequence[Sequence[int]]
    forwards_ms: float
    drafted: bool
    beside_ms: float
    tells: bool

    @property
    def can_wait(self) -> bool:
        """Whether the next plan may be made before this is learnt: another comes behind it."""
        return self.plan.shape.width > 1 and self.plan.retry is None
