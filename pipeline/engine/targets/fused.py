"""The forward of a small model as one kernel on an NVIDIA GPU, instead of hundreds.

A step of a model of 135M parameters is 500 kernels to MLX and 4 ms of launching them, while its
weights are read in 0.05 ms. `cuda/forward.cuh` runs all layers and the head in one launch, for any
number of rows and tokens, and writes keys and values into the rows' places in the cache. What a
token gets does not depend on what else is in the forward, to the last bit.

In: a loaded Llama in bfloat16 with heads of 64, and the cache. Out: logits, and the hidden states
that a drafter taps. Other models and devices keep to MLX's own operations.
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
    Place,
    Sizes,
    cache_names,
    device_blocks,
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
from pipeline.engine.memory.layer import LayerCache
from pipeline.engine.memory.moves import buffers_of
from pipeline.engine.tree import Branches

Tokens = Sequence[Sequence[int]] | mx.array
"""[B, T]; or an array whose first B are still being chosen, with T = 1."""
LARGEST = 2048
"""Hidden sizes up to this: a larger model's time goes into its weights, not into launches."""


def sizes_of(model: nn.Module, config: dict[str, Any]) -> Sizes | None:
    """The sizes of a model that the kernel can run, else None."""
    layers: Any = getattr(model, "layers", [])
    if config.get("model_type") != "llama" or not layers:
        return None
    attention, forward = layers[0].self_attn, layers[0].mlp
    linears = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    linears += [forward.gate_proj, forward.up_proj, forward.down_proj]
    plain = all(type(part) is nn.Linear and "bias" not in part for part in linears)
    inner, hidden = forward.gate_proj.weight.shape
    sizes = Sizes(
        layers=len(layers),
        hidden=hidden,
        heads=attention.n_heads,
        groups=attention.n_kv_heads,
        inner=inner,
        vocabulary=config["vocab_size"],
    )
    fits = (
        plain
        and forward.gate_proj.weight.dtype == mx.bfloat16
        and attention.q_proj.weight.shape[0] == HEAD * sizes.heads
        and type(attention.rope) is nn.RoPE
        and not attention.rope.traditional
        and all(size % 32 == 0 for size in (hidden, inner, sizes.vocabulary))
        and hidden <= LARGEST
        and all("sliding" not in kind for kind in config.get("layer_types") or ())
    )
    return sizes if fits else None


def fuse(model: nn.Module, config: dict[str, Any], positions: int) -> "Fused | None":
    """The model as one kernel, where that can be; see `Fused`."""
    sizes = sizes_of(model, config) if device_blocks() else None
    return Fused(model, sizes, positions) if sizes else None


class Fused:
    """A model's weights as the kernel reads them, and its launch.

    Args:
        model: A loaded Llama of mlx-lm.
        sizes: What `sizes_of` found.
        positions: The most tokens of a row.
    """

    def __init__(self, model: nn.Module, sizes: Sizes, positions: int) -> None:
        inside: Any = getattr(model, "model", model)
        layers = inside.layers
        self.sizes = sizes
        head: Any = getattr(model, "lm_head", None)
        self._table = inside.embed_tokens.weight
        self._weights = [
            *pack_layers(layers),
            turns(layers[0].self_attn.rope, positions),
            inside.norm.weight,
            self._table if head is None else head.weight,
        ]
        self.table = self._weights[-1]
        self._eps = layers[0].input_layernorm.eps
        self._arrived = new_counters()
        self._inbox, self._rooms = Inbox(), scratch_of(sizes)
        mx.eval(self._weights, self._arrived)

    def forward(
        self,
        tokens: Tokens,
        places: Sequence[Place],
        caches: Sequence[LayerCache],
        taps: tuple[int, ...],
        *,
        logits: bool,
        branches: Branches | None = None,
    ) -> tuple[mx.array, mx.array]:
        """Runs new tokens; their keys and values are in the cache once the outputs are computed.

        Args:
            tokens: [B, T], or what a `Chooser` leaves.
            places: For each row its slot in the cache, and the column of its first token.
            caches: The layers' buffers, which must be there.
            taps: Layers whose outputs are wanted, counted from 0.
            logits: Whether the head is to be run.
            branches: How the tokens follow each other, if some rows are trees.

        Returns:
            Logits [B, T, V] in bfloat16, or something to evaluate in their place; and the outputs
            of the L tapped layers, [L B, T, D].

        Raises:
            ValueError: There are more trees, or wider ones, than the kernel has room for.
        """
        sizes, rows = self.sizes, len(places)
        if isinstance(tokens, mx.array):
            width, told, chosen = 1, (), tokens
        else:
            width, told, chosen = len(tokens[0]), tokens, None
        begin = where(places, width, caches, chosen is not None)
        inbox = self._inbox.put(begin, told, branches)
        outputs = launch(
            _forward_kernel(sizes, taps, self._eps, logits, branches is not None),
            [
                inbox,
                inbox if chosen is None else chosen,
                self._table,
                *self._weights,
                self._arrived,
                *self._rooms.of(rows * width),
                *buffers_of(caches),
            ],
            [
                (rows, width, sizes.vocabulary) if logits else DONE,
                (len(taps) * rows, width, sizes.hidden) if taps else DONE,
            ],
        )
        self._inbox.used_by(outputs[0])
        return outputs[0], outputs[1]


@cache
def _forward_kernel(
    sizes: Sizes,
    taps: tuple[int, ...],
    eps: float,
    logits: bool,  # noqa: FBT001
    trees: bool,  # noqa: FBT001
) -> Callable[..., Any]:
    inputs = ["places", "chosen", "embedding", *LAYER_INPUTS, "turns", "last_norm", "table"]
    return make_kernel(
        "forward",
        [*inputs, "arrived", *ROOMS, *cache_names(sizes.layers)],
        ["logits", "taps"],
        forward_source(sizes, taps, eps, logits=logits, trees=trees),
        shared_bytes=shared_bytes(trees=trees),
    )


def forward_source(
    sizes: Sizes, taps: tuple[int, ...], eps: float, *, logits: bool, trees: bool = False
) -> str:
    """The body of the target's kernel."""
    kept = "".join(
        f"        if (layer == {layer}) store_pair(taps + ({i} * count + m) * {sizes.hidden} + n, "
        "pair);\n"
        for i, layer in enumerate(taps)
    )
    head = head_call(sizes, eps, "0", "tokens.width") if logits else ""
    layers = layers_call(sizes, eps, "nullptr", "true", kept, trees=trees)
    return (
        kernel_start(sizes.layers, "places[3] ? chosen : nullptr", trees=trees)
        + layers
        + head
        + "  leave(counters);\n"
    )
