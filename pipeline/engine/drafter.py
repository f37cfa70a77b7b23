"""The DFlash drafter: a small model that proposes a whole block of tokens in one forward.

A block is the last token (the anchor) and mask tokens; the drafter fills the masks at once. It sees
the target's hidden states of all verified tokens: they are projected to keys and values once, when
the target has computed them, and kept beside the target's own in its ragged cache.

In: the hidden states, while the target runs. Out: the logits of a block's tokens for every row.
(DFlash: Block Diffusion for Flash Speculative Decoding, arXiv 2602.06036.)
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from pipeline.engine.drafter_config import DrafterConfig
from pipeline.engine.drafter_layers import Weights
from pipeline.engine.late_context import LateContext
from pipeline.engine.taps import find_embedding, find_head
from pipeline.engine.target import Target


class Drafter:
    """A loaded drafter, bound to its target.

    Args:
        config: Its shape.
        weights: Its modules, joined.
        target: The model it drafts for. It must hold no rows yet.
    """

    def __init__(self, config: DrafterConfig, weights: Weights, target: Target) -> None:
        self.config = config
        self._weights = weights
        self._cache = target.cache
        self._layers = target.cache.add_layers(config.num_hidden_layers)
        self._embed, self._head = find_embedding(target.model), find_head(target.model)
        self._late = LateContext(self._cache, self._layers, self._extend)
        target.tap(config.target_layer_ids, self._late.take)
        leaves: Any = tree_flatten(weights.parameters())
        target.weights_bytes += sum(int(array.nbytes) for _, array in leaves)
        target.kv_bytes_per_token += (
            2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
        ) * weights.norm.weight.itemsize

    @property
    def block(self) -> int:
        """Slots of a block, the anchor's among them; each row needs so many free columns."""
        return self.config.block_size

    def _extend(self, taps: Sequence[mx.array]) -> list[mx.array]:
        """Puts the new tokens of a forward of the target into the drafter's context.

        Rejected tokens are overwritten later, as in the target's own layers.

        Args:
            taps: Per tapped layer its output, [B, T, D], at the columns the cache looks at.

        Returns:
            The buffers, to be computed.
        """
        keys, values = self._weights.project(taps)
        keys = self._weights.rope(keys, offset=self._cache.window.offset)
        heads = self.config.num_key_value_heads
        for i, layer in enumerate(self._layers):
            own = slice(i * heads, (i + 1) * heads)
            layer.update_and_fetch(keys[:, own], values[:, own])
        return [a for layer in self._layers for a in (layer.keys, layer.values) if a is not None]

    def draft_logits(self, anchors: mx.array | Sequence[int], width: int | None = None) -> mx.array:
        """Logits of the tokens that follow each row's last token. Nothing is computed yet.

        The block always has its trained size: the drafter is worse at any other. Only the head
        is spared for the slots that nobody asks for.

        Args:
            anchors: [B] last tokens of rows 0..B-1, which the target has not run.
            width: Drafted tokens per row; the block's all by default.

        Returns:
            [B, width, V].

        Raises:
            ValueError: A row has less than `block` free columns.
        """
        self._late.catch_up()
        config, weights = self.config, self._weights
        drafted = self.block - 1 if width is None else min(width, self.block - 1)
        anchors = (anchors if isinstance(anchors, mx.array) else mx.array(list(anchors)))[:, None]
        rows = anchors.shape[0]
        run = self._cache.look_at_block(rows, self.block)
        anchors = mx.pad(anchors, [(0, run - rows), (0, 0)]) if run > rows else anchors
        masks = mx.full((run, self.block - 1), config.mask_token_id, anchors.dtype)
        x = self._embed(mx.concatenate([anchors, masks], axis=1))  # [B, T, D]
        if config.input_embedding_scale != 1:
            x = x * config.input_embedding_scale
        x = weights(x, self._layers)
        logits = self._head(weights.norm(x[:rows, 1 : 1 + drafted]))
        if config.output_multiplier != 1:
            logits = logits * config.output_multiplier
        cap = config.final_logit_softcapping
        return logits if cap is None else mx.tanh(logits / cap) * cap
