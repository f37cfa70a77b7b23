"""The drafter's forward as it is trained: many blocks of a sequence at once, each by itself.

Every block sees the target's hidden states strictly before its anchor and its own slots, as when
it is served, at the same positions: `tests/test_training_forward.py` holds the two against each
other. The modules are the engine's, before what shares an input is joined.
"""

from dataclasses import dataclass

import mlx.core as mx
from mlx import nn

from pipeline.engine.drafters.drafter_config import DrafterConfig
from pipeline.engine.drafters.drafter_layers import Attention, FeedForward, Weights

Context = list[tuple[mx.array, mx.array]]
"""Per layer the keys, at their positions, and the values of the context: [B, G, L, d]."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the slots of blocks see.

    Attributes:
        context: [B, A, T or 1, L] whether a slot sees a token of the context.
        own: [B or 1, A or 1, T or 1, T] whether it sees a slot of its own block.
    """

    context: mx.array
    own: mx.array


def uses_fused_attention() -> bool:
    """Whether attention that keeps no scores is there for training, too: on CUDA."""
    return mx.cuda.is_available() and mx.default_device() != mx.Device(mx.cpu)


def project_context(weights: Weights, config: DrafterConfig, taps: mx.array) -> Context:
    """Keys and values of the context, one for all blocks.

    Args:
        weights: The drafter's modules, not joined.
        config: Its shape.
        taps: [B, L, taps * D] the target's hidden states, from position 0 on.
    """
    features = weights.hidden_norm(weights.fc(taps))
    rows, length, _ = features.shape
    shape = (rows, length, config.num_key_value_heads, config.head_dim)
    found: Context = []
    for layer in weights.layers:
        attention = layer.self_attn
        keys = attention.k_norm(attention.k_proj(features).reshape(shape)).transpose(0, 2, 1, 3)
        values = attention.v_proj(features).reshape(shape).transpose(0, 2, 1, 3)
        found.append((weights.rope(keys, offset=0), values))
    return found


def draft_hidden(
    weights: Weights, config: DrafterConfig, context: Context, anchors: mx.array, x: mx.array
) -> mx.array:
    """Runs blocks through the layers.

    Args:
        weights: The drafter's modules, not joined.
        config: Its shape.
        context: Of the sequences, see `project_context`.
        anchors: [B, A] positions of the blocks' first slots.
        x: [B, A, T, D] the slots' embeddings: the anchor's and the mask token's.

    Returns:
        [B, A, T - 1, D] after the last norm, of the drafted slots: the k-th is of k after the
        anchor.
    """
    sights: dict[tuple[bool, int | None], Sight] = {}
    for number, layer in enumerate(weights.layers):
        kind = config.causal_in(number), config.window_of(number)
        if kind not in sights:
            length = context[number][0].shape[2]
            sights[kind] = see(anchors, x.shape[2], length, causal=kind[0], window=kind[1])
        attended = _attend_layer(
            layer.self_attn, weights.rope, config, layer.input_layernorm(x), anchors,
            context[number], sights[kind],
        )  # fmt: skip
        x = x + attended
        x = x + _feed_forward(layer.mlp, layer.post_attention_layernorm(x))
    return weights.norm(x[:, :, 1:])


def see(
    anchors: mx.array, block: int, length: int, *, causal: bool = False, window: int | None = None
) -> Sight:
    """What every slot sees.

    Args:
        anchors: [B, A].
        block: T.
        length: L of the context.
        causal: A slot sees only the slots before it, and itself.
        window: Sliding window, in tokens.
    """
    seen = mx.arange(length)
    context = seen < anchors[..., None, None]  # [B, A, 1, L]: strictly before
    slots = mx.arange(block)
    own = mx.ones((1, 1, 1, block), mx.bool_)
    if causal:
        own = (slots[None, :] <= slots[:, None])[None, None]
    if window:
        here = anchors[..., None] + slots  # [B, A, T]
        context = context & (here[..., None] - seen < window)
        own = own & (mx.abs(slots[:, None] - slots[None, :]) < window)[None, None]
    return Sight(context, own)


def _attend_layer(  # noqa: PLR0913, PLR0917  what a layer's attention is made of
    attention: Attention,
    rope: nn.Module,
    config: DrafterConfig,
    x: mx.array,
    anchors: mx.array,
    context: tuple[mx.array, mx.array],
    sight: Sight,
) -> mx.array:
    """Attention of the slots over the context and their own block: [B, A, T, D]."""
    rows, blocks, width, _ = x.shape
    size, heads, groups = config.head_dim, config.num_attention_heads, config.num_key_value_heads
    offsets = anchors.reshape(-1)

    def placed(slots: mx.array, norm: nn.Module, count: int) -> mx.array:
        slots = norm(slots.reshape(rows * blocks, width, count, size)).transpose(0, 2, 1, 3)
        slots = rope(slots, offset=offsets).reshape(rows, blocks, count, width, size)
        return slots.transpose(0, 2, 1, 3, 4)  # [B, H, A, T, d]

    queries = placed(attention.q_proj(x), attention.q_norm, heads)
    keys = placed(attention.k_proj(x), attention.k_norm, groups)
    values = attention.v_proj(x).reshape(rows, blocks, width, groups, size)
    values = values.transpose(0, 3, 1, 2, 4)
    attend = _attend_fused if uses_fused_attention() else _attend_parted
    output = attend(queries, (keys, values), context, sight)  # [B, H, A, T, d]
    return attention.o_proj(output.transpose(0, 2, 3, 1, 4).reshape(rows, blocks, width, -1))


def _attend_parted(
    queries: mx.array,
    own: tuple[mx.array, mx.array],
    context: tuple[mx.array, mx.array],
    sight: Sight,
) -> mx.array:
    """Scores of context and block apart, so that none is computed across blocks."""
    rows, heads, blocks, width, size = queries.shape
    groups, length = context[0].shape[1:3]
    per_group = heads // groups
    queries = (queries * size**-0.5).reshape(rows, groups, per_group, blocks, width, size)
    flat = queries.reshape(rows, groups, -1, size)
    before = (flat @ context[0].swapaxes(-1, -2)).reshape(*queries.shape[:-1], length)
    inside = queries @ own[0][:, :, None].swapaxes(-1, -2)  # [B, G, H/G, A, T, T]
    hidden = mx.array(-mx.inf, before.dtype)
    before = mx.where(sight.context[:, None, None], before, hidden)
    inside = mx.where(sight.own[:, None, None], inside, hidden)
    chances = mx.softmax(mx.concatenate([before, inside], axis=-1), axis=-1, precise=True)
    seen = chances[..., :length].reshape(rows, groups, -1, length) @ context[1]
    output = seen.reshape(queries.shape) + chances[..., length:] @ own[1][:, :, None]
    return output.reshape(rows, heads, blocks, width, size)


def _attend_fused(
    queries: mx.array,
    own: tuple[mx.array, mx.array],
    context: tuple[mx.array, mx.array],
    sight: Sight,
) -> mx.array:
    """One call for all blocks under a block-diagonal mask; no scores are kept."""
    rows, heads, blocks, width, size = queries.shape
    keys, values = (
        mx.concatenate([before, inside.reshape(rows, -1, blocks * width, size)], axis=2)
        for before, inside in zip(context, own, strict=True)
    )
    mask = block_diagonal(sight, blocks, width)
    output = mx.fast.scaled_dot_product_attention(
        queries.reshape(rows, heads, -1, size), keys, values, scale=size**-0.5,
        mask=mx.where(mask, 0, -mx.inf).astype(queries.dtype),
    )  # fmt: skip
    return output.reshape(queries.shape)


def block_diagonal(sight: Sight, blocks: int, width: int) -> mx.array:
    """The mask over context and all blocks: [B, 1, A T, L + A T]."""
    rows, _, _, length = sight.context.shape
    context = mx.broadcast_to(sight.context, (rows, blocks, width, length))
    same = mx.eye(blocks, dtype=mx.bool_)[:, None, :, None]  # [A, 1, A, 1]
    own = mx.broadcast_to(sight.own, (rows, blocks, width, width))[:, :, :, None]
    inside = own & same[None]  # [B, A, T, A, T]
    return mx.concatenate(
        [context.reshape(rows, -1, length), inside.reshape(rows, blocks * width, -1)], axis=-1
    )[:, None]


def _feed_forward(module: FeedForward, x: mx.array) -> mx.array:
    # Not `swiglu`: on a CPU the engine puts a SiLU in its place that has no gradient.
    gate = module.gate_proj(x)
    return module.down_proj(gate * mx.sigmoid(gate) * module.up_proj(x))
