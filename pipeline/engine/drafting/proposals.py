"""What a step drafts and what becomes of it, between `Drafts.propose` and its learning.

Plain records: in from one step, out at the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.engine.drafting.offering import Known
from pipeline.engine.planning.acceptance import Offer
from pipeline.engine.planning.plan import RowView


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a row could draft without the drafter, and which of its drafts was chosen."""

    view: RowView
    known: Known
    tokens: Sequence[int]
    used: Offer | None


@dataclass(frozen=True, slots=True)
class Gained:
    """What became of a step: each row's tokens, and what the forwards took, a draft's included.

    `beside_ms`: planning that was done while the drafter ran.
    """

    gained: Sequence[Sequence[int]]
    forwards_ms: float
    drafted: bool
    beside_ms: float
