"""The DFlash drafter: a small model that proposes a whole block of tokens in one forward.

A block is the last token (the anchor) and mask tokens; the drafter fills the masks at once. It sees
the target's hidden states of all verified tokens: they are projected to keys and values once, when
the target has computed them, and kept beside the target's own in its ragged cache.

In: the hidden states, while the target runs. Out: the logits of a block's tokens for every row.
(DFlash: Block Diffusion for Flash Speculative Decoding, arXiv 2602.06036.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from numpy.typing import NDArray

from pipeline.engine.choosing.sampling import likeliest_tokens
from pipeline.engine.drafters.drafter_config import DrafterConfig
from pipeline.engine.drafters.drafter_layers import Weights
from pipeline.engine.drafters.growing import Beginning, grow_trees
from pipeline.engine.drafters.late_context import LateContext
from pipeline.engine.drafters.markov import Chain, shortlist
from pipeline.engine.targets.positions import turn_each
from pipeline.engine.targets.taps import find_embedding, find_head
from pipeline.engine.targets.target import Target


@dataclass(frozen=True, slots=True)
class Blocks:
    """The rows' blocks, begun.

    Attributes:
        anchors: [B] the tokens before them.
        logits: [B, T, V] of the drafted slots, before a Markov head.
        gates: [B, T, R] of such a head, see `Markov.gates`.
    """

    anchors: list[int]
    logits: mx.array
    gates: mx.array | None

    @property
    def width(self) -> int:
        """T."""
        return self.logits.shape[1]


class Drafter:
    """A loaded drafter, bound to its target.

    Args:
        config: Its shape.
        weights: Its modules, joined.
        target: The model it drafts for. It must hold no rows yet.

    Attributes:
        largest_tree: The most tokens of a tree that the target takes; 0 if it takes none.
    """

    def __init__(self, config: DrafterConfig, weights: Weights, target: Target) -> None:
        self.config = config
        self._weights = weights
        self._cache, self._reading = target.cache, target.reading
        self.largest_tree = target.largest_tree
        widest = max(config.block_size, 1 + self.largest_tree)
        self._cache.block_columns = max(self._cache.block_columns, widest)
        self._layers = target.cache.add_layers(config.num_hidden_layers)
        self._embed, self._head = find_embedding(target.model), find_head(target.model)
        self._late = LateContext(self._cache, self._layers, self._extend, self._fill_in)
        target.tap(config.target_layer_ids, self._late.take)
        self._chain = self._make_chain() if config.markov_rank else None
        leaves: Any = tree_flatten(weights.parameters())
        target.weights_bytes += sum(int(array.nbytes) for _, array in leaves)
        target.weights_bytes += self._chain.nbytes if self._chain else 0
        target.kv_bytes_per_token += (
            2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
        ) * weights.norm.weight.itemsize

    def _make_chain(self) -> Chain:
        return Chain(self._weights.markov, self._embed, self._project, self.config.vocab_size)

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
        window, rope = self._cache.window, self._weights.rope
        if window.positions is None:
            keys = rope(keys, offset=window.offset)
        else:
            keys = turn_each(rope, keys, window.positions)
        heads = self.config.num_key_value_heads
        for i, layer in enumerate(self._layers):
            own = slice(i * heads, (i + 1) * heads)
            layer.update_and_fetch(keys[:, own], values[:, own])
        return [a for layer in self._layers for a in (layer.keys, layer.values) if a is not None]

    def _fill_in(self) -> list[mx.array]:
        config, dtype = self.config, self._weights.norm.weight.dtype
        heads, size = config.num_key_value_heads, config.head_dim
        empty = [layer for layer in self._layers if layer.keys is None]
        return [array for own in empty for array in own.buffers(heads, (size, size), dtype)]

    def begin(self, anchors: Sequence[int], width: int | None = None) -> Blocks:
        """Starts the forward for the tokens that follow each row's last token.

        The block always has its trained size: the drafter is worse at any other. Only the head
        is spared for the slots that nobody asks for.

        Args:
            anchors: [B] last tokens of rows 0..B-1, which the target has not run.
            width: Drafted tokens per row; the block's all by default.

        Returns:
            What `finish` takes, being computed.

        Raises:
            ValueError: A row has less than `block` free columns.
        """
        logits, gates = self._draft(anchors, width)
        mx.async_eval([logits] if gates is None else [logits, gates])
        return Blocks(list(anchors), logits, gates)

    def finish(self, blocks: Blocks, known: Sequence[Beginning] = ()) -> NDArray[np.int32]:
        """The tokens of blocks that were begun; waits for them.

        Args:
            blocks: They.
            known: What is known of the rows' blocks; a drafter with a Markov head goes on from it.

        Returns:
            [B, width] tokens, computed.
        """
        self._reading.finish()
        logits, gates = blocks.logits, blocks.gates
        if self._chain is None or gates is None:
            return likeliest_tokens(logits)
        known = known or [Beginning()] * len(blocks.anchors)
        return self._chain.choose(logits, gates, blocks.anchors, known)

    def grow(self, blocks: Blocks, known: Sequence[Beginning], count: int) -> NDArray[np.int32]:
        """Trees of so many tokens, grown out of blocks that were begun; see `growing.grow_trees`.

        Args:
            blocks: They.
            known: [B] what the blocks begin with; the trees stand behind it.
            count: Of tokens.

        Returns:
            [B, 2, count].
        """
        self._reading.finish()
        if self._chain is None or blocks.gates is None:
            return grow_trees(*shortlist(blocks.logits), blocks.anchors, known, count)
        return self._chain.grow(blocks.logits, blocks.gates, blocks.anchors, known, count)

    def draft(
        self, anchors: Sequence[int], width: int | None = None, known: Sequence[Beginning] = ()
    ) -> tuple[NDArray[np.int32], mx.array]:
        """`begin` and `finish` at once: [B, width] tokens, and the logits [B, width, V]."""
        blocks = self.begin(anchors, width)
        return self.finish(blocks, known), blocks.logits

    def _draft(self, anchors: Sequence[int], width: int | None) -> tuple[mx.array, mx.array | None]:
        """Logits [B, width, V], and with a Markov head its gates [B, width, R]."""
        self._late.catch_up()
        config, weights = self.config, self._weights
        drafted = self._drafted(width)
        rows = len(anchors)
        run = self._cache.look_at_block(rows, self.block)
        masks = [config.mask_token_id] * (self.block - 1)
        slots = [[anchor, *masks] for anchor in [*anchors, *[0] * (run - rows)]]
        x = self._embed(mx.array(slots))  # [B, T, D]
        if config.input_embedding_scale != 1:
            x = x * config.input_embedding_scale
        x = weights(x, self._layers)
        hidden = weights.norm(x[:rows, 1 : 1 + drafted])
        logits = self._project(hidden)
        cap = config.final_logit_softcapping
        gates = self._chain.gates(hidden) if self._chain else None
        return logits if cap is None else mx.tanh(logits / cap) * cap, gates

    def _drafted(self, width: int | None) -> int:
        return self.block - 1 if width is None else min(width, self.block - 1)

    def _project(self, hidden: mx.array) -> mx.array:
        logits = self._head(hidden)
        factor = self.config.output_multiplier
        return logits if factor == 1 else logits * factor
