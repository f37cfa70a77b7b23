"""The modules of a DFlash drafter, under their published names: layers of Qwen3's kind.

Few and large products: on a GPU a small model's time goes by the number of kernels, so what shares
an input is joined into one product once the weights are loaded.
(DFlash: Block Diffusion for Flash Speculative Decoding, arXiv 2602.06036.)
"""

from collections.abc import Sequence

import mlx.core as mx
from mlx import nn
from mlx_lm.models.activations import swiglu
from mlx_lm.models.rope_utils import initialize_rope

from pipeline.engine.drafters.drafter_config import DrafterConfig
from pipeline.engine.drafters.markov import Markov
from pipeline.engine.memory.layer import LayerCache
from pipeline.engine.targets.joined import Joined
from pipeline.errors import InputError

Sight = tuple[bool, int | None]
"""What a slot sees: whether only the slots before it, and its sliding window."""
Mask = mx.array | str | None


class Attention(nn.Module):
    """Attention of a block's slots over the context and over each other.

    Args:
        config: The drafter.
        layer: The layer's number.
    """

    def __init__(self, config: DrafterConfig, layer: int) -> None:
        super().__init__()
        size, bias, eps = config.hidden_size, config.attention_bias, config.rms_norm_eps
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._head_dim, self._eps = config.head_dim, eps
        self._sees = (config.causal_in(layer), config.window_of(layer))
        self.q_proj = nn.Linear(size, self._heads * config.head_dim, bias=bias)
        self.k_proj = nn.Linear(size, self._kv_heads * config.head_dim, bias=bias)
        self.v_proj = nn.Linear(size, self._kv_heads * config.head_dim, bias=bias)
        self.o_proj = nn.Linear(self._heads * config.head_dim, size, bias=bias)
        self.q_norm = nn.RMSNorm(config.head_dim, eps=eps)
        self.k_norm = nn.RMSNorm(config.head_dim, eps=eps)

    def join(self) -> None:
        """Makes one product of q, k and v, once the weights are there."""
        self.qkv_proj = Joined([self.q_proj, self.k_proj, self.v_proj])
        self.qk_norm = mx.concatenate([
            mx.broadcast_to(norm.weight, (heads, self._head_dim))
            for norm, heads in ((self.q_norm, self._heads), (self.k_norm, self._kv_heads))
        ])  # fmt: skip
        for name in ("q_proj", "k_proj", "v_proj", "q_norm", "k_norm"):
            self.pop(name)

    def __call__(
        self, x: mx.array, rope: nn.Module, cache: LayerCache, masks: dict[Sight, Mask]
    ) -> mx.array:
        """Attention of a block.

        Args:
            x: [B, T, D].
            rope: The rotary positions.
            cache: The layer's buffers, which look at the block.
            masks: Those that were made for layers before; gets one more if none fits.

        Returns:
            [B, T, D].
        """
        rows, width, _ = x.shape
        both = self._heads + self._kv_heads
        qkv = self.qkv_proj(x).reshape(rows, width, both + self._kv_heads, self._head_dim)
        # The norm runs over the values, too, and is not used there: that spares two copies.
        qk = mx.fast.rms_norm(qkv, None, self._eps)[:, :, :both] * self.qk_norm
        qk = rope(qk.transpose(0, 2, 1, 3), offset=cache.offset)  # [B, H, T, D]
        queries, keys = qk[:, : self._heads], qk[:, self._heads :]
        keys, values = cache.update_and_fetch(keys, qkv[:, :, both:].transpose(0, 2, 1, 3))
        if self._sees not in masks:
            causal, window = self._sees
            masks[self._sees] = (
                cache.make_mask(width, window_size=window)
                if causal
                else cache.make_block_mask(window)
            )
        output = mx.fast.scaled_dot_product_attention(
            queries, keys, values, scale=self._head_dim**-0.5, mask=masks[self._sees]
        )
        return self.o_proj(output.transpose(0, 2, 1, 3).reshape(rows, width, -1))


class FeedForward(nn.Module):
    """Gated linear units."""

    def __init__(self, config: DrafterConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def join(self) -> None:
        """Makes one product of gate and up, once the weights are there."""
        self.gate_up_proj = Joined([self.gate_proj, self.up_proj])
        self.pop("gate_proj")
        self.pop("up_proj")

    def __call__(self, x: mx.array) -> mx.array:
        """[B, T, D] -> [B, T, D]."""
        gate, up = mx.split(self.gate_up_proj(x), 2, axis=-1)
        return self.down_proj(swiglu(gate, up))


class DecoderLayer(nn.Module):
    """A layer of Qwen3's kind."""

    def __init__(self, config: DrafterConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = FeedForward(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def __call__(
        self, x: mx.array, rope: nn.Module, cache: LayerCache, masks: dict[Sight, Mask]
    ) -> mx.array:
        """[B, T, D] -> [B, T, D]; see `Attention`."""
        x = x + self.self_attn(self.input_layernorm(x), rope, cache, masks)
        return x + self.mlp(self.post_attention_layernorm(x))


def make_rope(config: DrafterConfig) -> nn.Module:
    """The rotary positions, which all layers share.

    Raises:
        InputError: mlx-lm does not know their kind.
    """
    try:
        return initialize_rope(
            config.head_dim,
            config.rope_theta,
            traditional=False,
            scaling_config=config.rope_scaling,
            max_position_embeddings=config.max_position_embeddings,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the drafter's rope_scaling={config.rope_scaling!r} can't be used ({error!r}); give "
            "a drafter whose positions mlx-lm knows"
        ) from error


class Weights(nn.Module):
    """A drafter's modules under their published names."""

    def __init__(self, config: DrafterConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self._kv_shape = (config.num_hidden_layers * config.num_key_value_heads, config.head_dim)
        self._eps = config.rms_norm_eps
        self.fc = nn.Linear(len(config.target_layer_ids) * size, size, bias=False)
        self.hidden_norm = nn.RMSNorm(size, eps=config.rms_norm_eps)
        self.layers = [DecoderLayer(config, i) for i in range(config.num_hidden_layers)]
        self.norm = nn.RMSNorm(size, eps=config.rms_norm_eps)
        self.rope = make_rope(config)
        if config.markov_rank:
            self.markov = Markov(config)

    def join(self) -> None:
        """Joins products of one input, once the weights are there.

        The context's k and v of all layers are one product, at the price of a second copy of
        their weights, some 4 % of a drafter.
        """
        attentions = [layer.self_attn for layer in self.layers]
        self.context_kv_proj = Joined([
            *(attention.k_proj for attention in attentions),
            *(attention.v_proj for attention in attentions),
        ])  # fmt: skip
        per_layer = self._kv_shape[0] // len(self.layers)
        norms = mx.stack([attention.k_norm.weight for attention in attentions])
        self.context_k_norm = mx.repeat(norms, per_layer, axis=0)
        for layer in self.layers:
            layer.self_attn.join()
            layer.mlp.join()

    def __call__(self, x: mx.array, caches: Sequence[LayerCache]) -> mx.array:
        """Runs a block through the layers: [B, T, D] -> [B, T, D], before the last norm."""
        masks: dict[Sight, Mask] = {}
        for layer, cache in zip(self.layers, caches, strict=True):
            x = layer(x, self.rope, cache, masks)
        return x

    def project(self, taps: Sequence[mx.array]) -> tuple[mx.array, mx.array]:
        """Keys, without their positions, and values of the context.

        Args:
            taps: Per tapped layer of the target its output, [B, T, D].

        Returns:
            Both [B, all layers' H, T, D].
        """
        features = self.hidden_norm(self.fc(mx.concatenate(list(taps), axis=-1)))
        rows, width, _ = features.shape
        kv = self.context_kv_proj(features).reshape(rows, width, 2, *self._kv_shape)
        keys = mx.fast.rms_norm(kv, None, self._eps)[:, :, 0] * self.context_k_norm
        return keys.transpose(0, 2, 1, 3), kv[:, :, 1].transpose(0, 2, 1, 3)
