"""What is trained is what is served: the same logits, and each known fault of others is caught."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from pipeline.engine.drafters.drafter_config import read_config
from pipeline.engine.drafters.drafter_loader import load_drafter
from pipeline.training import examples, forward, loss, model
from pipeline.training.examples import Example, make_blocks, stack
from pipeline.training.features import Features, Teacher
from pipeline.training.forward import Sight, see
from pipeline.training.model import Draft, TrainableDrafter, read_parameters
from tests.tiny import target_of
from tests.tiny_drafter import FEW, drafter_config, write_drafter, write_target
from tests.tiny_training import follower, make_examples, teacher_of, write_followers

TOKENS = np.random.default_rng(0).integers(0, FEW, 60).astype(np.int32)
START = 12
ANCHORS = [START - 1, START, 17, 18, 30, 44, 51]
PLANT = Callable[[pytest.MonkeyPatch], None]


def served_logits(folder: Path, checkpoint: Path) -> np.ndarray:
    """The engine's own drafter, anchor by anchor: [A, T - 1, V]."""
    target = target_of(folder)
    drafter = load_drafter(checkpoint, target)
    found = []
    for anchor in ANCHORS:
        target.cache.release()
        target.cache.resize(1, 256)
        target.prefill(0, TOKENS[:anchor].tolist())
        found.append(np.array(drafter.draft([int(TOKENS[anchor])])[1])[0])
    return np.array(found)


def trained_logits(folder: Path, checkpoint: Path) -> np.ndarray:
    """The forward of training, all anchors at once, beside another sequence: [A, T - 1, V]."""
    config = read_config(checkpoint)
    teacher = Teacher(target_of(folder), config.target_layer_ids)
    drafter = TrainableDrafter(config, teacher)
    other = Example("b", "", "", np.array(TOKENS[::-1].tolist() * 2, np.int32), 30)
    batch = stack([Example("a", "", "", TOKENS, START), other])
    blocks = make_blocks(batch, [ANCHORS, [29, 99]], config.block_size, 7.0)
    draft = Draft(Features(teacher).of(batch), blocks)
    hidden = drafter.hidden(read_parameters(checkpoint, config), draft)
    logits = drafter.scores(hidden[0].reshape(-1, config.hidden_size))
    return np.array(logits).reshape(len(ANCHORS), config.block_size - 1, -1)


def check_same(folder: Path, checkpoint: Path) -> None:
    np.testing.assert_allclose(
        trained_logits(folder, checkpoint), served_logits(folder, checkpoint), rtol=0, atol=1e-4
    )


@pytest.fixture(params=[False, True], ids=["parted", "fused"])
def attention(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to attend, whatever the machine would take."""
    monkeypatch.setattr(forward, "uses_fused_attention", lambda: request.param)


@pytest.mark.usefixtures("attention")
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt_oss", "gemma3_text", "qwen3_next"])
def test_training_computes_what_is_served(kind: str, tmp_path: Path) -> None:
    folder = write_target(tmp_path / "target", kind, seed=3)
    check_same(folder, write_drafter(tmp_path / "drafter", drafter_config()))


SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 12}


@pytest.mark.usefixtures("attention")
@pytest.mark.parametrize(
    "changes",
    [
        SLIDING,
        SLIDING | {"is_causal": False},
        {"is_causal": True},
        {"dflash_config": {"input_embedding_scale": 3.0, "output_multiplier": 0.5}},
        {"dflash_config": {"final_logit_softcapping": 1.5, "block_size": 5}},
        {"dflash_config": {"target_layer_ids": [3, 0, 3]}},
    ],
)
def test_every_setting_of_a_checkpoint_is_trained_as_it_is_served(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = write_target(tmp_path / "target", "llama", seed=3)
    check_same(folder, write_drafter(tmp_path / "drafter", drafter_config(**changes)))


def plant_leak_between_blocks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(forward, "uses_fused_attention", lambda: True)
    whole = forward.block_diagonal

    def leaky(sight: Sight, blocks: int, width: int) -> mx.array:
        mask = whole(sight, blocks, width)
        length = sight.context.shape[-1]
        inside = mx.ones_like(mask[..., length:])
        return mx.concatenate([mask[..., :length], inside], axis=-1)

    patch.setattr(forward, "block_diagonal", leaky)


def plant_context_that_reaches_the_anchor(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(forward, "see", lambda anchors, *rest, **more: see(anchors + 1, *rest, **more))


def plant_context_that_ends_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(forward, "see", lambda anchors, *rest, **more: see(anchors - 1, *rest, **more))


def plant_shifted_hidden_states(patch: pytest.MonkeyPatch) -> None:
    right: Any = forward.project_context
    patch.setattr(
        model, "project_context", lambda weights, config, taps: right(
            weights, config, mx.concatenate([taps[:, :1], taps[:, :-1]], axis=1)
        ),
    )  # fmt: skip


def plant_shifted_positions(patch: pytest.MonkeyPatch) -> None:
    """The slots one place further on than when they are served; what they see stays."""
    right: Any = forward._attend_layer

    def moved(*parts: Any) -> mx.array:
        return right(*parts[:4], parts[4] + 1, *parts[5:])

    patch.setattr(forward, "_attend_layer", moved)


def plant_positions_from_the_block(patch: pytest.MonkeyPatch) -> None:
    right: Any = forward._attend_layer
    patch.setattr(
        forward, "_attend_layer", lambda *parts: right(*parts[:4], parts[4] * 0, *parts[5:])
    )


def plant_wrong_first_token(patch: pytest.MonkeyPatch) -> None:
    right = examples.make_blocks
    from dataclasses import replace

    def shifted(*parts: Any) -> examples.Blocks:
        blocks = right(*parts)
        return replace(blocks, first=blocks.labels[..., 0])

    patch.setattr(f"{__name__}.make_blocks", shifted)


@pytest.mark.parametrize(
    "plant",
    [
        plant_leak_between_blocks,
        plant_context_that_reaches_the_anchor,
        plant_context_that_ends_early,
        plant_shifted_hidden_states,
        plant_shifted_positions,
        plant_positions_from_the_block,
        plant_wrong_first_token,
    ],
    ids=lambda plant: plant.__name__.removeprefix("plant_"),
)
def test_a_planted_fault_is_caught(
    plant: PLANT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_target(tmp_path / "target", "llama", seed=3)
    checkpoint = write_drafter(tmp_path / "drafter", drafter_config())
    check_same(folder, checkpoint)
    plant(monkeypatch)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_same(folder, checkpoint)


def check_blocks_are_apart(folder: Path, checkpoint: Path) -> None:
    """Neither another block, nor what comes after an anchor, changes what is drafted there."""
    config = read_config(checkpoint)
    teacher = Teacher(target_of(folder), config.target_layer_ids)
    drafter, parameters = TrainableDrafter(config, teacher), read_parameters(checkpoint, config)

    def draft_at(tokens: np.ndarray, places: list[int]) -> np.ndarray:
        batch = stack([Example("a", "", "", tokens, START)])
        blocks = make_blocks(batch, [places], config.block_size, 7.0)
        return np.array(drafter.hidden(parameters, Draft(Features(teacher).of(batch), blocks)))[0]

    first = draft_at(TOKENS, [20, 30])[0]
    changed = TOKENS.copy()
    changed[21:] = (changed[21:] + 1) % FEW
    np.testing.assert_allclose(draft_at(changed, [20, 31])[0], first, rtol=0, atol=1e-5)
    earlier = TOKENS.copy()
    earlier[19] = (earlier[19] + 1) % FEW
    assert np.abs(draft_at(earlier, [20, 30])[0] - first).max() > 1e-2


@pytest.mark.usefixtures("attention")
def test_blocks_do_not_see_each_other_or_the_future(tmp_path: Path) -> None:
    folder = write_target(tmp_path / "target", "llama", seed=3)
    check_blocks_are_apart(folder, write_drafter(tmp_path / "drafter", drafter_config()))


def plant_context_from_the_future(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(forward, "see", lambda anchors, *rest, **more: see(anchors + 2, *rest, **more))


@pytest.mark.parametrize("plant", [plant_leak_between_blocks, plant_context_from_the_future])
def test_a_planted_leak_is_caught(
    plant: PLANT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_target(tmp_path / "target", "llama", seed=3)
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        check_blocks_are_apart(folder, write_drafter(tmp_path / "drafter", drafter_config()))


def check_labels(folder: Path) -> None:
    """The label of slot k is what the target says after the tokens up to k - 1 past the anchor."""
    batch = stack(make_examples(3))
    places = [[one.start - 1, len(one.tokens) - 3] for one in batch.examples]
    blocks = examples.make_blocks(batch, places, 4, 2.0)
    target = target_of(folder)
    said = np.argmax(np.array(target.model(mx.array(batch.tokens))), axis=-1)
    counted = 0
    for row, anchors in enumerate(places):
        for place, anchor in enumerate(anchors):
            assert blocks.first[row, place] == batch.tokens[row, anchor]
            for slot in range(1, 4):
                weight = blocks.weights[row, place, slot - 1]
                if anchor + slot >= len(batch.examples[row].tokens):
                    assert weight == 0
                    continue
                assert weight == pytest.approx(np.exp(-(slot - 1) / 2.0))
                assert blocks.labels[row, place, slot - 1] == said[row, anchor + slot - 1]
                counted += 1
    assert counted > 10


def test_labels_are_what_the_target_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_followers(tmp_path / "target")
    check_labels(folder)
    right = examples.make_blocks

    def off_by_one(batch: examples.Batch, places: Any, block: int, decay: float) -> examples.Blocks:
        return right(batch, [[p + 1 for p in row] for row in places], block, decay)

    monkeypatch.setattr(examples, "make_blocks", off_by_one)
    with pytest.raises(AssertionError):
        check_labels(folder)


def test_the_soft_target_is_what_chose_the_label(tmp_path: Path) -> None:
    """With all of the loss on the target's probabilities, their best tokens are the labels."""
    folder = write_followers(tmp_path / "target")
    teacher = teacher_of(folder, soft=True)
    config = read_config(write_drafter(tmp_path / "d", _config()))
    drafter = TrainableDrafter(config, teacher, soft=1.0)
    batch = stack(make_examples(3))
    blocks = make_blocks(batch, [[one.start - 1, one.start] for one in batch.examples], 4, 2.0)
    states, _ = drafter._taught(Draft(Features(teacher).of(batch), blocks), config.hidden_size)
    best = np.argmax(np.array(teacher.head(states)), axis=-1).reshape(blocks.labels.shape)
    counted = blocks.weights > 0
    assert (best[counted] == blocks.labels[counted]).all()
    assert counted.sum() > 10


def _config() -> dict[str, Any]:
    own = {"target_layer_ids": [0, 1], "mask_token_id": 1}
    return drafter_config(vocab_size=512, num_target_layers=2, block_size=4, dflash_config=own)


@pytest.mark.parametrize("soft", [0.0, 0.3])
def test_the_loss_in_pieces_has_the_gradient_of_the_whole(
    soft: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "slots_at_once", lambda _vocabulary: 64)
    mx.random.seed(0)
    table, hidden, taught = (mx.random.normal((n, 8)) for n in (50, 200, 200))
    labels, weights = mx.random.randint(0, 50, (200,)), mx.random.uniform(shape=(200,))

    def head(x: mx.array) -> mx.array:
        return x @ table.T

    def whole(x: mx.array) -> mx.array:
        scores = head(x) - mx.logsumexp(head(x), axis=-1, keepdims=True)
        hard = -mx.take_along_axis(scores, labels[:, None], -1)[:, 0]
        other = -(mx.softmax(head(taught), axis=-1) * scores).sum(-1)
        return (weights * ((1 - soft) * hard + soft * other)).sum() / weights.sum()

    def parted(x: mx.array) -> mx.array:
        teacher = (taught, soft) if soft else None
        return loss.weighted_loss(head, x, labels, weights, teacher)

    value, gradient = mx.value_and_grad(whole)(hidden)
    ours, our_gradient = mx.value_and_grad(parted)(hidden)
    np.testing.assert_allclose(np.array(ours), np.array(value), rtol=1e-5)
    np.testing.assert_allclose(np.array(our_gradient), np.array(gradient), rtol=0, atol=1e-6)


def test_a_follower_is_followed() -> None:
    one = make_examples(1)[0]
    assert one.tokens[one.start] == follower(int(one.tokens[one.start - 1]))
