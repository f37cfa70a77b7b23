"""Positions of tokens that are no chain: several may have the same one, see `tree`.

mlx-lm's attention turns queries and keys by `self.rope(x, offset=cache.offset)`, one token after
the other. Here each token of a row is turned as a row of its own, by its own offset.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx import nn

from pipeline.engine.memory.cache import RaggedCache
from pipeline.engine.targets.taps import call_instead, model_layers

ALL_BY_ROPE = {
    "apertus", "cohere", "cohere2", "deepseek", "deepseek_v2", "deepseek_v3", "dots1", "ernie4_5",
    "ernie4_5_moe", "gemma", "gemma2", "gemma3", "gemma3_text", "gemma4_text", "glm", "glm4",
    "glm4_moe", "gpt_oss", "granite", "granitemoe", "helium", "hunyuan", "hunyuan_v1_dense",
    "internlm3", "llama", "mimo", "minicpm", "minicpm3", "mistral", "mixtral", "nemotron", "olmo2",
    "olmo3", "olmoe", "phi", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe",
    "seed_oss", "smollm3", "stablelm", "starcoder2",
}  # fmt: skip
"""Model types whose tokens know their positions by the rotation alone, each proven by a test."""
Turn = Callable[..., mx.array]


def turn_each(turn: Turn, x: mx.array, positions: mx.array) -> mx.array:
    """Rotates x [B, H, T, D] by positions [B T]."""
    rows, heads, width, size = x.shape
    flat = x.swapaxes(1, 2).reshape(rows * width, heads, 1, size)
    return turn(flat, offset=positions).reshape(rows, width, heads, size).swapaxes(1, 2)


def follow_branches(model: nn.Module, cache: RaggedCache) -> None:
    """Has a model's layers turn the tokens of trees by the positions of the cache's window."""
    attentions: list[Any] = [layer.self_attn for layer in model_layers(model)]
    for rope in {id(rope): rope for rope in (one.rope for one in attentions)}.values():
        _follow(rope, cache)


def _follow(rope: Any, cache: RaggedCache) -> None:
    def call(own: Turn, x: mx.array, offset: mx.array | int = 0) -> mx.array:
        positions = cache.window.positions
        return own(x, offset=offset) if positions is None else turn_each(own, x, positions)

    call_instead(rope, call)
