"""Masks for models that group the queries of a head by hand: their scores have a dimension more.

mlx-lm's Gemma 2 caps its scores, [B, G, H / G, N, K], and so can't leave the groups to MLX's own
attention. A mask of one row fits both; one of several rows, [B, 1, N, K], has to be told apart.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx import nn

from pipeline.engine.targets.taps import call_instead, model_layers

GROUPED = {"gemma2"}
"""Model types of which that is so."""
Attend = Callable[[mx.array, Any, Any], mx.array]


def spread_masks(model: nn.Module) -> None:
    """Has a model's attention take masks of several rows; no class is patched, see `taps`."""
    for layer in model_layers(model):
        attention: Any = layer.self_attn
        if attention.repeats > 1:
            call_instead(attention, _with_spread_mask)


def _with_spread_mask(own: Attend, x: mx.array, mask: Any = None, cache: Any = None) -> mx.array:
    if isinstance(mask, mx.array) and mask.ndim == 4:  # noqa: PLR2004
        mask = mask[:, :, None]
    return own(x, mask, cache)
