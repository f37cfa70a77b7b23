"""The target model: weights, forward passes over the ragged cache, and what is asked of a model.

Loads any mlx-lm model folder whose layers use plain or sliding-window attention.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache
from mlx_lm.utils import load_model

from pipeline.engine.cache import RaggedCache
from pipeline.engine.interface import ModelInfo
from pipeline.errors import InputError

GPU_COLUMN_STEP = 128  # few distinct attention shapes: a new one can cost 80 ms on CUDA


class Target:
    """A loaded model and the cache of its running rows.

    Args:
        info: The model folder.

    Raises:
        InputError: The folder can't be loaded, or the model's layers keep a state that the ragged
            cache can't hold.
    """

    def __init__(self, info: ModelInfo) -> None:
        self.info = info
        try:
            self.model: nn.Module
            self.model, self.config = load_model(Path(info.folder))
        except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
            raise InputError(
                f"the model folder={info.folder!r} can't be loaded ({_one_line(error)}); check "
                "that the files are complete and that mlx-lm knows the architecture"
            ) from error
        self.model.eval()
        kinds = {type(cache) for cache in make_prompt_cache(self.model)}
        if not kinds <= {KVCache, RotatingKVCache}:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise InputError(
                f"model_type={self.config.get('model_type')!r} keeps a state ({names}) that "
                "docflash can't batch yet; choose a model with plain or sliding attention"
            )
        on_cpu = mx.default_device() == mx.Device(mx.cpu)
        self.cache = RaggedCache(
            len(make_prompt_cache(self.model)), 1 if on_cpu else GPU_COLUMN_STEP
        )
        self.weights_bytes = _weights_bytes(self.model)
        self.vocabulary, self.kv_bytes_per_token = self._probe()

    def _probe(self) -> tuple[int, int]:
        """Runs one token through, to learn V and the size of its keys and values."""
        self.cache.resize(1, 1)
        self.cache.look_at_row(0, 1)
        logits = self.model(mx.array([[0]]), cache=self.cache.layers)
        mx.eval(logits)
        per_token = self.cache.size_bytes // (self.cache.rows * self.cache.columns)
        self.cache.release()
        return int(logits.shape[-1]), per_token

    def prefill(self, slot: int, tokens: Sequence[int]) -> None:
        """Runs prompt tokens of one row into the cache; their logits are never computed.

        Args:
            slot: The row.
            tokens: The next L tokens of its prompt.
        """
        self.cache.look_at_row(slot, len(tokens))
        self.model(mx.array([list(tokens)]), cache=self.cache.layers)
        mx.eval(self.cache.state())
        self.cache.lengths[slot] += len(tokens)

    def forward(self, tokens: Sequence[Sequence[int]]) -> mx.array:
        """Runs new tokens of rows 0..B-1; the caller then counts how many of them stay.

        Args:
            tokens: [B, T].

        Returns:
            Logits [B, T, V], being computed.
        """
        self.cache.look_at_rows(len(tokens), len(tokens[0]))
        logits: mx.array = self.model(
            mx.array([list(row) for row in tokens]), cache=self.cache.layers
        )
        mx.async_eval(logits)
        return logits


def _weights_bytes(model: nn.Module) -> int:
    leaves: Any = tree_flatten(model.parameters())
    return sum(int(array.nbytes) for _, array in leaves)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def stop_tokens(folder: str, tokenizer_eos: Sequence[int]) -> frozenset[int]:
    """Tokens that end an answer: the tokenizer's, and those that the model's config names.

    Args:
        folder: The model folder.
        tokenizer_eos: What the tokenizer calls its end token.
    """
    found = set(tokenizer_eos)
    for name in ("config.json", "generation_config.json"):
        path = Path(folder) / name
        if path.is_file():
            value = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            found.update([value] if isinstance(value, int) else value or [])
    return frozenset(found)
