"""A training goes on as if it had never stopped, and ends when it should, keeping what is good."""

import itertools
import resource
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.engine.drafters.drafter_config import read_config
from pipeline.errors import EngineError, InputError
from pipeline.training import checkpoint as training_room
from pipeline.training import judge, trainer
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.examples import Example, make_blocks, stack
from pipeline.training.features import Features
from pipeline.training.memory import check_memory, estimate_memory
from pipeline.training.model import Draft, Parameters, TrainableDrafter, new_parameters
from pipeline.training.recipe import Recipe
from pipeline.training.shape import new_shape, pick_mask_token, tap_layers, write_shape
from pipeline.training.trainer import learning_rate
from pipeline.training.training import Progress, Trained, Training
from pipeline.training.walks import Drafted
from tests.tiny_training import (
    RECIPE,
    info_of,
    make_examples,
    teacher_of,
    write_followers,
)

QUICK = replace(RECIPE, steps=14, evaluate_every=5, rows=2, anchors=4)


class Course:
    """A training of a tiny drafter, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._target = write_followers(folder / "target")
        self._folder = folder
        self.told: list[Progress] = []

    def training(self, name: str, recipe: Recipe = QUICK, *, cache: int = 0) -> Training:
        info = info_of(self._target)
        config_json: dict[str, Any] = {
            "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
            "num_hidden_layers": 2, "vocab_size": 512, "intermediate_size": 96,
        }  # fmt: skip
        self.config = write_shape(
            self._folder / name, new_shape(config_json, info, recipe, mask_token=1)
        )
        teacher = teacher_of(self._target, self.config.target_layer_ids)
        return Training(
            TrainableDrafter(self.config, teacher, recipe.soft),
            recipe,
            Features(teacher, self._folder / name / "cache", cache),
            make_examples(60),
            make_examples(6, seed=9),
            Checkpoints(self._folder / name / "checkpoints"),
        )

    def run(self, name: str, recipe: Recipe = QUICK, stop_at: int = 0, **more: Any) -> Trained:
        training = self.training(name, recipe, **more)
        seen = itertools.count()
        return training.run(
            new_parameters(self.config, recipe.seed),
            lambda: bool(stop_at) and next(seen) == stop_at,
            self.told.append,
        )

    def checkpoints(self, name: str) -> Checkpoints:
        return Checkpoints(self._folder / name / "checkpoints")


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return Course(tmp_path)


def assert_equal(one: Parameters, other: Parameters) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.array_equal(np.array(value), np.array(other[name])), name


@pytest.mark.parametrize("stops", [(3,), (5,), (1, 6), (7, 2)])
@pytest.mark.parametrize("cache", [0, 1 << 20])
def test_going_on_gives_the_same_bits(course: Course, stops: tuple[int, ...], cache: int) -> None:
    whole = course.run("whole", cache=cache)
    for stop in stops:
        assert course.run("parts", stop_at=stop, cache=cache).ending == "stopped"
    parts = course.run("parts", cache=cache)
    assert (whole.ending, whole.step) == (parts.ending, parts.step) == ("done", 14)
    assert_equal(whole.parameters, parts.parameters)
    ends = [course.checkpoints(name).last() for name in ("whole", "parts")]
    assert ends[0] is not None
    assert ends[1] is not None
    for part in ("parameters", "means", "squares"):
        assert_equal(getattr(ends[0][0], part), getattr(ends[1][0], part))
    assert whole.course.marks == parts.course.marks


def test_a_kill_loses_what_came_after_the_last_checkpoint_only(course: Course) -> None:
    whole = course.run("whole")
    killed = course.training("killed")

    def tell(now: Progress) -> None:
        if now.step == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed.run(new_parameters(course.config, QUICK.seed), progress=tell)
    found = course.checkpoints("killed").last()
    assert found is not None
    assert found[0].step == 10
    assert_equal(course.run("killed").parameters, whole.parameters)


def test_the_same_seed_gives_the_same_curve_and_another_one_another(course: Course) -> None:
    curves = [
        course.run(name, replace(QUICK, seed=seed)).course.marks
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert curves[0] == curves[1] != curves[2]


def test_training_learns_what_an_untrained_drafter_cannot(course: Course) -> None:
    recipe = replace(RECIPE, steps=120, evaluate_every=60)
    untrained = course.training("untrained", recipe)
    before = untrained._judge.accepted(
        new_parameters(course.config, recipe.seed), untrained._heldout
    )
    after = course.run("trained", recipe).course.best
    assert before < 1.2
    assert after is not None
    assert after.accepted > 2  # of 4


@pytest.mark.parametrize("changes", [{"soft": 0.5}, {"reuse": 1}, {"decay": 2.0}])
def test_the_loss_falls_with_every_recipe(course: Course, changes: dict[str, Any]) -> None:
    course.run("one", replace(QUICK, steps=30, **changes))
    assert course.told[-1].loss < course.told[0].loss
    assert course.told[-1].step == course.told[-1].steps == 30
    assert course.told[-1].tokens_per_s > 0


def test_a_loss_that_diverges_ends_the_training_with_the_last_good_weights(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wild(_recipe: Recipe, step: int, _steps: int) -> float:
        return 5e-3 if step < 30 else 5.0

    monkeypatch.setattr(trainer, "learning_rate", wild)
    trained = course.run("wild", replace(QUICK, steps=60, evaluate_every=10))
    assert trained.ending == "diverged"
    assert 30 <= trained.step < 60
    best = course.checkpoints("wild").best()
    assert best is not None
    assert_equal(best[0], trained.parameters)
    assert best[1].marks[-1].step <= 30
    assert all(np.isfinite(np.array(value)).all() for value in trained.parameters.values())


def test_a_loss_that_is_no_number_before_anything_was_learnt_says_what_to_lower(
    course: Course,
) -> None:
    training = course.training("bad")
    broken = new_parameters(course.config, 1)
    broken["fc.weight"] = broken["fc.weight"] * float("nan")
    with pytest.raises(EngineError, match=r"diverged at step=1 of 14.*lower learning_rate"):
        training.run(broken)


def test_it_ends_early_when_nothing_gets_better(course: Course) -> None:
    still = replace(QUICK, steps=100, learning_rate=0.0, evaluate_every=2, patience=3)
    trained = course.run("still", still)
    assert (trained.ending, trained.step) == ("early", 8)
    again = course.run("still", still)
    assert (again.ending, again.step) == ("early", 8)


def test_a_time_is_made_into_steps(course: Course) -> None:
    trained = course.run("timed", replace(QUICK, steps=0, minutes=0.02, evaluate_every=0))
    assert trained.ending == "done"
    assert trained.step == trained.course.steps > 1
    assert trained.course.seconds < 60


def test_two_checkpoints_stay_and_the_best(course: Course, tmp_path: Path) -> None:
    course.run("one")
    kept = sorted(path.name for path in (tmp_path / "one" / "checkpoints").iterdir())
    assert kept == ["best", "step-00000010", "step-00000014"]


@contextmanager
def small_files(most: int) -> Generator[None]:
    """As on a full disk: no file gets longer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_and_nothing_is_lost(
    course: Course, capfd: pytest.CaptureFixture[str]
) -> None:
    assert course.run("one", stop_at=6).ending == "stopped"
    with (
        capfd.disabled(),  # what pytest captures goes to files, too
        small_files(50_000),
        pytest.raises(EngineError, match=r"can't be written.*make room"),
    ):
        course.run("one")
    found = course.checkpoints("one").last()
    assert found is not None
    assert found[0].step == 6
    assert_equal(course.run("one").parameters, course.run("whole").parameters)


def test_a_damaged_checkpoint_is_named(course: Course, tmp_path: Path) -> None:
    course.run("one", stop_at=3)
    (tmp_path / "one/checkpoints/step-00000003/state.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match=r"step-00000003.*can't be read.*remove it"):
        course.run("one")


def test_a_cache_over_its_budget_is_left_and_changes_nothing(
    course: Course, tmp_path: Path
) -> None:
    plain = course.run("plain")
    cached = course.run("cached", cache=60_000)
    files = list((tmp_path / "cached" / "cache").glob("*.safetensors"))
    assert 0 < len(files) < 15
    assert sum(file.stat().st_size for file in files) < 70_000
    for name, value in plain.parameters.items():
        np.testing.assert_allclose(
            np.array(value), np.array(cached.parameters[name]), rtol=0, atol=1e-3
        )


def test_the_rate_rises_then_falls() -> None:
    recipe = Recipe(learning_rate=1.0, warmup=0.1)
    rates = [learning_rate(recipe, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.02


def test_layers_are_tapped_where_the_authors_do() -> None:
    assert tap_layers(30, 5) == [1, 8, 14, 20, 27]
    assert tap_layers(36, 5) == [1, 9, 17, 25, 33]
    assert tap_layers(2, 5) == [0, 1]
    assert tap_layers(30, 1) == [27]


def test_the_mask_token_is_one_that_nothing_uses(tmp_path: Path) -> None:
    info = info_of(write_followers(tmp_path / "target"))
    assert pick_mask_token(info.tokenizer_json, 10_000, {2}, "") < 10_000
    assert pick_mask_token(info.tokenizer_json, 3, {2}, "<|im_start|> <|im_end|>") == 0
    assert pick_mask_token(info.tokenizer_json, 3, {0}, "<|im_end|>") == 1


def test_a_target_without_the_structure_is_refused() -> None:
    with pytest.raises(InputError, match="no num_attention_heads"):
        new_shape(
            {"model_type": "mamba2", "hidden_size": 8, "num_hidden_layers": 2, "vocab_size": 9},
            None, Recipe(), 0,  # type: ignore[arg-type]
        )  # fmt: skip


def test_too_little_memory_is_told_with_what_to_lower(tmp_path: Path) -> None:
    course = Course(tmp_path)
    course.training("one")
    shape: dict[str, Any] = {
        "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 5,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "dflash_config": {"target_layer_ids": [1, 9, 17, 25, 33]},
    }  # fmt: skip
    recipe = Recipe(rows=64)
    need = estimate_memory(shape, recipe, 2 << 30, 2, fused=False)
    check_memory(need, 10**15, recipe)
    with pytest.raises(InputError, match=r"needs about .* GiB .*lower --rows to \d+ \(now 64\)"):
        check_memory(need, 64 << 30, recipe)
    with pytest.raises(InputError, match=r"lower --rows to 1 and --anchors"):
        check_memory(need, 16 << 30, recipe)
    lower = replace(recipe, rows=32)
    assert estimate_memory(shape, lower, 2 << 30, 2, fused=False).layers == need.layers // 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"block": 17}, "block=17"), ({"soft": 2.0}, "soft=2.0"), ({"rows": 0}, "rows=0")],
)
def test_values_that_make_no_sense_are_named(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        replace(Recipe(), **changes).check()


def test_what_is_computed_is_the_written_config(course: Course, tmp_path: Path) -> None:
    course.training("one")
    assert read_config(tmp_path / "one") == course.config
    assert course.config.block_size == 4


def test_a_judge_drafts_what_is_drafted_place_by_place(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces, in batches of other lengths, the blocks are those of one place alone."""
    training = course.training("one")
    parameters = new_parameters(course.config, 3)
    examples = make_examples(5, seed=4)
    monkeypatch.setattr(judge, "slots_at_once", lambda _vocabulary: 7)
    monkeypatch.setattr(judge, "BLOCKS", 12)
    found = dict(_keyed(training._judge._draft(parameters, examples, others=True)))
    monkeypatch.undo()
    for example in examples:
        drafted = found[example.key]
        assert drafted.likeliest.shape == (len(example.tokens) - example.start, 3)
        for place in (0, len(drafted.likeliest) - 1):
            batch = stack([example])
            blocks = make_blocks(batch, [[example.start - 1 + place]], 4, 1.0)
            hidden = training._drafter.hidden(
                parameters, Draft(training._features.of(batch), blocks)
            )
            logits = np.array(training._drafter.scores(hidden.reshape(3, -1)))
            assert drafted.likeliest[place].tolist() == logits.argmax(axis=-1).tolist()


def _keyed(pairs: Iterable[tuple[Example, Drafted]]) -> Iterator[tuple[str, Drafted]]:
    return ((example.key, drafted) for example, drafted in pairs)


def test_batches_that_differ_are_no_divergence(course: Course) -> None:
    training, reuse = course.training("one"), QUICK.reuse
    how = training_room.Course(1000)
    chance = np.random.default_rng(2)
    for step in range(400):  # from 11 down to 3, give or take 2 for each batch
        if step % reuse == 0:
            hardness = float(chance.uniform(-2, 2))
        loss = 3 + 8 * 0.99**step + hardness  # pyright: ignore[reportPossiblyUnboundVariable]
        assert not training._diverges(loss, step, how)
    steps = 0
    while not training._diverges(11.0, 400 + steps, how):
        steps += 1
    assert steps < 20 * reuse


def test_an_easy_first_batch_of_a_warm_start_is_no_divergence(course: Course) -> None:
    training, how = course.training("one"), training_room.Course(1000)
    for step in range(200):
        assert not training._diverges(1.0 if step < QUICK.reuse else 4.0, step, how)
