"""The forward of a small model as one kernel on an NVIDIA GPU, instead of hundreds.

A step of a model of 135M parameters is 500 kernels to MLX and 4 ms of launching them, while its
weights are read in 0.05 ms. `cuda/forward.cuh` runs all layers and the head in one launch, for any
number of rows and tokens, and writes keys and values into the rows' places in the cache. What a
token gets does not depend on what else is in the forward, to the last bit.

In: a loaded Llama in bfloat16 with heads of 64, and the cache. Out: logits, and the hidden states
that a drafter taps. Other models and devices keep to MLX's own operations.
"""

import ctypes
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn

from pipeline.engine.cache import LayerCache

SOURCES = Path(__file__).with_name("cuda")
HEAD = 64
SHARED_BYTES = 66 * 1024
THREADS = 256
COUNTERS = 1024
"""Two are used; MLX keeps arrays of 8 bytes in the host's memory, where counting takes 380 us."""
LARGEST = 2048
"""Hidden sizes up to this: a larger model's time goes into its weights, not into launches."""


Place = tuple[int, int]
"""A row's slot in the cache, and the column of its first new token."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the kernel is compiled for: D, H, G, the inner size of the feed-forward, V."""

    layers: int
    hidden: int
    heads: int
    groups: int
    inner: int
    vocabulary: int


@cache
def device_blocks() -> int:
    """Multiprocessors of the GPU, each of which can run one block; 0 where there is no GPU."""
    if not mx.cuda.is_available():
        return 0
    try:
        driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
        multiprocessors = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
        failed = driver.cuInit(0) or driver.cuDeviceGetAttribute(
            ctypes.byref(count), multiprocessors, 0
        )
    except (OSError, AttributeError):
        return 0
    return 0 if failed else count.value


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
        mx.eval(self._weights, self._arrived)

    def forward(
        self,
        tokens: Sequence[Sequence[int]],
        places: Sequence[Place],
        caches: Sequence[LayerCache],
        taps: tuple[int, ...],
        *,
        logits: bool,
    ) -> tuple[mx.array, list[mx.array]]:
        """Runs new tokens; their keys and values are in the cache once the outputs are computed.

        Args:
            tokens: [B, T].
            places: For each row its slot in the cache, and the column of its first token.
            caches: The layers' buffers, which must be there.
            taps: Layers whose outputs are wanted, counted from 0.
            logits: Whether the head is to be run.

        Returns:
            Logits [B, T, V] in bfloat16, or something to evaluate in their place; and per tapped
            layer its output [B, T, D].
        """
        sizes, rows, width = self.sizes, len(tokens), len(tokens[0])
        outputs = launch(
            _forward_kernel(sizes, taps, self._eps, logits),
            [
                where(places, width, caches),
                self._table[mx.array([list(row) for row in tokens])],
                *self._weights,
                self._arrived,
                *buffers_of(caches),
            ],
            [
                (rows, width, sizes.vocabulary) if logits else (1,),
                (max(1, len(taps)), rows, width, sizes.hidden),
                *scratch_shapes(sizes, rows * width),
            ],
        )
        return outputs[0 if logits else 2], [outputs[1][i] for i in range(len(taps))]


def new_counters() -> mx.array:
    """What the blocks of a kernel count each other with."""
    return mx.zeros(COUNTERS, mx.uint32)


def buffers_of(caches: Sequence[LayerCache]) -> list[mx.array]:
    """All keys, then all values."""
    found = [cache.keys for cache in caches] + [cache.values for cache in caches]
    return [buffer for buffer in found if buffer is not None]


def where(
    places: Sequence[Place], width: int, caches: Sequence[LayerCache], more: int = 0
) -> mx.array:
    """The kernels' `places`: numbers of rows, of tokens and of columns, `more`, and the rows'."""
    keys = caches[0].keys
    columns = 0 if keys is None else keys.shape[2]
    flat = [number for place in places for number in place]
    return mx.array([len(places), width, columns, more, *flat], mx.int32)


def scratch_shapes(sizes: Sizes, count: int) -> list[tuple[int, ...]]:
    """Of `hidden`, `q`, `attended` and `gated` for so many tokens."""
    heads = sizes.heads * HEAD
    return [(count, sizes.hidden), (count, heads), (count, heads), (count, sizes.inner)]


def launch(
    kernel: Callable[..., Any], inputs: list[mx.array], shapes: list[tuple[int, ...]]
) -> list[mx.array]:
    """Runs a kernel with one block on each multiprocessor."""
    return kernel(
        inputs=inputs,
        template=[],
        grid=(device_blocks() * THREADS, 1, 1),
        threadgroup=(THREADS, 1, 1),
        output_shapes=shapes,
        output_dtypes=[mx.bfloat16] * len(shapes),
    )


def make_kernel(
    kind: str, inputs: list[str], outputs: list[str], source: str
) -> Callable[..., Any]:
    """A kernel of this body; inputs that `cache_names` names are written to."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    made: Any = mx.fast.cuda_kernel(
        name=f"docflash_{kind}_{digest}",
        input_names=inputs,
        output_names=outputs,
        header=kernel_header(),
        source=source,
        shared_memory=SHARED_BYTES,
    )
    return made


def cache_names(layers: int) -> list[str]:
    """The buffers' names in a kernel, as `buffers_of` orders them."""
    return [f"{kind}{i}" for kind in ("keys", "values") for i in range(layers)]


LAYER_INPUTS = ["qkv", "o", "gate_up", "down", "norms"]
SCRATCH = ["hidden", "q", "attended", "gated"]


@cache
def _forward_kernel(
    sizes: Sizes,
    taps: tuple[int, ...],
    eps: float,
    logits: bool,  # noqa: FBT001
) -> Callable[..., Any]:
    inputs = ["places", "embedded", *LAYER_INPUTS, "turns", "last_norm", "table", "arrived"]
    return make_kernel(
        "forward",
        inputs + cache_names(sizes.layers),
        ["logits", "taps", *SCRATCH],
        forward_source(sizes, taps, eps, logits),
    )


@cache
def kernel_header() -> str:
    """The functions that the kernels are made of."""
    return "".join(
        (SOURCES / name).read_text("utf-8") for name in ("primitives.cuh", "forward.cuh")
    )


def kernel_start(layers: int) -> str:
    """What every kernel's body begins with."""
    names = cache_names(layers)
    keys, values = (
        ", ".join(f"const_cast<bf16*>({name})" for name in half)
        for half in (names[:layers], names[layers:])
    )
    return f"""
  extern __shared__ float shared[];
  bf16* all_keys[] = {{{keys}}};
  bf16* all_values[] = {{{values}}};
  Tokens tokens{{places[0], places[1], places[2], places + 4}};
  unsigned* counters = const_cast<unsigned*>(arrived);
  unsigned turn = 0;
  const size_t count = tokens.count();
"""


def layers_call(sizes: Sizes, eps: float, head_norms: str, causal: str, tapped: str) -> str:
    """The call that runs all layers."""
    return f"""
  run_layers<{sizes.layers}, {sizes.hidden}, {sizes.heads}, {sizes.groups}, {sizes.inner},
             {"false" if head_norms == "nullptr" else "true"}, {causal}>(
      tokens, {{qkv, o, gate_up, down, norms, {head_norms}, turns}}, all_keys, all_values, embedded,
      {{hidden, q, attended, gated}}, {eps}f, counters, turn, shared,
      [=](int layer, int m, int n, unsigned pair) {{
{tapped}      }});
"""


def head_call(sizes: Sizes, eps: float, start: str, taken: str) -> str:
    """The call that runs the last norm and the head."""
    return (
        f"  run_head<{sizes.hidden}, {sizes.vocabulary}>(tokens, hidden, last_norm, table, {eps}f, "
        f"{start}, {taken}, logits, shared);\n"
    )


def forward_source(sizes: Sizes, taps: tuple[int, ...], eps: float, logits: bool) -> str:  # noqa: FBT001
    """The body of the target's kernel."""
    kept = "".join(
        f"        if (layer == {layer}) store_pair(taps + ({i} * count + m) * {sizes.hidden} + n, "
        "pair);\n"
        for i, layer in enumerate(taps)
    )
    head = head_call(sizes, eps, "0", "tokens.width") if logits else ""
    layers = layers_call(sizes, eps, "nullptr", "true", kept)
    return kernel_start(sizes.layers) + layers + head + "  leave(counters);\n"


def pack_layers(layers: Sequence[Any]) -> list[mx.array]:
    """The layers' weights as `Weights` in `forward.cuh` has them."""
    return [
        mx.stack([_qkv(layer.self_attn) for layer in layers]),
        mx.stack([layer.self_attn.o_proj.weight for layer in layers]),
        mx.stack([_gate_up(layer.mlp) for layer in layers]),
        mx.stack([layer.mlp.down_proj.weight for layer in layers]),
        mx.stack([_norms(layer) for layer in layers]),
    ]


def _qkv(attention: Any) -> mx.array:
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    return mx.concatenate([part.weight for part in parts])


def _gate_up(forward: Any) -> mx.array:
    gate, up = forward.gate_proj.weight, forward.up_proj.weight
    return mx.stack([gate, up], axis=1).reshape(-1, gate.shape[1])


def _norms(layer: Any) -> mx.array:
    return mx.stack([layer.input_layernorm.weight, layer.post_attention_layernorm.weight])


def turns(rope: Any, positions: int) -> mx.array:
    """Cosines and sines of the rotary positions, [positions, 32, 2] in float32."""
    frequencies = rope.base ** (-mx.arange(0, HEAD, 2, mx.float32) / HEAD)
    angles = mx.arange(positions)[:, None] * rope.scale * frequencies
    return mx.stack([mx.cos(angles), mx.sin(angles)], axis=-1)
