"""The architectures that a user may bring: batched as they are alone, or refused by name."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn
from mlx_lm.utils import load_model

from pipeline.engine.checking.check_run import run_check
from pipeline.engine.drafters.drafter_loader import load_drafter
from pipeline.engine.memory.window import Shapes
from pipeline.engine.targets import target as target_module
from pipeline.engine.targets.positions import ALL_BY_ROPE
from pipeline.engine.targets.target import Target
from pipeline.engine.tree import branches_of
from pipeline.errors import InputError
from pipeline.training.features import Teacher
from tests.test_check import job_for, random_drafter
from tests.test_drafter import SEEDS
from tests.test_engine_models import alone, model_of, some_tokens
from tests.test_tree import any_tree, path_to
from tests.tiny import target_of
from tests.tiny_hybrid import write_model
from tests.tiny_zoo import STREAMS, UNFIT, ZOO, write_zoo

READ = (20, 33, 3)
"""Tokens of the rows' prompts: one is longer than a window, one shorter."""
STEPS = ((4, (2, 4, 1)), (1, (1, 1, 1)), (3, (3, 1, 2)))
"""Forwards: how many tokens of each row are run, and how many of them stay."""
FEW, LAYERS = 480, 4


def filled(folder: Path, prompts: Sequence[Sequence[int]]) -> Target:
    target = target_of(folder)
    target.cache.resize(len(prompts), 64)
    for slot, prompt in enumerate(prompts):
        for start in range(0, len(prompt), 7):
            target.prefill(slot, prompt[start : start + 7])
    return target


@pytest.mark.parametrize("kind", [*ZOO, *STREAMS])
def test_rows_of_different_lengths_get_what_each_gets_alone(kind: str, tmp_path: Path) -> None:
    folder = write_zoo(tmp_path / kind, kind)
    texts = [some_tokens(count + 12, count) for count in READ]
    expected = [alone(folder, text) for text in texts]
    target = filled(folder, [text[:count] for text, count in zip(texts, READ, strict=True)])
    lengths = target.cache.lengths
    for width, kept in STEPS:
        tokens = [text[done : done + width] for text, done in zip(texts, lengths, strict=True)]
        logits = np.array(target.forward(tokens))
        for slot, stays in enumerate(kept):
            done = lengths[slot]
            np.testing.assert_allclose(
                logits[slot], expected[slot][done : done + width], rtol=0, atol=5e-4
            )
            lengths[slot] += stays


@pytest.mark.parametrize("kind", [kind for kind in ZOO if kind in ALL_BY_ROPE])
def test_a_token_of_a_tree_gets_what_its_path_alone_gives_it(kind: str, tmp_path: Path) -> None:
    folder = write_zoo(tmp_path / kind, kind)
    prompts = [some_tokens(count, count) for count in READ]
    target, chance = filled(folder, prompts), random.Random(5)
    drafts = [any_tree(chance, 12, FEW), [7, 9], any_tree(chance, 31, FEW)]
    tokens = [[slot + 3, *draft, *[0] * (31 - len(draft))] for slot, draft in enumerate(drafts)]
    logits = np.array(target.forward(tokens, branches_of(drafts, 32)))
    for slot, draft in enumerate(drafts):
        for number in range(len(draft) + 1):
            path = [draft[place - 1] for place in path_to(draft, number)]
            expected = alone(folder, [*prompts[slot], slot + 3, *path])[-1]
            np.testing.assert_allclose(logits[slot, number], expected, rtol=0, atol=5e-4)


@pytest.mark.parametrize("kind", list(ZOO))
def test_a_drafter_changes_nothing_that_is_written(kind: str, tmp_path: Path) -> None:
    folder = write_zoo(tmp_path / kind, kind)
    report = run_check(job_for(folder, random_drafter(tmp_path / "drafter", LAYERS)))
    assert report.divergences == ()
    assert all(tokens > 80 for _, tokens in report.tokens)
    drafted = {source: tokens for source, tokens, _ in report.drafts}
    assert drafted["dflash"] > 50
    assert ("tree" in drafted) == (kind in ALL_BY_ROPE)


@pytest.mark.parametrize("kind", list(ZOO))
def test_a_drafter_can_be_trained_for_it(kind: str, tmp_path: Path) -> None:
    folder = write_zoo(tmp_path / kind, kind)
    tokens = mx.array([some_tokens(9, 1), some_tokens(9, 2)])
    model = model_of(folder)
    soft = kind != "gpt_neox"  # its last hidden states are not to be had
    teacher = Teacher(target_of(folder), (0, LAYERS - 1), soft=soft)
    states = teacher.look(tokens)
    assert states.shape == (2, 9, (2 + soft) * teacher.hidden_size)
    if soft:  # what is done with logits afterwards, a scale or a cap, changes no order
        likeliest = teacher.head(states[..., -teacher.hidden_size :]).argmax(axis=-1)
        assert mx.array_equal(likeliest, model(tokens).argmax(axis=-1))


def test_states_that_are_none_are_refused(tmp_path: Path) -> None:
    folder = write_zoo(tmp_path / "gpt_neox", "gpt_neox")
    with pytest.raises(InputError, match=r"'gpt_neox'.*hidden states"):
        Teacher(target_of(folder), (0, 1), soft=True)


@pytest.mark.parametrize("kind", list(STREAMS))
def test_layers_of_several_streams_take_no_drafter(kind: str, tmp_path: Path) -> None:
    target = target_of(write_zoo(tmp_path / kind, kind))
    with pytest.raises(InputError, match=f"{kind}.*several streams.*--drafter none"):
        load_drafter(random_drafter(tmp_path / "drafter", LAYERS), target)
    with pytest.raises(InputError, match=f"{kind}.*another model"):
        Teacher(target, (0, 1))


def test_all_that_may_branch_are_tried() -> None:
    assert ZOO.keys() | SEEDS.keys() >= ALL_BY_ROPE


@pytest.mark.parametrize("shapes", [Shapes(column_step=64), Shapes(few=True)])
def test_every_device_takes_them(
    shapes: Shapes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_module, "device_shapes", lambda: shapes)
    for kind in ZOO:
        target_of(write_zoo(tmp_path / kind, kind))


class OneOffset(nn.RoPE):
    """Turns all rows as the first."""

    def __call__(self, x: mx.array, offset: Any = 0) -> mx.array:
        """As a model does that reckons with one position for all."""
        first: Any = offset[:1] if isinstance(offset, mx.array) and offset.ndim else offset
        return super().__call__(x, first)


def test_one_position_for_all_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_zoo(tmp_path / "qwen2", "qwen2")
    model: Any = load_model(folder)[0]
    for layer in model.layers:
        layer.self_attn.rope.__class__ = OneOffset
    monkeypatch.setattr(target_module, "load_model", lambda _: (model, {"model_type": "qwen2"}))
    with pytest.raises(InputError, match=r"'qwen2'.*not those of each alone"):
        target_of(folder)


def test_logits_that_are_no_numbers_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_zoo(tmp_path / "qwen2", "qwen2")
    model: Any = load_model(folder)[0]
    model.model.norm.weight = mx.full(model.model.norm.weight.shape, mx.nan)
    monkeypatch.setattr(target_module, "load_model", lambda _: (model, {"model_type": "qwen2"}))
    with pytest.raises(InputError, match="no numbers"):
        target_of(folder)


@pytest.mark.skipif(mx.default_device() != mx.cpu, reason="it can, on a GPU")
def test_what_this_machine_cannot_compute_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "qwen3_moe", "qwen3_moe", dtype=mx.bfloat16)
    with pytest.raises(InputError, match=r"qwen3_moe.*float32.*another model"):
        target_of(folder)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
@pytest.mark.parametrize("kind", list(UNFIT))
def test_what_cannot_be_batched_is_refused(kind: str, dtype: mx.Dtype, tmp_path: Path) -> None:
    folder = write_zoo(tmp_path / kind, kind, dtype=dtype)
    if dtype == mx.float32:
        assert np.isfinite(alone(folder, [1, 2, 3])).all()
    with pytest.raises(InputError, match=rf"{kind}.*different lengths"):
        target_of(folder)
