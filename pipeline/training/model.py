"""A drafter that can be trained: its modules, new or out of a folder, and its forward and loss.

Parameters are kept in float32 and computed with in the target's kind of precision.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from pipeline.engine.drafters.drafter_config import DrafterConfig
from pipeline.engine.drafters.drafter_layers import Weights
from pipeline.engine.drafters.drafter_tensors import check_tensors, quantize_like, read_tensors
from pipeline.engine.drafters.markov import Chain
from pipeline.training.examples import Blocks
from pipeline.training.features import Teacher
from pipeline.training.forward import draft_hidden, project_context
from pipeline.training.loss import weighted_loss

SPREAD = 0.02
"""Standard deviation of new matrices."""
ALONE = 5
"""One of so many blocks is trained without the Markov head."""
Parameters = dict[str, mx.array]
"""By their published names."""


def new_parameters(config: DrafterConfig, seed: int) -> Parameters:
    """Random matrices, and norms of ones; what ends a branch is smaller, by the depth."""
    chance = np.random.default_rng(seed)
    leaves: Any = tree_flatten(Weights(config).parameters())
    found: Parameters = {}
    for name, value in sorted(leaves, key=lambda leaf: leaf[0]):
        if value.ndim == 1:
            found[name] = (mx.zeros if name.endswith("bias") else mx.ones)(value.shape)
            continue
        if name == "markov.output_proj.weight":  # it begins as if it weren't there
            found[name] = mx.zeros(value.shape)
            continue
        ends = name.endswith(("o_proj.weight", "down_proj.weight"))
        spread = SPREAD / (2 * config.num_hidden_layers) ** 0.5 if ends else SPREAD
        drawn = chance.standard_normal(value.shape, np.float32) * np.float32(spread)
        found[name] = mx.array(drawn)
    return found


def read_parameters(folder: Path, config: DrafterConfig) -> Parameters:
    """The parameters of a drafter's folder, in float32; quantised ones as what they stand for.

    Raises:
        InputError: The folder is incomplete or corrupt.
    """
    tensors = read_tensors(folder)
    weights = Weights(config)
    if config.quantization is not None:
        quantize_like(weights, config.quantization, tensors)
    leaves: Any = tree_flatten(weights.parameters())
    check_tensors(folder, dict(leaves), tensors)
    weights.load_weights(list(tensors.items()))
    plain: Any = tree_flatten(weights.parameters())
    found: Parameters = {}
    quantised: dict[str, nn.QuantizedLinear] = {
        name: module
        for name, module in weights.named_modules()
        if isinstance(module, nn.QuantizedLinear)
    }
    for name, module in quantised.items():
        found[f"{name}.weight"] = mx.dequantize(
            module.weight, module.scales, module.get("biases"), module.group_size, module.bits,
            mode=module.mode,
        ).astype(mx.float32)  # fmt: skip
    for name, value in plain:
        if name.rpartition(".")[0] not in quantised:
            found[name] = value.astype(mx.float32)
    return found


@dataclass(frozen=True, slots=True)
class Draft:
    """What a step is given, as arrays.

    Attributes:
        features: [B, L, features] of the sequences.
        blocks: Their blocks.
    """

    features: mx.array
    blocks: Blocks


class TrainableDrafter:
    """A drafter's forward over parameters that are handed in.

    Args:
        config: Its shape.
        teacher: Its target.
        soft: Part of the loss that follows the target's probabilities.
    """

    def __init__(self, config: DrafterConfig, teacher: Teacher, soft: float = 0.0) -> None:
        self.config = config
        self._teacher = teacher
        self._soft = soft
        self._weights = Weights(config)
        self.dtype = mx.float32 if teacher.dtype == mx.float32 else mx.bfloat16

    def hidden(self, parameters: Parameters, draft: Draft) -> mx.array:
        """[B, A, T - 1, D] of the drafted slots."""
        config = self.config
        self._load(parameters)
        taps = draft.features[..., : len(config.target_layer_ids) * config.hidden_size]
        context = project_context(self._weights, config, taps.astype(self.dtype))
        anchors, first = mx.array(draft.blocks.anchors), mx.array(draft.blocks.first)
        masks = mx.full((*first.shape, config.block_size - 1), config.mask_token_id, first.dtype)
        slots = mx.concatenate([first[..., None], masks], axis=-1)
        x = self._teacher.embed(slots).astype(self.dtype)
        if config.input_embedding_scale != 1:
            x = x * config.input_embedding_scale
        return draft_hidden(self._weights, config, context, anchors, x)

    def chain(self, parameters: Parameters) -> Chain | None:
        """How parameters choose tokens; None without a Markov head."""
        if not self.config.markov_rank:
            return None
        self._load(parameters)

        def embed(tokens: mx.array) -> mx.array:
            return self._teacher.embed(tokens).astype(self.dtype)

        return Chain(self._weights.markov, embed, self.scores, self.config.vocab_size)

    def _shifted(self, hidden: mx.array, blocks: Blocks) -> mx.array:
        """Hidden states with what the token before each slot adds to them.

        Every `ALONE`th block goes without, so that the slots' own scores stay good enough to pick
        candidates by.
        """
        before = np.concatenate([blocks.first[..., None], blocks.labels[..., :-1]], axis=-1)
        embedded = self._teacher.embed(mx.array(before)).astype(self.dtype)
        shift = self._weights.markov.shift(hidden, embedded)
        taught = mx.arange(before.shape[1]) % ALONE != 0
        return hidden + mx.where(taught[:, None, None], shift, 0)

    def scores(self, hidden: mx.array) -> mx.array:
        """Logits [N, V] of drafted slots [N, D]."""
        logits = self._teacher.head(hidden)
        if self.config.output_multiplier != 1:
            logits = logits * self.config.output_multiplier
        cap = self.config.final_logit_softcapping
        return logits if cap is None else mx.tanh(logits / cap) * cap

    def loss(self, parameters: Parameters, draft: Draft) -> mx.array:
        """The loss of a step, in nats."""
        hidden = self.hidden(parameters, draft)
        if self.config.markov_rank:
            hidden = self._shifted(hidden, draft.blocks)
        size = hidden.shape[-1]
        return weighted_loss(
            self.scores,
            hidden.reshape(-1, size),
            mx.array(draft.blocks.labels.reshape(-1)),
            mx.array(draft.blocks.weights.reshape(-1)),
            self._taught(draft, size) if self._soft else None,
        )

    def _taught(self, draft: Draft, size: int) -> tuple[mx.array, float]:
        """The target's hidden states where it chose the labels: one position before each."""
        anchors = mx.array(draft.blocks.anchors)
        at = anchors[..., None] + mx.arange(self.config.block_size - 1)
        rows = anchors.shape[0]
        last = draft.features[..., -size:]
        at = mx.minimum(at, last.shape[1] - 1).reshape(rows, -1, 1)
        states = mx.take_along_axis(last, mx.broadcast_to(at, (*at.shape[:2], size)), axis=1)
        return states.reshape(-1, size), self._soft

    def _load(self, parameters: Parameters) -> None:
        cast: Any = tree_map(lambda value: value.astype(self.dtype), parameters)
        nested: Any = tree_unflatten(list(cast.items()))
        self._weights.update(nested)
