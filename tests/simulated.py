"""A world for the cost model: latencies and acceptance by formula, seeded, no clock."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.engine.planning.acceptance import Offer, tokens_expected
from pipeline.engine.planning.cost import CONTEXTS, ROWS, Shape, StepCosts
from pipeline.engine.planning.plan import Idle, Outcome, Plan, RowView
from pipeline.engine.planning.speculation import Speculation
from pipeline.engine.planning.widths import CHAIN_WIDTHS, WIDTHS

Latency = Callable[[int, int, int], float]


def launch_bound(rows: int, width: int, context: int) -> float:
    """A small model on a GPU: width is nearly free."""
    return 4 + 0.01 * rows * width + context / 4096


def compute_bound(rows: int, width: int, context: int) -> float:
    """A CPU: every token costs."""
    return 50 + 4 * rows * width + 0.001 * rows * context


def table(latency: Latency, widths: tuple[int, ...] = WIDTHS) -> dict[Shape, float]:
    return {Shape(r, w, c): latency(r, w, c) for r in ROWS for w in widths for c in CONTEXTS}


@dataclass
class World:
    """Runs steps of a batch.

    Attributes:
        verify, draft: True milliseconds.
        chance: Of each position of the drafter's block.
        tree_chance: Of each depth of a tree of 15; none are offered where it is 0.
        large_chance: Of each depth of a tree of 31; none are offered where it is 0.
        tree_part: How many times as long a step with trees takes.
        copy_share: How often a row has a copy to offer; `copy_chance` of each of its positions.
        noise: Relative deviation of a step's time; one in 200 takes ten times as long besides.
        load: How many times as long every step takes as when the tables were measured.
        hitch: Milliseconds that every third step with the drafter takes longer.
        planning: Milliseconds of making a plan; if the drafter has begun, it runs meanwhile.
        late: Milliseconds that a step with the drafter takes longer if the last one was without:
            its context has missed something.
        resting: Plain steps that come after the last one, without a plan.
        wasted: Steps for which the drafter had begun, and which then were planned without it.
    """

    verify: Latency
    draft: Latency = lambda rows, width, context: 1.0
    rows: int = 1
    context: int = 1000
    chance: float = 0.7
    tree_chance: float = 0.0
    large_chance: float = 0.0
    tree_part: float = 1.0
    copy_share: float = 0.0
    copy_chance: float = 0.9
    noise: float = 0.05
    load: float = 1.0
    hitch: float = 0.0
    planning: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    ms: float = 0.0
    tokens: int = 0
    late: float = 0.0
    resting: int = 0
    wasted: int = 0
    drafted: bool = False  # in the last step
    largest: int = 15  # tokens of the trees that are offered

    def costs(self) -> StepCosts:
        return StepCosts(table(self.verify), table(self.draft, (1,)))

    def run(self, model: Speculation, steps: int) -> float:
        """Tokens per millisecond over some steps."""
        self.ms, self.tokens = 0.0, 0
        while steps > 0:
            self.step(model)
            resting = min(self.resting, steps - 1)
            for _ in range(resting):
                self.rest(model)
            steps -= 1 + resting
        return self.tokens / self.ms

    def rest(self, model: Speculation) -> None:
        """A plain step without a plan."""
        ms = self.verify(self.rows, 1, self.context)
        self.ms += ms
        self.tokens += self.rows
        model.rested([Idle(self.rows, ms, ahead=False)])

    def step(self, model: Speculation) -> Plan:
        large = self.large_chance and model.largest_tree(self.rows, self.context) > 15
        self.largest = 31 if large else 15
        views = [self.view(row) for row in range(self.rows)]
        begun = model.goes_on()  # then the drafter begins before the plan is made
        plan = model.choose(views)
        drafting = self.draft(self.rows, 1, self.context) if plan.uses_drafter or begun else 0.0
        beside = min(self.planning, drafting) if begun else 0.0  # what nobody waits for
        ms = (self.verify(*plan.shape) + drafting) * (self.tree_part if plan.trees else 1) - beside
        ms += self.late if plan.uses_drafter and not self.drafted else 0.0
        self.drafted = plan.uses_drafter
        ms += self.hitch if plan.uses_drafter and self.rng.random() < 1 / 3 else 0.0
        seen = self.load * ms * max(0.5, self.rng.gauss(1, self.noise))
        if self.noise and self.rng.random() < 1 / 200:
            seen *= 10
        self.ms += ms  # judged without the noise; where all steps are plain few are planned
        self.ms += self.planning if plan.shape.width > 1 else 0.0
        self.resting = model.rest(self.planning)
        self.tokens += self.rows
        model.observe(
            plan,
            seen,
            drafted=plan.uses_drafter or begun,
            beside_ms=self.planning if begun else 0.0,
        )
        self.wasted += begun and not plan.uses_drafter
        for view, used in zip(views, plan.offers, strict=True):
            self.tokens += self.verify_row(model, view, used, plan)
        return plan

    def view(self, row: int) -> RowView:
        offers = (Offer("dflash", 15),)
        offers += (Offer("tree", self.largest, self.largest),) if self.tree_chance else ()
        if self.rng.random() < self.copy_share:
            offers += (Offer("copy", 15, self.rng.choice([1, 2, 4, 9])),)
        return RowView(f"row {row}", "task", self.context, offers)

    def verify_row(self, model: Speculation, view: RowView, used: Offer | None, plan: Plan) -> int:
        if used is not None and used.source == "tree":
            return self.verify_tree(model, view, used)
        lasting = {offer.source: self.survival(offer) for offer in view.offers}
        gained = 1 + (min(used.length, lasting[used.source]) if used else 0)
        for offer in view.offers:
            is_used = used is not None and offer.source == used.source
            if offer.source == "tree":
                continue
            if is_used or offer.source == "copy" or plan.uses_drafter:
                length = used.length if used and is_used else offer.length
                drafted = min(length, gained)
                accepted = min(lasting[offer.source], drafted)
                model.record(Outcome(view.row, view.task, offer, drafted, accepted, used=is_used))
        return gained - 1

    def verify_tree(self, model: Speculation, view: RowView, used: Offer) -> int:
        luck = [self.rng.random() for _ in range(15)]  # what a tree has, a larger one has as well
        lasting = {
            size: next((k for k, u in enumerate(luck) if u >= self.chance_of_tree(size)), 15)
            for size in (3, 7, 15, 31)
            if size <= self.largest
        }
        gained = lasting[used.length]
        for size, lasts in lasting.items():
            accepted = min(lasts, gained + 1)  # further is not known
            drafted = min(15, accepted + (lasts <= gained))
            offer, is_used = Offer("tree", size, size), size == used.length
            model.record(Outcome(view.row, view.task, offer, drafted, accepted, used=is_used))
        return gained

    def chance_of_tree(self, size: int) -> float:
        """The smaller a tree, the more it is like a chain."""
        if size > 15:
            return self.large_chance
        return self.chance + (self.tree_chance - self.chance) * size / 15

    def survival(self, offer: Offer) -> int:
        return self.lasting(self.chance if offer.source == "dflash" else self.copy_chance)

    def lasting(self, chance: float) -> int:
        lasting = 0
        while lasting < 15 and self.rng.random() < chance:
            lasting += 1
        return lasting

    def plain_rate(self) -> float:
        return self.rows / self.verify(self.rows, 1, self.context)

    def best_fixed_rate(self) -> float:
        """Of every width with the drafter's block, or plain."""
        curve = tokens_expected([self.chance] * 15)
        draft = self.draft(self.rows, 1, self.context)
        return max(
            self.plain_rate(),
            *(
                self.rows * curve[w - 1] / (self.verify(self.rows, w, self.context) + draft)
                for w in CHAIN_WIDTHS[1:]
            ),
        )

    def tree_rate(self, *, large: bool = False) -> float:
        """Of the largest usual trees, or of large ones."""
        chance = self.large_chance if large else self.tree_chance
        tokens = self.rows * tokens_expected([chance] * 15)[-1]
        shape = self.rows, 32 if large else 16, self.context
        return tokens / (self.verify(*shape) + self.draft(*shape)) / self.tree_part
