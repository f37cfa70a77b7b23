"""The gate's choice of drafts: every source and width in turn, whether it pays or not.

In the place of `Speculation`, which would leave out what is slow on the machine at hand, and so
what the gate has to prove harmless.
"""

import random
from collections.abc import Sequence

from pipeline.engine.planning.acceptance import LARGEST_TREE, Offer
from pipeline.engine.planning.candidates import NEEDS_DRAFTER
from pipeline.engine.planning.cost import CONTEXTS, Shape, StepCosts
from pipeline.engine.planning.plan import Plan, RowView
from pipeline.engine.planning.speculation import Speculation
from pipeline.engine.planning.widths import CHAIN_WIDTHS, WIDTHS

SEED = 4


class EverySpeculation(Speculation):
    """Chooses by chance, the same way each time."""

    always = True

    def __init__(self) -> None:
        super().__init__(StepCosts({Shape(1, 1, CONTEXTS[0]): 1.0}))
        self._chance = random.Random(SEED)

    def choose(self, rows: Sequence[RowView]) -> Plan:
        """A plan for the next step, of any width above 1; see `Speculation.choose`."""
        self._settle()
        width = self._chance.choice(WIDTHS[1:])
        offers = tuple(self._any_offer(view, width - 1) for view in rows)
        if not any(offer and offer.length >= CHAIN_WIDTHS[-1] for offer in offers):
            width = min(width, CHAIN_WIDTHS[-1])  # wider ones are for large trees
        context = max(view.context for view in rows)
        self._last = Plan(
            shape=Shape(len(rows), width, context),
            offers=offers,
            uses_drafter=any(offer and offer.source in NEEDS_DRAFTER for offer in offers),
            tokens=len(rows),
            ms=1.0,
        )
        self._counts.plan(self._last, 1.0)
        return self._last

    def largest_tree(self, rows: int, context: int) -> int:  # noqa: ARG002
        """See `Speculation.largest_tree`; here it need not pay."""
        return LARGEST_TREE

    def goes_on(self) -> bool:
        """As for `Speculation`; here nothing is tried in between."""
        return self._last is not None and self._last.uses_drafter

    def observe(
        self,
        plan: Plan,
        ms: float,
        *,
        drafted: bool,  # noqa: ARG002
        beside_ms: float = 0.0,  # noqa: ARG002
        tells: bool = True,
    ) -> None:
        """Takes a step's time; nothing is learnt from it."""
        self._settle()
        self._seen = plan, ms, tells

    def rest(self, planning_ms: float) -> int:  # noqa: ARG002
        """None: every step drafts."""
        return 0

    def _any_offer(self, view: RowView, most: int) -> Offer | None:
        if not view.offers:
            return None
        return self._chance.choice(view.offers).cut(most)
