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

COUNT = 16
"""Tokens that are run: all of them alone, then the last two and the first two side by side."""
EXACT, ROUNDED = 1e-3, 0.25
"""How far logits may be off, on average and of their deviation, in float32 and in types of 16 bits:
other shapes round otherwise, in those by some hundredths, and by more where experts are chosen."""


SEVERAL = "rows of different lengths at once: "


class Unfit(Exception):  # noqa: N818 (a finding, not a fault)
    """The model can't be run here; the text says what fails."""


def probe(model: Any, cache: RaggedCache) -> tuple[int, int, int]:
    """Runs a few tokens through an empty cache, which is empty again afterwards.

    Args:
        model: An mlx-lm model.
        cache: Its cache; learns what type masks must have.

    Returns:
        The vocabulary's size V, and the bytes to reserve per token and per row.

    Raises:
        Unfit: See there.
    """
    cache.resize(1, COUNT)
    cache.look_at_row(0, 1)
    vocabulary = int(_run(model, cache, [[0]]).shape[-1])
    tokens = [token % vocabulary for token in range(1, COUNT + 1)]
    cache.look_at_row(0, COUNT)
    alone = _run(model, cache, [tokens])[0]
    cache.lengths[0] = COUNT - 2
    cache.settle()
    if cache.shapes.few and (keys := cache.attention[0].keys) is not None:
        cache.shapes = replace(cache.shapes, mask_dtype=keys.dtype)
    per_row = cache.state_bytes
    per_token = (cache.size_bytes - per_row) // (cache.rows * cache.columns)
    cache.resize(2, COUNT)
    rows = [tokens[-2:], tokens[:2]]
    both = _run(model, cache, rows + [tokens[:2]] * (cache.look_at_rows(2, 2) - 2), SEVERAL)
    _compare(both[:2], mx.stack([alone[-2:], alone[:2]]))
    cache.release()
    return vocabulary, per_token, per_row * STATES_PER_ROW


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


def _compare(found: mx.array, expected: mx.array) -> None:
    most = EXACT if found.dtype == mx.float32 else ROUNDED
    found, expected = found.astype(mx.float32), expected.astype(mx.float32)
    error: Any = (mx.abs(found - expected).mean() / mx.std(expected)).item()
    if error > most:
        raise Unfit(f"{SEVERAL}their logits are not those of each alone, by {error:.2g} deviations")
