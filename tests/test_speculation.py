"""The choice of drafts, in a simulated world: it wins where it can and never loses much."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.planning.acceptance import (
    MOST_TASKS,
    Acceptance,
    Offer,
    Source,
    checked,
    prior_chances,
    tokens_expected,
)
from pipeline.engine.planning.cost import Shape, StepCosts
from pipeline.engine.planning.plan import Idle, Outcome, RowView
from pipeline.engine.planning.prices import Prices
from pipeline.engine.planning.retries import LONGEST, Retries
from pipeline.engine.planning.speculation import MARGIN, Speculation
from pipeline.engine.planning.trust import Trust
from tests.simulated import World, compute_bound, launch_bound, table

BLOCK = Offer("dflash", 15)


def gpu(rows: int, chance: float = 0.7, copy_share: float = 0.0) -> World:
    return World(launch_bound, lambda *_: 1.0, rows, chance=chance, copy_share=copy_share)


def cpu(rows: int, chance: float = 0.7) -> World:
    return World(compute_bound, lambda rows, *_: 20 + 2.0 * rows, rows, chance=chance)


WORLDS = [(gpu, 1), (gpu, 8), (cpu, 1), (cpu, 8)]


@pytest.mark.parametrize(("world_of", "rows"), WORLDS)
@pytest.mark.parametrize("chance", [0.0, 0.15])
def test_where_speculation_loses_it_costs_less_than_2_percent(
    world_of: Callable[..., World], rows: int, chance: float
) -> None:
    world = world_of(rows, chance=chance)
    model = Speculation(world.costs())
    assert world.run(model, 1000) > 0.98 * world.plain_rate()
    assert model.stats().retries < 50


@pytest.mark.parametrize(("world_of", "rows"), WORLDS)
@pytest.mark.parametrize("chance", [0.6, 0.85])
def test_where_it_wins_it_is_close_to_the_best_width(
    world_of: Callable[..., World], rows: int, chance: float
) -> None:
    world = world_of(rows, chance=chance)
    assert world.run(Speculation(world.costs()), 600) > 0.9 * world.best_fixed_rate()


@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize(("chance", "part"), [(0.8, 1.1), (0.65, 1.1)])
def test_trees_are_used_where_they_are_worth_it(rows: int, chance: float, part: float) -> None:
    world = World(launch_bound, rows=rows, chance=0.5, tree_chance=chance, tree_part=part)
    assert world.tree_rate() > 1.05 * world.best_fixed_rate()
    model = Speculation(world.costs())
    world.run(model, 400)
    assert world.run(model, 600) > 0.93 * world.tree_rate()


@pytest.mark.parametrize(("world_of", "rows"), WORLDS)
def test_trees_that_cost_more_than_they_give_are_left(
    world_of: Callable[..., World], rows: int
) -> None:
    world = world_of(rows, chance=0.6)
    world.tree_chance, world.tree_part = 0.62, 1.4
    model = Speculation(world.costs())
    world.run(model, 400)
    assert world.run(model, 1000) > 0.93 * world.best_fixed_rate()


@pytest.mark.parametrize(("chance", "planned_first"), [(0.55, False), (0.8, True)])
def test_planning_beside_the_drafter_costs_nothing(chance: float, *, planned_first: bool) -> None:
    """Drafts pay, though at 0.55 only if the planning need not be done before."""
    world = World(lambda *_: 2.0, lambda *_: 1.5, 8, chance=chance, planning=1.4)
    tokens = 8 * tokens_expected([chance] * 15)[-1]
    assert (tokens / (2.0 + 1.5 + world.planning) > world.plain_rate()) == planned_first
    assert tokens / (2.0 + 1.5) > 1.25 * world.plain_rate()
    model = Speculation(world.costs())
    world.run(model, 500)
    assert world.run(model, 500) > 0.93 * tokens / (2.0 + 1.5)


def test_the_drafter_begins_early_but_not_where_plain_decoding_is_tried() -> None:
    world = gpu(8, chance=0.8)
    world.planning = 0.4
    model = Speculation(world.costs())
    early, tried = 0, 0
    for _ in range(500):
        begun = model.goes_on()
        plan = world.step(model)
        early += begun
        tried += plan.retry == "plain"
        assert not (begun and plan.retry == "plain")
    assert tried >= 3
    assert early > 400
    assert world.wasted <= 2


@pytest.mark.parametrize(("world_of", "rows"), WORLDS)
def test_it_adapts_to_a_fall_and_to_a_recovery(world_of: Callable[..., World], rows: int) -> None:
    world = world_of(rows, chance=0.85)
    model = Speculation(world.costs())
    world.run(model, 300)
    world.chance = 0.0
    world.run(model, 200)
    assert world.run(model, 500) > 0.98 * world.plain_rate()
    world.chance = 0.85
    world.run(model, 2 * LONGEST)
    assert world.run(model, 300) > 0.9 * world.best_fixed_rate()


@pytest.mark.parametrize("rows", [1, 4, 16])
def test_the_drafter_is_found_to_win_though_its_first_step_loses(rows: int) -> None:
    """That one puts into its context what it has missed while others decoded."""
    world = World(launch_bound, lambda *_: 1.0, rows, chance=0.0, late=12.0)
    model = Speculation(world.costs())
    world.run(model, 300)
    world.chance = 0.8
    world.run(model, 2 * LONGEST)
    assert world.run(model, 300) > 0.9 * world.best_fixed_rate()


@pytest.mark.parametrize("rows", [1, 4, 16])
def test_the_drafter_is_tried_again_in_spite_of_long_rests(rows: int) -> None:
    world = World(launch_bound, lambda *_: 1.0, rows, chance=0.0, planning=1.5)
    model = Speculation(world.costs())
    world.run(model, 300)
    assert world.resting > 10
    world.chance = 0.8
    world.run(model, 3 * LONGEST)
    assert world.run(model, 300) > 0.85 * world.best_fixed_rate()


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("chance", [0.45, 0.55])
def test_a_small_gain_is_not_lost_to_a_few_unlucky_drafts(rows: int, chance: float) -> None:
    gains: list[float] = []
    for seed in range(8):
        world = World(launch_bound, lambda *_: 1.0, rows, chance=chance, planning=0.5)
        world.rng.seed(seed)
        model = Speculation(world.costs())
        world.run(model, 300)
        gains.append(world.run(model, 1000) / world.best_fixed_rate())
    assert sum(gains) / len(gains) > 0.9


@pytest.mark.parametrize(("world_of", "rows"), WORLDS)
@pytest.mark.parametrize("chance", [0.1, 0.8])
def test_a_busier_machine_changes_no_plan_and_no_gain(
    world_of: Callable[..., World], rows: int, chance: float
) -> None:
    world = world_of(rows, chance=chance)
    model = Speculation(world.costs())
    quiet = world.run(model, 600)
    before = model.stats()
    world.load = 4.0
    busy = world.run(model, 600)
    after = model.stats()
    gain = (after.plain_ms - before.plain_ms) / (after.step_ms - before.step_ms)
    assert busy > 0.95 * quiet
    assert gain == pytest.approx(busy / world.plain_rate(), rel=0.25)


def test_the_drafter_does_not_begin_early_where_planning_takes_no_time() -> None:
    world = cpu(1, chance=0.8)
    model = Speculation(world.costs())
    assert sum(world.step(model).uses_drafter and model.goes_on() for _ in range(300)) == 0
    world.planning = 30.0
    world.run(model, 300)
    assert sum(world.step(model).uses_drafter and model.goes_on() for _ in range(300)) > 200


def test_copies_win_without_the_drafter() -> None:
    world = gpu(8, chance=0.0, copy_share=0.8)
    model = Speculation(world.costs())
    assert world.run(model, 300) > 3 * world.plain_rate()
    assert model.stats().drafter_steps < 15


@pytest.mark.parametrize("rows", [8, 32])
def test_a_drafter_that_is_dearer_than_foretold_does_not_make_copies_look_dear(rows: int) -> None:
    world = World(launch_bound, lambda *_: 12.0, rows, chance=0.3, copy_share=0.8)
    model = Speculation(StepCosts(table(world.verify), table(lambda *_: 0.5, (1,))))
    with_drafter = world.run(model, 300)
    alone = World(launch_bound, rows=rows, chance=0.0, copy_share=0.8)
    assert with_drafter > 0.94 * alone.run(Speculation(StepCosts(table(alone.verify))), 300)
    assert model.stats().drafter_steps < 20


def test_a_table_that_flatters_wide_steps_is_seen_through() -> None:
    """Its forwards of more than one token take 80 ms in place of 15."""
    world = World(lambda rows, width, context: 12.0 if width == 1 else 80.0, rows=8)
    lie = {s: 12.0 if s.width == 1 else 15.0 for s in table(world.verify)}
    model = Speculation(StepCosts(lie, table(world.draft, (1,))))
    world.run(model, 500)
    assert world.run(model, 1000) > 0.98 * world.plain_rate()


@pytest.mark.parametrize("rows", [4, 16])
def test_steps_with_drafts_that_become_slower_do_not_make_plain_ones_look_slow(rows: int) -> None:
    """A schema's host work, for one: they would be run on, as if the machine were busier."""
    world = World(launch_bound, lambda *_: 1.0, rows=rows, chance=0.7)
    model = Speculation(world.costs())
    world.run(model, 300)
    world.verify = lambda rows, width, context: (
        launch_bound(rows, width, context) * (1 if width == 1 else 3.2)
    )
    world.run(model, 25)
    assert world.run(model, 150) > 0.97 * world.plain_rate()


def test_what_many_rows_taught_is_not_held_against_few() -> None:
    trust = Trust()
    for _ in range(400):
        trust.note(16, drafter=False, tokens=1.0, ms=1.4)
        trust.plan(16)
    assert trust.factor(15, drafter=False) == trust.factor(16, drafter=False) < 0.8
    assert trust.factor(1, drafter=False) == trust.factor(4, drafter=False) == 1.0
    assert trust.factor(16, drafter=True) == 1.0
    for _ in range(8000):
        trust.plan(16)
    assert trust.factor(16, drafter=False) > 0.98


def test_promises_that_are_not_kept_on_the_whole_are_seen_through() -> None:
    """The usual step gains; a third of them take so much longer that all together lose."""
    world = World(launch_bound, lambda *_: 1.0, rows=4, chance=0.35, hitch=4.0)
    model = Speculation(world.costs())
    world.run(model, 1000)
    assert world.run(model, 3000) > 0.98 * world.plain_rate()


def test_a_table_that_slanders_wide_steps_is_found_out() -> None:
    world = gpu(8, chance=0.8)
    lie = {s: ms * (5 if s.width > 1 else 1) for s, ms in table(launch_bound).items()}
    model = Speculation(StepCosts(lie, table(world.draft, (1,))))
    world.run(model, 6 * LONGEST)
    assert world.run(model, 300) > 0.9 * world.best_fixed_rate()


def test_a_forward_that_ran_meanwhile_makes_plain_decoding_no_cheaper() -> None:
    prices = Prices(StepCosts({Shape(1, 1, 1024): 60.0}))

    def plain_ms() -> float:
        return prices.of(1, 1024, drafter=False, trees=False)[0][0]

    for step in range(100):
        prices.rested([Idle(1, 60.0 if step % 4 else 5.0, ahead=True)])  # a prompt was read, say
    assert plain_ms() == pytest.approx(60)
    for _ in range(100):
        prices.rested([Idle(1, 48.0, ahead=True)])
    assert plain_ms() == pytest.approx(48, rel=0.02)


def test_no_trial_counts_twice() -> None:
    """A lone row is all that is known of its task, and of all: three misfortunes are just three."""
    acceptance = Acceptance()
    for _ in range(3):
        acceptance.record("a", "t", BLOCK, 0)
    first = acceptance.expected("a", "t", BLOCK)[1] - 1
    assert first == pytest.approx(0.72 * 4 / (4 + 3), rel=0.05)
    assert acceptance.expected("b", "t", BLOCK)[1] - 1 == pytest.approx(
        0.72 * 5 / (5 + 3), rel=0.05
    )
    other = acceptance.expected("c", "u", BLOCK)[1] - 1
    assert other == pytest.approx(0.72 * 12 / (12 + 3), rel=0.05)


def test_what_is_forced_is_no_merit_of_the_tree_behind_it() -> None:
    model = Speculation(StepCosts({Shape(1, 1, 1024): 1.0}))
    tree = Offer("tree", 15, 15, 5)
    for _ in range(40):
        model.record(Outcome("a", "t", tree, 6, 5))  # what follows is wrong
        model.record(Outcome("a", "t", tree, 15, 15, used=False))
        model.record(Outcome("a", "t", tree, 3, 2))  # what was forced was wrong: another matter
    curve = model._curve(RowView("a", "t", 100), tree)
    assert len(curve) == 16
    assert curve[5] == pytest.approx(6, abs=0.6)
    assert curve[5] == curve[7]
    assert curve[5] + 3 < curve[15] < curve[5] + 6


def test_tasks_and_rows_differ() -> None:
    acceptance = Acceptance()
    for _ in range(40):
        acceptance.record("a", "bullets", BLOCK, 15)
        acceptance.record("b", "summary", BLOCK, 0)
    assert acceptance.expected("d", "bullets", BLOCK)[15] > 6
    assert acceptance.expected("e", "summary", BLOCK)[15] < 3
    for _ in range(40):
        acceptance.record("c", "summary", BLOCK, 15)
    good, bad = (acceptance.expected(row, "summary", BLOCK)[15] for row in "cb")
    assert good > 6
    assert bad < 3


def test_copies_are_counted_by_their_match_length() -> None:
    acceptance = Acceptance()
    yields = [acceptance.expected("a", "t", Offer("copy", 15, n))[15] for n in (1, 2, 3, 5, 9)]
    assert yields == sorted(yields)
    for _ in range(30):
        acceptance.record("a", "t", Offer("copy", 15, 1), 0)
    assert acceptance.expected("a", "t", Offer("copy", 15, 1))[15] < 1.3
    assert acceptance.expected("a", "t", Offer("copy", 15, 40))[15] == yields[-1]


@given(
    st.sampled_from(["dflash", "copy", "forced", "spliced"]),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=30),
)
def test_a_longer_draft_never_yields_less(source: Source, drafts: list[tuple[int, int]]) -> None:
    acceptance = Acceptance()
    for drafted, accepted in drafts:
        acceptance.record("a", "t", Offer(source, drafted, 2), min(drafted, accepted))
    curve = acceptance.expected("a", "t", Offer(source, 15, 2))
    assert len(curve) == 16
    assert curve[0] == 1
    steps = [b - a for a, b in pairwise(curve)]
    assert all(0 <= step <= 1 for step in steps)
    assert steps == sorted(steps, reverse=True)


def test_what_has_left_is_forgotten() -> None:
    acceptance = Acceptance()
    for i in range(2 * MOST_TASKS):
        acceptance.record(f"row {i}", f"task {i}", BLOCK, 3)
        acceptance.expected(f"row {i}", f"task {i}", BLOCK)
        acceptance.forget(f"row {i}")
    assert len(acceptance._tasks) == MOST_TASKS
    assert not acceptance._rows
    assert not acceptance._curves
    assert len(acceptance._priors) < 100


def test_checking_a_draft_against_what_was_gained() -> None:
    assert checked([1, 2, 3], [1, 2, 9]) == (3, 2)
    assert checked([1, 2, 3], [1]) == (1, 1)
    assert checked([4], [1]) == (1, 0)
    assert checked([], [1]) == (0, 0)


def test_expected_tokens_of_certain_and_hopeless_drafts() -> None:
    assert tokens_expected([1.0] * 3) == (1, 2, 3, 4)
    assert tokens_expected([0.0] * 3) == (1, 1, 1, 1)
    assert prior_chances("copy", 0)[0] < prior_chances("copy", 0)[8]


def test_drafts_are_cut_to_the_width_and_each_row_gets_its_best() -> None:
    model = Speculation(World(launch_bound, lambda *_: 0.05).costs())
    plan = model.choose(
        [
            RowView("a", "t", 900, (BLOCK, Offer("copy", 15, 20))),
            RowView("b", "t", 500, (BLOCK, Offer("copy", 15, 1))),
            RowView("c", "t", 500),
        ]
    )
    assert plan.shape == Shape(3, plan.shape.width, 900)
    assert plan.uses_drafter
    copy, block, nothing = plan.offers
    assert copy is not None
    assert copy.source == "copy"
    assert block is not None
    assert block.source == "dflash"
    assert nothing is None
    assert copy.length == min(15, plan.shape.width - 1)


def test_without_drafts_it_decodes_plainly() -> None:
    model = Speculation(gpu(1).costs())
    for _ in range(200):
        plan = model.choose([RowView("a", "t", 100), RowView("b", "t", 100)])
        assert plan.shape.width == 1
        assert plan.offers == (None, None)
        assert not plan.uses_drafter
        model.observe(plan, 5.0, drafted=False)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 15), st.integers(0, 12)), min_size=1, max_size=8),
    st.floats(0.1, 100),
    st.floats(0, 5),
)
def test_no_plan_is_expected_to_be_slower_than_plain(
    copies: list[tuple[int, int]], wide_ms: float, block: float
) -> None:
    verify = table(lambda rows, width, context: 1.0 + wide_ms * (width - 1))
    draft = table(lambda rows, width, context: 0.1 + block, (1,))
    model = Speculation(StepCosts(verify, draft))
    views = [
        RowView(str(i), "t", 900, (BLOCK, Offer("copy", length, match)))
        for i, (length, match) in enumerate(copies)
    ]
    plan = model.choose(views)
    plain = len(views) / model._prices._costs.verify.predict(len(views), 1, 900)
    assert plan.shape.width == 1 or plan.tokens / plan.ms > plain * MARGIN


def test_counters_add_up() -> None:
    world = gpu(2, chance=0.8)
    world.noise = 0.0
    model = Speculation(world.costs())
    rate = world.run(model, 200)
    model.choose([world.view(0)])  # closes the last step
    stats = model.stats()
    assert sum(steps for _, steps in stats.steps_by_width) == 201
    assert stats.tokens == world.tokens
    assert stats.tokens == 400 + sum(source.accepted for source in stats.sources)
    assert stats.gain == pytest.approx(rate / world.plain_rate(), rel=0.05)
    assert {source.source for source in stats.sources} == {"dflash"}
    assert Speculation(world.costs()).stats().gain == 1.0


def test_retries_are_paid_from_their_account() -> None:
    retries = Retries()
    for _ in range(100):
        retries.settle(10.0, 10.0, None)
    assert retries.due() == ["plain", "free", "drafter"]
    assert not retries.affords("drafter", 11.0, 10.0)
    assert "drafter" not in retries.due()
    assert retries.affords("free", 9.0, 10.0)
    retries.settle(18.0, 9.0, "free")
    assert "free" not in retries.due()
    assert not retries.affords("plain", 5.0, 10.0)
