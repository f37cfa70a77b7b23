"""What the one-launch kernels of a GPU are made of: their source, their inputs and their launch.

In: sizes. Out: kernels for `fused` and `fused_drafter`, whose code is `cuda/forward.cuh`.
"""

import ctypes
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pipeline.engine.cuda.mailbox import GrowingMailbox
from pipeline.engine.memory.layer import LayerCache
from pipeline.engine.tree import Branches

SOURCES = Path(__file__).parent
HEAD = 64
OLDEST_MAJOR = 8  # the first compute capability that multiplies bfloat16
PLACES_AT = 4 * 2 * 3 * 4 * (128 + 96)  # in floats: after the stages of a tile, which take most
SHARED_BYTES = 4 * (PLACES_AT + 2 * 256)  # 99 KiB are what every GPU has
ROOM_FOR_TREES, WIDEST_TREE = 16, 16
"""Rows, and tokens of a row, of a forward that has trees: a thread of a block holds one."""
TREES_BYTES = 4 * 4 * ROOM_FOR_TREES * WIDEST_TREE
"""What is kept of trees, after the places."""
THREADS = 256
COUNTERS = 1024
"""Two are used; MLX keeps arrays of 8 bytes in the host's memory, where counting takes 380 us."""
DONE = (16,)
"""Shape of an output that is only there to be waited for: 8 bytes would be the host's, too."""
LAYER_INPUTS = ["qkv", "o", "gate_up", "down", "norms"]
SCRATCH = ["hidden", "q", "attended", "gated"]
ROOMS = [f"{name}_room" for name in SCRATCH]
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
    """Multiprocessors of the GPU, each of which runs one block; 0 without one that can (sm_80)."""
    if not mx.cuda.is_available():
        return 0
    multiprocessors, major, shares = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    # CUdevice_attribute, see cuda.h; the last: the host may look at memory that a kernel uses.
    asked = ((16, multiprocessors), (75, major), (89, shares))
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        failed = driver.cuInit(0) or any(
            driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, 0)
            for attribute, value in asked
        )
    except (OSError, AttributeError):
        return 0
    fits = not failed and major.value >= OLDEST_MAJOR and shares.value == 1
    return multiprocessors.value if fits else 0


def fill_in(layers: Sequence[LayerCache], groups: int) -> None:
    """Makes the buffers of layers that nobody has written to yet: kernels write into them."""
    for layer in layers:
        if layer.keys is None or layer.values is None:
            mx.eval(layer.buffers(groups, (HEAD, HEAD), mx.bfloat16))


def shared_bytes(*, trees: bool) -> int:
    """What a kernel asks for, of the memory that a block shares."""
    return SHARED_BYTES + (TREES_BYTES if trees else 0)


def new_counters() -> mx.array:
    """What the blocks of a kernel count each other with."""
    return mx.zeros(COUNTERS, mx.uint32)


def where(
    places: Sequence[Place], width: int, caches: Sequence[LayerCache], more: int = 0
) -> list[int]:
    """What `tokens_of` reads first: numbers of rows, tokens and columns, `more`, and the places."""
    keys = caches[0].keys
    columns = 0 if keys is None else keys.shape[2]
    return [len(places), width, columns, more, *(number for place in places for number in place)]


class Inbox:
    """What a kernel is told, shared with the GPU: two boxes, used in turns.

    What is still in a box belongs to the last kernel but one, which is waited for.
    """

    def __init__(self) -> None:
        self._boxes = (GrowingMailbox(), GrowingMailbox())
        self._readers: list[mx.array | None] = [None, None]
        self._turn = 0

    def put(
        self,
        places: list[int],
        tokens: Sequence[Sequence[int]] = (),
        branches: Branches | None = None,
    ) -> mx.array:
        """Places and tokens [B, T], as kernels take them.

        Raises:
            ValueError: The kernels have no room for so many trees.
        """
        self._turn = 1 - self._turn
        reader = self._readers[self._turn]
        if reader is not None:
            mx.eval(reader)
        if branches is None:
            for row in tokens:
                places += row
            return self._boxes[self._turn].put(np.array(places, np.int32))
        parts = [np.array(part, np.int32) for part in (places, tokens)]
        return self._boxes[self._turn].put(parts[0], _told(branches), parts[1])

    def used_by(self, output: mx.array) -> None:
        """Names an output of the kernel that reads what was put last."""
        self._readers[self._turn] = output


def _told(branches: Branches) -> NDArray[np.int32]:
    rows, width = len(branches.parents), branches.width
    if rows > ROOM_FOR_TREES or width > WIDEST_TREE:
        raise ValueError(
            f"{rows=} of {width=} are more than {ROOM_FOR_TREES} trees of {WIDEST_TREE}"
        )
    return branches.told


class Rooms:
    """Where a kernel keeps numbers of its tokens, of such widths: `SCRATCH`, for one.

    They stay, as MLX would look for memory in every step. Two kernels of one evaluation must not
    share them, unless one takes what the other gives.
    """

    def __init__(self, *widths: int) -> None:
        self._widths = widths
        self._rooms: list[mx.array] = []

    def of(self, count: int) -> list[mx.array]:
        """Those for so many tokens."""
        if not self._rooms or self._rooms[0].shape[0] < count:
            rows = 1 << (count - 1).bit_length()
            self._rooms = [mx.zeros((rows, width), mx.bfloat16) for width in self._widths]
            mx.eval(self._rooms)
        return self._rooms


def launch(
    kernel: Callable[..., Any],
    inputs: list[mx.array],
    shapes: list[tuple[int, ...]],
    blocks: int | None = None,
) -> list[mx.array]:
    """Runs a kernel with so many blocks, one on each multiprocessor by default."""
    return kernel(
        inputs=inputs,
        template=[],
        grid=((device_blocks() if blocks is None else blocks) * THREADS, 1, 1),
        threadgroup=(THREADS, 1, 1),
        output_shapes=shapes,
        output_dtypes=[mx.bfloat16] * len(shapes),
    )


def make_kernel(
    kind: str,
    inputs: list[str],
    outputs: list[str],
    source: str,
    headers: tuple[str, ...] = ("forward.cuh",),
    shared_bytes: int = SHARED_BYTES,
) -> Callable[..., Any]:
    """A kernel of this body; inputs that `cache_names` names are written to."""
    header = kernel_header(*headers)
    digest = hashlib.sha256((header + source).encode()).hexdigest()[:16]  # MLX knows it by name
    made: Any = mx.fast.cuda_kernel(
        name=f"docflash_{kind}_{digest}",
        input_names=inputs,
        output_names=outputs,
        header=header,
        source=source,
        shared_memory=shared_bytes,
    )
    return made


def scratch_of(sizes: Sizes) -> Rooms:
    """For what `SCRATCH` names."""
    return Rooms(sizes.hidden, sizes.heads * HEAD, sizes.heads * HEAD, sizes.inner)


def cache_names(layers: int) -> list[str]:
    """The buffers' names in a kernel, as `buffers_of` orders them."""
    return [f"{kind}{i}" for kind in ("keys", "values") for i in range(layers)]


@cache
def kernel_header(*sources: str) -> str:
    """The functions that the kernels are made of."""
    return "".join((SOURCES / name).read_text("utf-8") for name in ("primitives.cuh", *sources))


def kernel_start(
    layers: int, tokens: str = "nullptr", rooms: Sequence[str] = SCRATCH, *, trees: bool = False
) -> str:
    """What every kernel's body begins with.

    Args:
        layers: Of the cache.
        tokens: Where they are, if it is not told them.
        rooms: Those that it writes to.
        trees: Whether it is told of trees.
    """
    names = cache_names(layers)
    held = "".join(f"  bf16* {name} = const_cast<bf16*>({name}_room);\n" for name in rooms)
    keys, values = (
        ", ".join(f"const_cast<bf16*>({name})" for name in half)
        for half in (names[:layers], names[layers:])
    )
    return f"""
  static_assert(4 * ROOM <= {PLACES_AT}, "the places would lie where the stages are");
  extern __shared__ float shared[];
  bf16* all_keys[] = {{{keys}}};
  bf16* all_values[] = {{{values}}};
  const Tokens tokens = tokens_of<{as_cpp(trees)}>(places, {tokens}, shared + {PLACES_AT});
{held}  unsigned* counters = const_cast<unsigned*>(arrived);
  unsigned turn = 0;
  const size_t count = tokens.count();
"""


def as_cpp(truth: bool) -> str:  # noqa: FBT001
    """A truth value as the kernels have it."""
    return "true" if truth else "false"


def layers_call(
    sizes: Sizes, eps: float, head_norms: str, causal: str, tapped: str, *, trees: bool = False
) -> str:
    """The calls that run all layers, from the tokens on."""
    return f"""
  embed<{sizes.hidden}>(tokens, embedding, hidden);
  all_blocks(counters, turn);
  run_layers<{sizes.layers}, {sizes.hidden}, {sizes.heads}, {sizes.groups}, {sizes.inner},
             {as_cpp(head_norms != "nullptr")}, {causal}, {as_cpp(trees)}>(
      tokens, {{qkv, o, gate_up, down, norms, {head_norms}, turns}}, all_keys, all_values,
      {{hidden, q, attended, gated}}, {eps}f, counters, turn, shared,
      [=](int layer, int m, int n, unsigned pair) {{
{tapped}      }});
"""


def head_call(sizes: Sizes, eps: float, start: str, taken: str) -> str:
    """The call that runs the last norm and the head."""
    room = "q" if sizes.hidden <= sizes.heads * HEAD else "nullptr"
    return (
        f"  run_head<{sizes.hidden}, {sizes.vocabulary}>(tokens, hidden, Norm{{last_norm, {eps}f, "
        f"{room}, counters, &turn}}, table, {start}, {taken}, logits, shared);\n"
    )


def gates_call(sizes: Sizes, rank: int, eps: float, start: str, taken: str) -> str:
    """The call that runs the last norm and a Markov head's gates."""
    return (
        f"  run_gates<{sizes.hidden}, {rank}>(tokens, hidden, last_norm, gate_proj, {eps}f, "
        f"{start}, {taken}, gates, shared);\n"
    )


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
