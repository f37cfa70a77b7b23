"""Trees of more tokens than a chain has: where they pay, what they cost, how they are learnt."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.engine import tree
from pipeline.engine.core import Core
from pipeline.engine.drafters.drafter import Blocks, Drafter
from pipeline.engine.drafters.drafter_loader import load_drafter
from pipeline.engine.drafters.growing import Beginning
from pipeline.engine.drafting.calibrate import known_costs
from pipeline.engine.drafting.every_draft import EverySpeculation
from pipeline.engine.interface import CoreOptions, ModelInfo
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.engine.planning.acceptance import (
    LARGEST_TREE,
    POSITIONS,
    Acceptance,
    Offer,
    prior_chances,
)
from pipeline.engine.planning.cost import Shape, StepCosts
from pipeline.engine.planning.plan import Outcome, Plan, RowView
from pipeline.engine.planning.prices import Prices
from pipeline.engine.planning.speculation import Speculation
from pipeline.engine.planning.widths import CHAIN_WIDTHS, WIDTHS
from pipeline.engine.targets.target import Target
from pipeline.training.evaluate import speeds
from pipeline.training.report import Figure
from tests.plain_decoding import Desk, ask
from tests.simulated import Latency, World, compute_bound, table
from tests.tiny import CORPUS, write_llama
from tests.tiny_drafter import write_llama_drafter

LARGE, USUAL = Offer("tree", 31, 31), Offer("tree", 15, 15)


def memory_bound(rows: int, width: int, context: int) -> float:
    """A large model: reading its weights takes most of the time of up to some dozens of tokens."""
    return 20 + 0.02 * rows * width + context / 4096


def dear_when_wide(rows: int, width: int, context: int) -> float:
    """Wide steps pay, but those of 32 cost half as much again as those of 16."""
    return memory_bound(rows, width, context) * (1.5 if width == 32 else 1)


def world_of(latency: Latency, rows: int = 1, large: float = 0.7) -> World:
    world = World(latency, lambda *_: 2.0, rows, chance=0.5, tree_chance=0.62, tree_part=1.05)
    world.large_chance = large
    return world


def is_large(plan: Plan) -> bool:
    return any(o is not None and o.source == "tree" and o.length > 15 for o in plan.offers)


def test_the_rooms_agree_on_sizes() -> None:
    assert tuple(width - 1 for width in WIDTHS if width > 2) == tree.SIZES
    assert (tree.USUAL, tree.LARGEST, tree.DEEPEST) == (POSITIONS, LARGEST_TREE, POSITIONS)


@pytest.mark.parametrize("rows", [1, 4, 8])
def test_they_are_run_where_they_pay(rows: int) -> None:
    world = world_of(memory_bound, rows)
    assert world.tree_rate(large=True) > 1.1 * world.tree_rate()
    model = Speculation(world.costs())
    world.run(model, 300)
    assert world.run(model, 600) > 0.93 * world.tree_rate(large=True)
    assert dict(model.stats().steps_by_width)[32] > 500


@pytest.mark.parametrize("rows", [1, 8])
def test_they_are_left_where_they_give_no_more(rows: int) -> None:
    """A verify of 32 costs a tenth more here; the prior of large trees promises too much."""

    def dearer(rows: int, width: int, context: int) -> float:
        return memory_bound(rows, width, context) * (1.1 if width == 32 else 1)

    world = world_of(dearer, rows, large=0.625)
    model = Speculation(world.costs())
    world.run(model, 300)
    before = dict(model.stats().steps_by_width)[32]
    assert world.run(model, 600) > 0.93 * world.tree_rate()
    assert dict(model.stats().steps_by_width)[32] - before < 60


@pytest.mark.parametrize("rows", [1, 8])
def test_they_are_not_even_grown_where_wide_steps_cost_too_much(rows: int) -> None:
    world = world_of(compute_bound, rows, large=0.99)
    model = Speculation(world.costs())
    assert all(model.largest_tree(n, 1000) == 15 for n in range(1, 9))
    world.run(model, 300)
    assert dict(model.stats().steps_by_width)[32] == 0


def test_they_are_not_run_where_their_width_was_not_measured() -> None:
    costs = StepCosts(table(memory_bound, CHAIN_WIDTHS), table(memory_bound, (1,)))
    model = Speculation(costs)
    assert model.largest_tree(1, 1000) == 15
    for _ in range(50):
        plan = model.choose([RowView("a", "t", 900, (LARGE,))])
        assert plan.shape.width <= 16
        model.observe(plan, 20.0, drafted=True)


offers = st.lists(
    st.one_of(
        st.builds(Offer, st.sampled_from(["dflash", "forced", "spliced"]), st.integers(1, 15)),
        st.builds(Offer, st.just("copy"), st.integers(1, 15), st.integers(1, 16)),
        st.integers(3, 31).map(lambda size: Offer("tree", size, size)),
    ),
    max_size=4,
    unique_by=lambda offer: offer.source,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(offers, min_size=1, max_size=4), st.booleans(), st.integers(0, 99))
def test_the_width_of_large_trees_is_run_for_them_alone(
    rows: list[list[Offer]], falling: bool, seed: int
) -> None:
    """Also where it seems to cost less than that of chains, and whatever is tried again."""
    chance = random.Random(seed)

    def latency(rows: int, width: int, context: int) -> float:
        return memory_bound(rows, width, context) / (2 if falling and width == 32 else 1)

    model = Speculation(StepCosts(table(latency), table(lambda *_: 1.0, (1,))))
    every = EverySpeculation()
    views = [RowView(str(i), "t", 900, tuple(own)) for i, own in enumerate(rows)]
    for _ in range(80):
        plans = model.choose(views), every.choose(views)
        for plan in plans:
            assert plan.shape.width <= 16 or is_large(plan)
            assert all(o is None or o.length < plan.shape.width for o in plan.offers)
            assert all(o is None or o.length <= 15 or o.source == "tree" for o in plan.offers)
            if chance.random() < 0.5:
                continue
            for view, offer in zip(views, plan.offers, strict=True):
                if offer is not None:
                    depth = min(offer.length, 15)
                    accepted = chance.randrange(depth + 1)
                    model.record(Outcome(view.row, view.task, offer, depth, accepted))
        model.observe(plans[0], 20.0, drafted=True)
        every.observe(plans[1], 20.0, drafted=True)


def test_what_they_yield_is_learnt_for_itself() -> None:
    acceptance = Acceptance()
    prior = acceptance.expected("a", "t", LARGE)
    assert len(prior) == 32
    assert prior[15] < prior[16] == prior[31] < 1.15 * prior[15]
    assert prior_chances("tree", LARGE.bucket)[0] > prior_chances("tree", USUAL.bucket)[0]
    for _ in range(60):
        acceptance.record("a", "t", LARGE, 9)
        acceptance.record("a", "t", USUAL, 2)
    learnt = acceptance.expected("a", "t", LARGE)
    assert learnt[31] > 7
    assert learnt[15] < 4
    assert acceptance.expected("a", "t", USUAL) == learnt[:16]
    assert acceptance.expected("a", "t", Offer("tree", 31, 31, 5))[-1] > learnt[31]


def test_large_trees_that_are_dearer_than_foretold_make_no_others_dear() -> None:
    prices = Prices(StepCosts(table(memory_bound), table(lambda *_: 1.0, (1,))))

    def branched() -> list[float]:
        return prices.of(1, 1024, drafter=True, trees=31)[2] or []

    first, shape = branched(), Shape(1, 32, 1024)
    assert len(first) == 6
    assert prices.large_trees_may_pay(1, 1024)
    for _ in range(100):
        prices.observe(shape, 1.4 * first[5], drafted=True, trees=True)
    assert branched()[5] == pytest.approx(1.4 * first[5], rel=0.02)
    assert branched()[:5] == first[:5]
    assert not prices.large_trees_may_pay(1, 1024)
    for _ in range(600):  # what they cost more is forgotten, and they are tried again
        prices.observe(Shape(1, 16, 1024), first[4], drafted=True, trees=True)
    assert prices.large_trees_may_pay(1, 1024)
    assert len(prices.of(1, 1024, drafter=True, trees=15)[2] or []) == 5
    assert [len(part or []) for part in prices.of(1, 1024, drafter=True, trees=31)] == [5, 5, 6]


@pytest.fixture
def info(tmp_path: Path) -> ModelInfo:
    folder = write_llama(tmp_path / "model")
    return ModelInfo("tiny", str(folder), "f", 1024, str(folder / "tokenizer.json"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_llama_drafter(tmp_path / "drafter")


def test_a_row_at_its_end_has_room_beside_rows_with_large_trees(
    info: ModelInfo, checkpoint: Path
) -> None:
    """Their columns would just hold verifies of 16: a wider one is due to other rows."""
    plain = CoreOptions(max_rows=3, kv_bytes=1 << 25, speculate=False)
    drafted = replace(plain, speculate=True, draft_always=True, drafter=str(checkpoint))
    words = " ".join(CORPUS).split()
    texts = [" ".join(words[n : n + 30]) for n in range(6)]
    rendered = [ask(f"r{n}", text, 40) for n, text in enumerate(texts)]
    tokenizer = ChatTokenizer(info.folder)
    asked = [replace(one, max_tokens=240 - len(tokenizer.render(one.messages))) for one in rendered]
    assert all(one.max_tokens > 20 for one in asked)
    core = Core(info, drafted)
    expected, found = Desk(Core(info, plain)).finish(*asked), Desk(core).finish(*asked)
    for one in asked:
        assert found.completion(one.id).text == expected.completion(one.id).text
    stats = core.stats().speculation
    assert stats is not None
    assert dict(stats.steps_by_width)[32] > 5


@pytest.mark.parametrize(("latency", "grown"), [(memory_bound, {31}), (dear_when_wide, {15})])
def test_no_tree_is_grown_larger_than_may_pay(
    latency: Latency,
    grown: set[int],
    info: ModelInfo,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts: list[int] = []
    grow = Drafter.grow

    def note(
        drafter: Drafter, blocks: Blocks, known: Sequence[Beginning], count: int
    ) -> NDArray[np.int32]:
        counts.append(count)
        return grow(drafter, blocks, known, count)

    monkeypatch.setattr(Drafter, "grow", note)
    plain = CoreOptions(max_rows=3, kv_bytes=1 << 25, speculate=False)
    drafted = replace(plain, speculate=True, draft_always=True, drafter=str(checkpoint))
    asked = [ask(f"r{n}", f"{n} {text}", 40) for n, text in enumerate(CORPUS)]
    core = Core(info, drafted)
    costs = StepCosts(table(latency), table(lambda *_: 1.0, (1,)))
    speculation = core._drafts._speculation = Speculation(costs)  # type: ignore[union-attr]
    monkeypatch.setattr(
        Prices, "observe", lambda *_, **__: None
    )  # what steps take here is no matter
    monkeypatch.setattr(Prices, "settle", lambda *_, **__: None)
    for size in tree.SIZES * 60:  # so others were told
        offer, accepted = Offer("tree", size, size), 12 if size == 31 else 1
        speculation.record(Outcome("other", "other", offer, accepted + 1, accepted, used=False))
    expected, found = Desk(Core(info, plain)).finish(*asked), Desk(core).finish(*asked)
    for one in asked:
        assert found.completion(one.id).text == expected.completion(one.id).text
    stats = core.stats().speculation
    assert stats is not None
    assert set(counts) == grown
    assert (dict(stats.steps_by_width)[32] > 0) == (31 in grown)


def test_their_width_is_measured_where_it_can_be_run(
    info: ModelInfo, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCFLASH_CACHE", str(tmp_path / "cache"))
    options = CoreOptions(max_rows=4, drafter=str(checkpoint))
    told: list[str] = []
    for largest in (15, 31, 31, 15):  # 15: as where the target is one kernel
        target = Target(info)
        assert target.largest_tree == 31
        target.largest_tree = largest
        drafter = load_drafter(checkpoint, target)
        assert target.cache.block_columns == largest + 1
        costs = known_costs(info, options, target, drafter, lambda doing, _: told.append(doing))
        assert costs.verify.widest == largest + 1
    assert len(told) == 2  # what was measured without that width is not taken for what has it
    assert Target(info).cache.block_columns == 16  # without a drafter there are no trees


def test_speeds_are_told_of_widths_that_can_be_run() -> None:
    figures = [Figure("all", width, "tree", 9, 400, 100) for width in (16, 32)]
    for widths in (CHAIN_WIDTHS, WIDTHS):
        costs = StepCosts(table(memory_bound, widths), table(lambda *_: 1.0, (1,)))
        assert {speed.width for speed in speeds(figures, costs)} == {16, 32} & {*widths}
