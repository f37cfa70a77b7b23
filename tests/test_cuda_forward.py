"""The kernels' arithmetic, run on the CPU with a coroutine for every CUDA thread.

`tests/cuda/primitives.h` stands in for what the kernels ask of the hardware; all else is the very
source that a GPU compiles. Needs a C++ compiler.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.models.llama import Model, ModelArgs
from numpy.typing import NDArray

from pipeline.engine.fused import forward_source, sizes_of
from pipeline.engine.fused_kernels import Sizes, pack_layers, turns

SIZES = Sizes(layers=2, hidden=128, heads=3, groups=1, inner=192, vocabulary=256)
COLUMNS, EPS = 128, 1e-5
Words = NDArray[np.uint16]

COMPILER = shutil.which("g++") or shutil.which("clang++")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")


def make_model(dtype: mx.Dtype) -> Model:
    mx.random.seed(3)
    model = Model(
        ModelArgs(
            model_type="llama",
            hidden_size=SIZES.hidden,
            num_hidden_layers=SIZES.layers,
            intermediate_size=SIZES.inner,
            num_attention_heads=SIZES.heads,
            num_key_value_heads=SIZES.groups,
            head_dim=64,
            rms_norm_eps=EPS,
            vocab_size=SIZES.vocabulary,
            rope_theta=1e5,
            tie_word_embeddings=True,
        )
    )
    shrunk: Any = tree_map(
        lambda a: (a * (3 if a.ndim == 2 else 1)).astype(mx.bfloat16).astype(dtype),
        model.parameters(),
    )
    model.update(shrunk)
    return model


def words(array: mx.array) -> Words:
    return np.array(array.astype(mx.bfloat16).view(mx.uint16))


def floats(array: Words) -> NDArray[np.float32]:
    return (array.astype(np.uint32) << 16).view(np.float32)


class Emulated:
    """The target's kernel, and a cache of 4 rows."""

    def __init__(self, library: Any) -> None:
        self._library = library
        model = make_model(mx.bfloat16)
        self._table = model.model.embed_tokens.weight
        rotary = np.array(turns(model.model.layers[0].self_attn.rope, COLUMNS))
        self._weights = [words(array) for array in pack_layers(model.model.layers)]
        self._weights += [rotary, words(model.model.norm.weight), words(self._table)]
        shape = (4, SIZES.groups, COLUMNS, 64)
        self.keys = [np.zeros(shape, np.uint16) for _ in range(SIZES.layers)]
        self.values = [np.zeros(shape, np.uint16) for _ in range(SIZES.layers)]

    def forward(
        self, tokens: NDArray[np.int64], places: list[tuple[int, int]], blocks: int = 2
    ) -> tuple[Words, Words]:
        rows, width = tokens.shape
        count = rows * width
        where = np.array([rows, width, COLUMNS, 0, *sum(places, ())], np.int32)
        heads = SIZES.heads * 64
        shapes = [(count, SIZES.hidden), (count, heads), (count, heads), (count, SIZES.inner),
                  (SIZES.layers, count, SIZES.hidden), (count, SIZES.vocabulary)]  # fmt: skip
        outputs = [np.zeros(shape, np.uint16) for shape in shapes]
        qkv, o, gate_up, down, norms, rotary, norm, table = self._weights
        buffers = [(ctypes.c_void_p * SIZES.layers)(*[a.ctypes.data for a in arrays])
                   for arrays in (self.keys, self.values)]  # fmt: skip
        embedded = words(self._table[mx.array(tokens)])  # held until the call is over
        self._library.run_target(
            blocks,
            *map(_pointer, (where, embedded, qkv, o, gate_up, down)),
            *(_pointer(norms), None, _pointer(rotary), *buffers, _pointer(norm), _pointer(table)),
            *(ctypes.c_float(EPS), 0, width, *map(_pointer, outputs)),
        )
        return outputs[5].reshape(rows, width, -1), outputs[4]


def _pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("cuda") / "forward.so"
    source = Path(__file__).with_name("cuda") / "forward.cpp"
    sizes = {"LAYERS": SIZES.layers, "D": SIZES.hidden, "HEADS": SIZES.heads,
             "GROUPS": SIZES.groups, "INNER": SIZES.inner, "VOCABULARY": SIZES.vocabulary,
             "HEAD_NORM": "false", "CAUSAL": "true", "TAPS": 2}  # fmt: skip
    defined = [f"-DM_{name}={value}" for name, value in sizes.items()]
    subprocess.run(
        [str(COMPILER), "-std=c++17", "-O2", "-shared", "-fPIC", "-w", *defined, str(source), "-o",
         str(path)], check=True)  # fmt: skip
    return ctypes.CDLL(str(path))


@pytest.fixture(scope="module")
def sequences() -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, SIZES.vocabulary, (2, 60))


def test_the_kernel_computes_what_the_model_does(
    library: Any, sequences: NDArray[np.int64]
) -> None:
    emulated = Emulated(library)
    for row in range(2):
        emulated.forward(sequences[row : row + 1, :20], [(row, 0)])
    logits, taps = emulated.forward(sequences[:, 20:28], [(row, 20) for row in range(2)])
    model = make_model(mx.float32)
    cache = make_prompt_cache(model)
    wanted = np.array(model(mx.array(sequences[:, :28]), cache=cache))[:, 20:]
    keys = np.array(cache[1].keys)[:, :, :28]
    # In bfloat16 a number keeps 8 bits: some hundredths of what the logits spread over.
    assert np.abs(floats(logits) - wanted).max() < 0.15 * wanted.std()
    assert np.abs(floats(emulated.keys[1])[:2, :, :28] - keys).max() < 0.05 * np.abs(keys).max()
    assert not (logits >> 7 & 0xFF == 0xFF).any()  # neither infinite nor undefined
    assert taps.shape == (2, 16, SIZES.hidden)
    assert np.abs(floats(taps[0])).max() > 0


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_token_gets_the_same_bits_whatever_runs_beside_it(
    library: Any, sequences: NDArray[np.int64], blocks: int
) -> None:
    together = Emulated(library)
    for row in range(2):
        together.forward(sequences[row : row + 1, :20], [(row, 0)])
    wanted, _ = together.forward(sequences[:, 20:28], [(row, 20) for row in range(2)])
    alone = Emulated(library)
    alone.forward(sequences[1:2, :9], [(0, 0)], blocks)
    alone.forward(sequences[1:2, 9:20], [(0, 9)], blocks)
    for step in range(8):
        place = [(0, 20 + step)]
        logits, _ = alone.forward(sequences[1:2, 20 + step : 21 + step], place, blocks)
        assert (logits[0, 0] == wanted[1, step]).all()


def test_only_what_the_kernel_can_run_is_fused() -> None:
    config = {"model_type": "llama", "vocab_size": SIZES.vocabulary}
    assert sizes_of(make_model(mx.bfloat16), config) == SIZES
    assert sizes_of(make_model(mx.float32), config) is None
    assert sizes_of(make_model(mx.bfloat16), {**config, "model_type": "qwen3"}) is None


def test_the_source_keeps_the_layers_that_are_tapped() -> None:
    source = forward_source(SIZES, (1,), EPS, logits=True)
    assert "if (layer == 1) store_pair(taps + (0 * count + m)" in source
    assert "run_head<128, 256>" in source
    assert "run_head" not in forward_source(SIZES, (), EPS, logits=False)
