"""A loaded model is tried before it serves: what a token costs, and whether rows can be batched.

mlx-lm's models are written for one sequence. Most take rows of different lengths as they are; some
reckon with one position for all, or with masks of one row: they fail or, worse, write other text.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx

from pipeline.engine.memory.cache import RaggedCache
from pipeline.engine.memory.recurrent import STATES_PER_ROW

LONG, SHORT, NEW = 14, 5, 2
"""Tokens of two rows, and how many more of each are run side by side."""
EXACT, ROUNDED = 0.02, 0.25
"""How far the logits of a row may be off, on average and of their deviation, for keys of 32 and of
16 bits: other shapes round otherwise, in 16 by some hundredths, by more where experts are chosen.
(Rows at each other's positions are off by more than 0.5.)"""
SEVERAL = "rows of different lengths at once: "


class Unfit(Exception):  # noqa: N818 (a finding, not a fault)
    """The model can't be run here; the text says what fails. Its cache is as it was left."""


def probe(model: Any, cache: RaggedCache) -> tuple[int, int, int]:
    """Runs one token through an empty cache, which is empty again afterwards.

    Args:
        model: An mlx-lm model.
        cache: Its cache; learns what type masks must have.

    Returns:
        The vocabulary's size V, and the bytes to reserve per token and per row.

    Raises:
        Unfit: See there.
    """
    cache.resize(1, 1)
    cache.look_at_row(0, 1)
    vocabulary = int(_run(model, cache, [[0]]).shape[-1])
    cache.lengths[0] = 1
    cache.settle()
    _choose_masks(cache)
    per_row = cache.state_bytes
    per_token = (cache.size_bytes - per_row) // (cache.rows * cache.columns)
    cache.release()
    return vocabulary, per_token, per_row * STATES_PER_ROW


def try_rows(model: Any, cache: RaggedCache, vocabulary: int) -> None:
    """Compares what two rows of different lengths get with what each gets alone.

    Args:
        model: An mlx-lm model.
        cache: Its cache, empty, and empty again afterwards.
        vocabulary: V.

    Raises:
        Unfit: See there.
    """
    tokens = [token % vocabulary for token in range(1, LONG + NEW + 1)]
    cache.resize(1, len(tokens))
    cache.look_at_row(0, len(tokens))
    alone = _run(model, cache, [tokens])[0]
    cache.lengths[0] = LONG
    keys = cache.attention[0].keys
    most = EXACT if keys is not None and keys.dtype == mx.float32 else ROUNDED
    cache.resize(2, len(tokens))
    cache.look_at_row(1, SHORT)
    _run(model, cache, [tokens[:SHORT]], SEVERAL)
    cache.lengths[1] = SHORT
    cache.look_at_rows(2, NEW)  # never more than the two that there are
    places = [slice(length, length + NEW) for length in (LONG, SHORT)]
    both = _run(model, cache, [tokens[place] for place in places], SEVERAL)
    for found, place in zip(both, places, strict=True):
        _compare(found, alone[place], most)
    cache.release()


def _choose_masks(cache: RaggedCache) -> None:
    """Masks of the keys' type are faster; latent attention, whose values differ, takes booleans."""
    keys, values = cache.attention[0].keys, cache.attention[0].values
    if cache.shapes.few and keys is not None and values is not None:
        latent = keys.shape[3] != values.shape[3]
        cache.shapes = replace(cache.shapes, mask_dtype=None if latent else keys.dtype)


def _run(
    model: Any, cache: RaggedCache, tokens: Sequence[Sequence[int]], what: str = ""
) -> mx.array:
    try:
        logits = model(mx.array([list(row) for row in tokens]), cache=cache.layers)
        mx.eval(logits)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise Unfit(f"{what}{reason}") from error
    return logits


def _compare(found: mx.array, expected: mx.array, most: float) -> None:
    """Compares logits [N, V]; those of tokens that never come (minus infinity) are left out."""
    found, expected = found.astype(mx.float32), expected.astype(mx.float32)
    if mx.isnan(found).any().item() or mx.isnan(expected).any().item():
        raise Unfit("its logits are no numbers")
    known = mx.isfinite(expected)
    count = known.sum()

    def mean(values: mx.array) -> mx.array:
        return mx.where(known, values, 0).sum() / count

    off: Any = mean(mx.abs(found - expected)).item()
    spread: Any = mx.sqrt(mean(mx.square(expected - mean(expected)))).item()
    if not off <= most * spread:
        raise Unfit(f"{SEVERAL}their logits are not those of each alone, {off:.2g} of {spread:.2g}")
