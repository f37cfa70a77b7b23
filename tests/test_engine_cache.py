"""The ragged cache gives each row what it would get alone."""

import random
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

from pipeline.engine.memory.cache import RaggedCache
from pipeline.engine.memory.window import Shapes
from tests.tiny import SHAPES, target_of, write_llama


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("tiny") / "llama")


def alone(folder: Path, tokens: list[int]) -> np.ndarray:
    """Logits [L, V] of a fresh model over the whole sequence."""
    model, _ = load_model(folder)
    return np.array(model(mx.array([tokens]), cache=make_prompt_cache(model)))[0]


@pytest.mark.parametrize("shapes", SHAPES)
def test_rows_of_any_length_get_the_logits_they_would_get_alone(
    folder: Path, shapes: Shapes
) -> None:
    target = target_of(folder)
    target.cache.shapes = shapes
    rng = random.Random(3)
    prompts = [[rng.randrange(3, 500) for _ in range(n)] for n in (5, 300, 31, 1)]
    target.cache.resize(6, 320)  # two rows too many
    for slot, prompt in enumerate(prompts):
        for start in range(0, len(prompt), 100):
            target.prefill(slot, prompt[start : start + 100])
    drafts = [[rng.randrange(3, 500) for _ in range(3)] for _ in prompts]
    logits = np.array(target.forward(drafts))
    for slot, prompt in enumerate(prompts):
        expected = alone(folder, prompt + drafts[slot])[len(prompt) :]
        np.testing.assert_allclose(logits[slot], expected, atol=2e-4)


def test_rejected_tokens_are_forgotten_and_rows_may_move(folder: Path) -> None:
    target = target_of(folder)
    target.cache.resize(2, 64)
    target.prefill(0, [7, 8, 9])
    target.prefill(1, [20, 21, 22, 23, 24])
    target.forward([[1, 2, 3], [4, 5, 6]])
    target.cache.lengths[0] += 1  # row 0 keeps one token, row 1 all three
    target.cache.lengths[1] += 3
    target.cache.copy_row(1, 0, target.cache.lengths[1])
    target.cache.resize(1, 300)
    logits = np.array(target.forward([[30]]))
    expected = alone(folder, [20, 21, 22, 23, 24, 4, 5, 6, 30])
    np.testing.assert_allclose(logits[0, 0], expected[-1], atol=2e-4)


def test_a_prefix_copied_out_serves_another_row(folder: Path) -> None:
    target = target_of(folder)
    target.cache.resize(1, 64)
    target.prefill(0, list(range(10, 40)))
    prefix = target.cache.copy_prefix(0, 30)
    target.cache.release()
    target.cache.resize(2, 64)
    target.cache.load_prefix(1, prefix, 20)
    target.prefill(1, [5, 6])
    target.prefill(0, [9])
    logits = np.array(target.forward([[1], [2]]))
    expected = alone(folder, [*range(10, 30), 5, 6, 2])
    np.testing.assert_allclose(logits[1, 0], expected[-1], atol=2e-4)
    assert prefix.length == 30
    assert prefix.size_bytes == 30 * target.kv_bytes_per_token


@pytest.mark.parametrize("heads", [1, 3])
def test_a_row_moves_without_a_copy_of_all_the_others(heads: int) -> None:
    cache = RaggedCache(4)
    cache.resize(16, 1024)
    cache.look_at_rows(16, 1)
    for layer in cache.attention:
        layer.update_and_fetch(*(mx.ones((16, heads, 1, 64)) for _ in range(2)))
    mx.eval(cache.state())
    cache.lengths = [1000] * 16
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    cache.copy_row(15, 3, 1000)
    mx.eval(cache.state())
    assert mx.get_peak_memory() - before < cache.size_bytes / 8
