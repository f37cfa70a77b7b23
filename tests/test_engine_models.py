"""Every architecture batches correctly: rows of any length get what each would get alone."""

import functools
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

from pipeline.engine.interface import ModelInfo
from pipeline.engine.memory.window import Shapes
from pipeline.engine.targets.target import Target
from tests.tiny import SHAPES
from tests.tiny_hybrid import CONFIGS, HYBRID, WINDOW, write_model

ATOL = 2e-4


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: write_model(root / kind, kind) for kind in CONFIGS}


@pytest.fixture(params=list(CONFIGS))
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


@pytest.fixture(params=HYBRID)
def hybrid(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


def target_of(folder: Path, shapes: Shapes = SHAPES[0]) -> Target:
    target = Target(ModelInfo("tiny", str(folder), "f", 1024, str(folder / "tokenizer.json")))
    target.cache.shapes = replace(shapes, few=shapes.few and not target.cache.states)
    return target


def some_tokens(count: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(3, 500) for _ in range(count)]


@functools.cache
def model_of(folder: Path) -> Any:
    return load_model(folder)[0]


def alone(folder: Path, tokens: Sequence[int], piece: int = 1024) -> np.ndarray:
    """Logits [L, V] of mlx-lm's model over one sequence, `piece` tokens at a time."""
    model = model_of(folder)
    cache = make_prompt_cache(model)
    pieces = [list(tokens[i : i + piece]) for i in range(0, len(tokens), piece)]
    return np.concatenate([np.array(model(mx.array([part]), cache=cache))[0] for part in pieces])


def run(target: Target, drafts: Sequence[Sequence[int]], kept: Sequence[int]) -> np.ndarray:
    """One verify step: all rows' drafts go through, `kept` tokens of each stay."""
    width = max(map(len, drafts))
    logits = np.array(target.forward([[*draft, *[0] * (width - len(draft))] for draft in drafts]))
    for slot, count in enumerate(kept):
        target.cache.lengths[slot] += count
    return logits


@pytest.mark.parametrize("shapes", SHAPES)
def test_rows_get_the_logits_they_would_get_alone(folder: Path, shapes: Shapes) -> None:
    target = target_of(folder, shapes)
    prompts = [some_tokens(n, n) for n in (3, 40, WINDOW, 1)]
    target.cache.resize(4, 64)
    for slot, prompt in enumerate(prompts):
        for start in range(0, len(prompt), 15):
            target.prefill(slot, prompt[start : start + 15])
    drafts = [some_tokens(n, 50 + n) for n in (4, 1, 3, 2)]
    logits = run(target, drafts, [0] * 4)
    for slot, (prompt, draft) in enumerate(zip(prompts, drafts, strict=True)):
        expected = alone(folder, prompt + draft, piece=1)[len(prompt) :]
        np.testing.assert_allclose(logits[slot, : len(draft)], expected, atol=ATOL)


def test_rejected_tokens_leave_no_trace(folder: Path) -> None:
    target = target_of(folder)
    texts = [some_tokens(n, n) for n in (2, 21, 9)]
    target.cache.resize(3, 96)
    for slot, text in enumerate(texts):
        target.prefill(slot, text)
    rng = random.Random(1)
    for step in range(6):
        drafts = [some_tokens(rng.randrange(1, 7), 100 * step + slot) for slot in range(3)]
        kept = [rng.randrange(1, len(draft) + 1) for draft in drafts]
        logits = run(target, drafts, kept)
        for slot, text in enumerate(texts):
            text.extend(drafts[slot][: kept[slot]])
            np.testing.assert_allclose(
                logits[slot, : kept[slot]], alone(folder, text)[-kept[slot] :], atol=ATOL
            )


def test_rows_join_leave_and_move_while_others_run(folder: Path) -> None:
    target = target_of(folder)
    texts = [some_tokens(12, 1), some_tokens(5, 2)]
    target.cache.resize(2, 64)
    target.prefill(0, texts[0])
    target.prefill(1, texts[1])
    run(target, [[7, 8, 9], [10, 11, 12]], [1, 2])
    texts[0].append(7)
    texts[1] += [10, 11]
    target.cache.resize(4, 300)
    target.cache.lengths[2] = 0
    target.prefill(2, [30, 31])  # a third row is half prefilled while the others go on
    run(target, [[13, 14], [15, 16]], [2, 1])
    texts[0] += [13, 14]
    texts[1].append(15)
    target.cache.copy_row(1, 0, target.cache.lengths[1])  # row 0 leaves, row 1 takes its place
    target.cache.copy_row(2, 1, target.cache.lengths[2])
    target.prefill(1, [32, 33])
    texts = [texts[1], [30, 31, 32, 33]]
    target.cache.resize(2, 64)
    logits = run(target, [[40, 41], [42, 43]], [2, 2])
    for slot, text in enumerate(texts):
        text.extend([[40, 41], [42, 43]][slot])
        np.testing.assert_allclose(logits[slot], alone(folder, text)[-2:], atol=ATOL)


def test_a_prefix_goes_round_and_a_shorter_one_is_never_wrong(folder: Path) -> None:
    target = target_of(folder)
    prompt = some_tokens(30, 3)
    target.cache.resize(1, 64)
    target.prefill(0, prompt[:20])
    target.prefill(0, prompt[20:])
    run(target, [[5, 6, 7]], [2])
    prefix = target.cache.copy_prefix(0, 32)
    target.cache.release()
    target.cache.resize(3, 64)
    lengths = [target.cache.load_prefix(slot, prefix, n) for slot, n in enumerate((32, 30, 25))]
    assert lengths == target.cache.lengths
    assert lengths == [prefix.usable(n) for n in (32, 30, 25)]
    assert lengths[:2] == [32, 30]
    logits = run(target, [[50, 51]] * 3, [0] * 3)
    for slot, length in enumerate(lengths):
        expected = alone(folder, [*[*prompt, 5, 6][:length], 50, 51])
        np.testing.assert_allclose(logits[slot], expected[-2:], atol=ATOL)


def test_a_hybrid_model_remembers_where_prompts_branch_off(hybrid: Path) -> None:
    target = target_of(hybrid)
    shared = some_tokens(20, 4)
    target.cache.resize(3, 64)
    target.prefill(0, [*shared, 60, 61, 62])
    assert target.cache.usable(0, 20) == 0  # no state was kept inside the first prompt
    target.cache.keep_at(1, 20)
    target.prefill(1, [*shared, 70, 71])
    assert target.cache.usable(1, 20) == 20  # but the second keeps one where it left the first
    assert target.cache.copy_row(1, 2, 20) == 20
    target.prefill(2, [80])
    assert target.cache.usable(2, 20) == 20
    kept = target.cache.copy_prefix(2, 21)
    assert [kept.usable(n) for n in (19, 20, 21)] == [0, 20, 21]
    logits = run(target, [[5], [6], [7]], [1, 1, 1])
    for slot, rest in enumerate(([60, 61, 62, 5], [70, 71, 6], [80, 7])):
        np.testing.assert_allclose(logits[slot, 0], alone(hybrid, shared + rest)[-1], atol=ATOL)


def test_a_length_that_no_state_has_is_refused(hybrid: Path) -> None:
    target = target_of(hybrid)
    target.cache.resize(1, 64)
    target.prefill(0, [4, 5, 6, 7])
    target.cache.lengths[0] = 2
    with pytest.raises(ValueError, match="only tokens of the last forward"):
        target.forward([[9]])


def test_states_of_rows_that_left_are_freed(hybrid: Path) -> None:
    target = target_of(hybrid)
    one = target.state_bytes_per_row
    target.cache.resize(8, 64)
    for slot in range(8):
        target.prefill(slot, some_tokens(4, slot))
    for count in range(8, 0, -1):
        run(target, [[5, 6, 7]] * count, [2] * count)
        target.cache.settle()
        assert target.cache.state_bytes <= 8 * one
    target.cache.release()
    assert target.cache.state_bytes == 0


def test_a_forward_at_any_length_can_be_timed_without_running_its_prompt(folder: Path) -> None:
    target = target_of(folder)
    target.cache.resize(3, 64)
    for length in (40, 10):
        for _ in range(2):
            target.cache.pretend(length)
            assert np.isfinite(run(target, [[5, 6]] * 3, [0] * 3)).all()
    target.cache.release()
    target.cache.resize(1, 64)
    np.testing.assert_allclose(run(target, [[5]], [1])[0], alone(folder, [5]), atol=ATOL)
