"""A drafter whose block and whose context are a kernel each, beside a target that is one.

In: as `Drafter`. Out: likewise; see `fused` for why and how.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import mlx.core as mx
from mlx import nn

from pipeline.engine.cuda.fused_kernels import (
    DONE,
    HEAD,
    LAYER_INPUTS,
    ROOMS,
    Inbox,
    Rooms,
    Sizes,
    as_cpp,
    cache_names,
    fill_in,
    gates_call,
    head_call,
    kernel_start,
    launch,
    layers_call,
    make_kernel,
    new_counters,
    pack_layers,
    scratch_of,
    shared_bytes,
    turns,
    where,
)
from pipeline.engine.drafters.drafter import Drafter
from pipeline.engine.drafters.drafter_config import DrafterConfig
from pipeline.engine.drafters.drafter_layers import Weights
from pipeline.engine.drafters.fused_markov import MOST_TOLD, FusedChain
from pipeline.engine.drafters.markov import MOST_BANNED, Chain
from pipeline.engine.memory.moves import buffers_of
from pipeline.engine.targets.target import Target


def can_fuse(config: DrafterConfig, weights: Weights) -> bool:
    """Whether the kernels can run a drafter, for a target that is fused itself."""
    attention = all(not config.causal_in(i) and config.window_of(i) is None
                    for i in range(config.num_hidden_layers))  # fmt: skip
    plain = config.input_embedding_scale == 1 and config.output_multiplier == 1
    return (
        attention
        and plain
        and config.final_logit_softcapping is None
        and config.head_dim == HEAD
        and not config.attention_bias
        and config.intermediate_size % 32 == 0
        and config.markov_rank % 32 == 0
        and config.block_size + MOST_BANNED < MOST_TOLD
        and type(weights.rope) is nn.RoPE
    )


def pack_drafter(
    weights: Weights, table: mx.array, positions: int
) -> tuple[list[mx.array], list[mx.array]]:
    """The weights that the block's kernel takes, and those of the context's.

    Args:
        weights: Modules that are neither quantised nor joined.
        table: The target's head [V, D].
        positions: The most tokens of a row, a block's included.
    """
    attentions = [layer.self_attn for layer in weights.layers]
    rotary = turns(weights.rope, positions)
    key_norms = mx.stack([attention.k_norm.weight for attention in attentions])
    query_norms = mx.stack([attention.q_norm.weight for attention in attentions])
    head_norms = mx.stack([query_norms, key_norms], axis=1)
    projections = [attention.k_proj.weight for attention in attentions]
    projections += [attention.v_proj.weight for attention in attentions]
    block = [*pack_layers(weights.layers), head_norms, rotary, weights.norm.weight, table]
    context = [weights.fc.weight, weights.hidden_norm.weight, mx.concatenate(projections)]
    return block, [*context, key_norms, rotary]


class FusedDrafter(Drafter):
    """A loaded drafter, bound to a target that is one kernel.

    Args:
        config: Its shape.
        weights: Its modules, not quantised and not joined, in bfloat16.
        target: The model it drafts for. It must hold no rows yet.
    """

    def __init__(self, config: DrafterConfig, weights: Weights, target: Target) -> None:
        super().__init__(config, weights, target)
        table: Any = target.fused_table
        embedding: Any = self._embed
        self._embedding: mx.array = embedding.weight
        self._sizes = Sizes(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            groups=config.num_key_value_heads,
            inner=config.intermediate_size,
            vocabulary=target.vocabulary,
        )
        positions = target.info.context_tokens + config.block_size
        self._block_weights, self._context_weights = pack_drafter(weights, table, positions)
        if config.markov_rank:
            self._block_weights.append(weights.markov.gate_proj.weight)
        self._arrived = new_counters()
        self._inbox, self._told = Inbox(), Inbox()  # of blocks, and of contexts
        self._rooms, self._features = scratch_of(self._sizes), Rooms(config.hidden_size)
        mx.eval(self._block_weights, self._context_weights, self._arrived)

    def _extend(self, taps: Sequence[mx.array]) -> list[mx.array]:
        sizes, layers = self._sizes, len(self.config.target_layer_ids)
        states, width, _ = taps[0].shape
        rows = states // layers
        fill_in(self._layers, sizes.groups)
        window = self._cache.window
        begin, branches = where(window.places, width, self._layers), window.branches
        outputs = launch(
            _context_kernel(sizes, layers, self.config.rms_norm_eps, branches is not None),
            [
                self._told.put(begin, branches=branches),
                taps[0],
                *self._context_weights,
                self._arrived,
                self._features.of(rows * width)[0],
                *buffers_of(self._layers),
            ],
            [DONE],
        )
        self._told.used_by(outputs[0])
        return outputs

    def _make_chain(self) -> Chain:
        return FusedChain(self._weights.markov, self._embed, self._project, self.config.vocab_size)

    def _draft(self, anchors: Sequence[int], width: int | None) -> tuple[mx.array, mx.array | None]:
        self._late.catch_up()
        config, sizes, block = self.config, self._sizes, self.block
        drafted, rows, rank = self._drafted(width), len(anchors), config.markov_rank
        fill_in(self._layers, sizes.groups)
        self._cache.look_at_block(rows, block)
        masks = [config.mask_token_id] * (block - 1)
        told = self._inbox.put(
            where(self._cache.window.places, block, self._layers, drafted),
            [[anchor, *masks] for anchor in anchors],
        )
        outputs = launch(
            _block_kernel(sizes, rank, config.rms_norm_eps),
            [
                told,
                self._embedding,
                *self._block_weights,
                self._arrived,
                *self._rooms.of(rows * block),
                *buffers_of(self._layers),
            ],
            [(rows, drafted, sizes.vocabulary), *([(rows, drafted, rank)] if rank else [])],
        )
        self._inbox.used_by(outputs[0])
        return outputs[0], outputs[-1] if rank else None


@cache
def _block_kernel(sizes: Sizes, rank: int, eps: float) -> Callable[..., Any]:
    inputs = ["places", "embedding", *LAYER_INPUTS, "head_norms", "turns", "last_norm", "table"]
    outputs = ["logits"]
    source = kernel_start(sizes.layers) + layers_call(sizes, eps, "head_norms", "false", "")
    source += head_call(sizes, eps, "1", "places[3]")
    if rank:
        inputs, outputs = [*inputs, "gate_proj"], [*outputs, "gates"]
        source += gates_call(sizes, rank, eps, "1", "places[3]")
    inputs += ["arrived", *ROOMS, *cache_names(sizes.layers)]
    return make_kernel("block", inputs, outputs, source + "  leave(counters);\n")


@cache
def _context_kernel(
    sizes: Sizes,
    taps: int,
    eps: float,
    trees: bool,  # noqa: FBT001
) -> Callable[..., Any]:
    source = f"""{kernel_start(sizes.layers, rooms=["features"], trees=trees)}
  run_context<{sizes.layers}, {sizes.hidden}, {sizes.groups}, {taps}, {as_cpp(trees)}>(
      tokens, taps, fc, hidden_norm, kv, key_norms, turns, all_keys, all_values, features, {eps}f,
      counters, turn, shared);
  leave(counters);
"""
    inputs = ["places", "taps", "fc", "hidden_norm", "kv", "key_norms", "turns", "arrived"]
    inputs += ["features_room", *cache_names(sizes.layers)]
    room = shared_bytes(trees=trees)
    return make_kernel("context", inputs, ["done"], source, shared_bytes=room)
