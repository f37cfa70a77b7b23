"""Step costs: filled in from few points, kept current, kept on disk."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.planning.cost import CONTEXTS, ROWS, LatencyTable, Shape, StepCosts
from pipeline.engine.planning.cost_file import from_json, load_costs, save_costs, to_json
from pipeline.engine.planning.cost_points import measure, plan_shapes, wide_shapes
from pipeline.engine.planning.widths import CHAIN_WIDTHS, WIDTHS
from tests.simulated import compute_bound, launch_bound, table

shapes = st.builds(Shape, st.sampled_from(ROWS), st.sampled_from(WIDTHS), st.sampled_from(CONTEXTS))
points = st.dictionaries(shapes, st.floats(0.1, 1e4), min_size=1, max_size=20)


@settings(max_examples=40)
@given(points)
def test_measured_points_are_given_back_and_all_others_filled_in(
    measured: dict[Shape, float],
) -> None:
    costs = LatencyTable(measured)
    for shape, ms in measured.items():
        assert costs.predict(*shape) == pytest.approx(ms)
    for rows in (0, 1, 3, 64, 200):
        for context in (0, 256, 700, 50_000):
            assert np.isfinite(costs.predict_widths(rows, context)).all()


def test_between_points_the_time_lies_between() -> None:
    costs = LatencyTable(table(compute_bound))
    low, high = costs.predict(4, 8, 1024), costs.predict(8, 8, 4096)
    assert low < costs.predict(6, 8, 2000) < high
    assert costs.predict(6, 8, 1024) == pytest.approx(compute_bound(6, 8, 1024), rel=0.1)
    assert costs.predict(4, 5, 1024) == low  # padded to 8


def test_a_few_points_carry_the_form_of_the_table_over() -> None:
    measured = {shape: compute_bound(*shape) for shape in plan_shapes(16, 8192)}
    assert len(measured) < 30
    costs = LatencyTable(measured)
    for rows in (1, 2, 4, 8, 16):
        for width in WIDTHS:
            for context in CONTEXTS:
                true = compute_bound(rows, width, context)
                assert costs.predict(rows, width, context) == pytest.approx(true, rel=0.25)


def test_past_the_measured_rows_the_slope_goes_on() -> None:
    costs = LatencyTable({Shape(r, 1, 1024): 10.0 * r for r in (1, 2, 4)})
    assert costs.predict(16, 1, 1024) == pytest.approx(160)
    falling = LatencyTable({Shape(1, 1, 1024): 10.0, Shape(4, 1, 1024): 5.0})
    assert falling.predict(64, 1, 1024) == pytest.approx(5)


@pytest.mark.parametrize("ms", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_time_is_refused(ms: float) -> None:
    with pytest.raises(ValueError, match="ms="):
        LatencyTable({Shape(1, 1, 256): ms})


def test_a_point_off_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        LatencyTable({Shape(3, 1, 256): 1.0})


def test_seen_steps_correct_the_table_in_spite_of_outliers() -> None:
    rng = random.Random(5)
    costs = StepCosts(table(launch_bound))
    before = costs.verify.predict(4, 8, 1024)
    costs.observe(Shape(4, 8, 1024), 9000.0)  # compiles
    assert costs.verify.predict(4, 8, 1024) == before
    for i in range(40):
        costs.observe(Shape(4, 8, 1024), 500.0 if i % 10 == 0 else 3 * before * rng.gauss(1, 0.03))
        assert costs.verify.predict(4, 8, 1024) < 4 * before
    assert costs.verify.predict(4, 8, 1024) == pytest.approx(3 * before, rel=0.05)
    assert costs.verify.predict(4, 1, 1024) == pytest.approx(launch_bound(4, 1, 1024), rel=0.1)


def test_a_load_that_comes_and_goes_is_the_same_for_all_shapes() -> None:
    shapes = [Shape(4, width, 1024) for width in CHAIN_WIDTHS]
    costs = StepCosts(table(launch_bound))
    for load, number in ((1.0, 10), (4.0, 20), (1.0, 20)):
        for _ in range(number):
            for shape in shapes:
                costs.observe(shape, load * launch_bound(*shape))
        for shape in shapes:
            right = pytest.approx(load * launch_bound(*shape), rel=0.1)
            assert costs.verify.predict(*shape) == right


def test_a_shape_that_alone_becomes_slower_leaves_the_others_alone() -> None:
    wide, plain = Shape(8, 8, 1024), Shape(8, 1, 1024)
    costs = StepCosts(table(compute_bound))
    for factor, number in ((1.0, 1), (1.25, 30)):
        for _ in range(12):
            for _ in range(number):
                costs.observe(wide, factor * compute_bound(*wide))
            costs.observe(plain, compute_bound(*plain))
    assert costs.verify.predict(*plain) == pytest.approx(compute_bound(*plain), rel=0.03)
    assert costs.verify.predict(*wide) == pytest.approx(1.25 * compute_bound(*wide), rel=0.03)


def test_a_passing_slowness_is_forgotten_and_a_lasting_one_kept() -> None:
    def after(steps: int) -> float:
        costs = StepCosts(table(launch_bound))
        for _ in range(steps):
            costs.observe(Shape(4, 8, 1024), 50.0)
        for _ in range(3000):
            costs.observe(Shape(4, 1, 1024), launch_bound(4, 1, 1024))
        return costs.verify.predict(4, 8, 1024)

    assert after(4) < 10
    assert after(100) > 40


@pytest.mark.parametrize(("known", "verify_ms"), [(True, 16.0), (False, 8.0)])
def test_a_step_with_the_drafter_corrects_both_tables(known: bool, verify_ms: float) -> None:
    """Unless the verify is not known well yet: what is too much is then the drafter's."""
    costs = StepCosts({Shape(1, 16, 1024): 8.0}, {Shape(1, 1, 1024): 2.0})
    for _ in range(10 if known else 0):
        costs.observe(Shape(1, 16, 1024), 8.0)
    for _ in range(40):
        costs.observe(Shape(1, 16, 1024), 20.0, drafted=True)
    found_ms = costs.verify.predict(1, 16, 1024)
    assert found_ms == pytest.approx(verify_ms, rel=0.04)
    assert found_ms + costs.draft.predict(1, 1, 1024) == pytest.approx(20, rel=0.02)


class FakeClock:
    """Time passes only where a forward is run."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.calls: list[tuple[int, int, int]] = []

    def __call__(self) -> float:
        return self.now_s

    def run(self, rows: int, width: int, context: int) -> None:
        shape = (rows, width, context)
        compiling_s = 0.05 if shape not in self.calls else 0.0
        self.calls.append(shape)
        busy = 3 if len(self.calls) % 4 == 0 else 1
        self.now_s += compute_bound(*shape) / 1e3 * busy + compiling_s


def test_measuring_takes_the_least_of_a_few_after_a_warm_up() -> None:
    clock = FakeClock()
    plan = plan_shapes(8, 1024)
    found = measure(clock.run, plan, 600.0, clock)
    assert list(found) == plan
    assert found == {shape: pytest.approx(compute_bound(*shape)) for shape in plan}


def test_measuring_keeps_to_its_budget() -> None:
    clock = FakeClock()
    found = measure(clock.run, plan_shapes(64, 8192), 3.0, clock)
    assert 4 <= len(found) < len(plan_shapes(64, 8192))
    assert {shape.width for shape in found} >= {1, 16}  # else wide steps would seem free
    assert clock.now_s - 100 < 3.5
    assert len(measure(clock.run, plan_shapes(64, 8192), 0.0, clock)) == 1


def test_kernels_that_are_compiled_first_leave_time_for_all_shapes() -> None:
    clock = FakeClock()
    plan = plan_shapes(8, 1024)
    called: list[Shape] = []

    def run(rows: int, width: int, context: int) -> None:
        clock.now_s += 0 if called else 40.0
        called.append(Shape(rows, width, context))
        clock.run(rows, width, context)

    assert list(measure(run, plan, 39.0, clock)) == plan


def test_the_plan_fits_the_engine() -> None:
    for most_rows, most_context in ((1, 100), (3, 256), (16, 2048), (64, 10**6)):
        plan = plan_shapes(most_rows, most_context)
        assert len(set(plan)) == len(plan)
        assert all(shape.rows <= most_rows for shape in plan)
        assert all(shape.context <= max(256, most_context) for shape in plan)
        assert {shape.width for shape in plan} == set(CHAIN_WIDTHS)
    assert {s.width for s in plan_shapes(8, 8192, widths=(1,))} == {1}


def test_the_width_of_large_trees_is_measured_for_itself_in_a_time_of_its_own() -> None:
    wide = wide_shapes(64, 8192, WIDTHS)
    assert wide == [Shape(1, 32, 1024), Shape(4, 32, 1024)]
    assert wide_shapes(64, 8192, CHAIN_WIDTHS) == []
    clock = FakeClock()
    usual = measure(clock.run, plan_shapes(64, 8192), 5.0, clock)
    for budget_s, count in ((9.0, 2), (1.0, 1), (0.3, 0)):
        began_s = clock.now_s
        found = measure(clock.run, wide, budget_s, clock, usual)
        assert clock.now_s - began_s < budget_s + 0.2
        assert len(found) == len(usual) + count
        assert found.items() >= usual.items()
        assert LatencyTable(found).widest == (32 if count else 16)


def test_costs_are_kept_on_disk_privately(tmp_path: Path) -> None:
    path = tmp_path / "new" / "costs.json"
    costs = StepCosts(table(launch_bound), table(compute_bound, (1,)))
    save_costs(costs, path)
    save_costs(costs, path)
    kept = load_costs(path)
    assert kept is not None
    assert kept.verify.predict(3, 4, 500) == pytest.approx(costs.verify.predict(3, 4, 500), 1e-3)
    assert kept.draft.predict(3, 1, 500) == pytest.approx(costs.draft.predict(3, 1, 500), 1e-3)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["costs.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        json.dumps({"format": 99, "verify": [], "draft": []}),
        json.dumps({"format": 1, "verify": [], "draft": []}),
        json.dumps({"format": 1, "verify": [[1, 1, 256, -3]], "draft": []}),
        json.dumps({"format": 1, "verify": [[1, 1, 256]], "draft": []}),
        json.dumps({"format": 1, "verify": [[1, 1, 257, 3]], "draft": []}),
        json.dumps({"format": 1, "verify": [[1, 1, 256, "x"]], "draft": []}),
        json.dumps({"format": 1, "verify": [[1, 1, 256, 3]]}),
        json.dumps({"format": 1, "verify": [[1, 1, 256, None]], "draft": []}),
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "costs.json").write_text(text)
    assert load_costs(tmp_path / "costs.json") is None
    with pytest.raises(ValueError, match=r".+"):
        from_json(text)


def test_bytes_that_are_no_text_and_no_file_at_all(tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_bytes(b"\xff\xfe\x00")
    assert load_costs(tmp_path / "costs.json") is None
    assert load_costs(tmp_path) is None
    assert load_costs(tmp_path / "none") is None


def test_json_survives_a_round() -> None:
    costs = StepCosts(table(launch_bound))
    assert from_json(to_json(costs)).verify.measured == pytest.approx(costs.verify.measured)
