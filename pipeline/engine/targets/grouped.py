"""Masks for models that group the queries of a head by hand: their scores have a dimension more.

mlx-lm's Gemma 2 caps its scores, [B, G, H / G, N, K], and so can't leave the groups to MLX's own
attention. A mask of one row fits both; one of several rows, [B, 1, N, K], has to be told apart.
"""

from typing import Any

import mlx.core as mx
from mlx import nn

from pipeline.engine.targets.taps import model_layers

GROUPED = {"gemma2"}
"""Model types of which that is so."""


def spread_masks(model: nn.Module) -> None:
    """Has a model's attention take masks of several rows; no class is patched, see `taps`."""
    for layer in model_layers(model):
        attention: Any = layer.self_attn
        if attention.repeats > 1:
            _spread(attention)


def _spread(attention: Any) -> None:
    kind = type(attention)

    def call(module: nn.Module, x: mx.array, mask: Any = None, cache: Any = None) -> mx.array:
        if isinstance(mask, mx.array) and mask.ndim == 4:  # noqa: PLR2004
            mask = mask[:, :, None]
        return kind.__call__(module, x, mask, cache)

    attention.__class__ = type(kind.__name__, (kind,), {"__call__": call})
