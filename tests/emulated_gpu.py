"""An NVIDIA GPU played by the CPU: the engine's one-launch kernels as they are, each compiled.

`played` has MLX's `cuda_kernel` make kernels of C++ in the place of CUDA, see `emulated`, so that
the engine takes the way that it takes on a GPU, kernels, mailboxes and all. What it can't show is
what comes of many things happening at once: here a launch is over when it returns.
"""

import ctypes
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.engine.choosing import fused_choice
from pipeline.engine.cuda import fused_kernels
from pipeline.engine.drafters import fused_drafter, fused_markov
from pipeline.engine.targets import fused, fused_rows
from tests.emulated import SOURCES, compile_source

BLOCKS = 2
KINDS = {
    mx.bfloat16: ("bf16", np.uint16),
    mx.int32: ("int", np.int32),
    mx.uint32: ("unsigned", np.uint32),
    mx.float32: ("float", np.float32),
}
CACHES: list[Any] = [
    fused._forward_kernel,
    fused_drafter._block_kernel,
    fused_drafter._context_kernel,
    fused_markov._chain_kernel,
    fused_markov._tree_kernel,
    fused_choice._choice,
    fused_rows._kernel,
]
"""Whatever keeps kernels."""


@contextmanager
def played(folder: Path) -> Generator[None]:
    """Has this process take the CPU for a GPU; what is compiled stays in the folder."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (fused_kernels, fused_choice, fused_markov, fused):
            patch.setattr(module, "device_blocks", lambda: BLOCKS)
        patch.setattr(mx.fast, "cuda_kernel", partial(Kernel, folder))
        _forget_kernels()
        yield
    _forget_kernels()


def _forget_kernels() -> None:
    for kept in CACHES:
        kept.cache_clear()


class Kernel:
    """A kernel as `mx.fast.cuda_kernel` gives it; it is compiled when its types are known."""

    def __init__(self, folder: Path, **kernel: Any) -> None:
        self._path = folder / f"{kernel['name']}.cpp"
        self._names: list[str] = [*kernel["input_names"], *kernel["output_names"]]
        self._header: str = kernel["header"]
        self._source: str = kernel["source"]
        self._shared: int = kernel["shared_memory"]
        assert bool(self._shared) == ("extern __shared__" in self._source)
        self._run: Any = None

    def __call__(
        self,
        inputs: Sequence[mx.array],
        template: Sequence[Any],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
        output_shapes: Sequence[tuple[int, ...]],
        output_dtypes: Sequence[mx.Dtype],
    ) -> list[mx.array]:
        """Runs it."""
        assert not template
        assert threadgroup == (fused_kernels.THREADS, 1, 1)
        arrays = [memory(array) for array in inputs]
        outputs = [np.zeros(shape, KINDS[kind][1])
                   for shape, kind in zip(output_shapes, output_dtypes, strict=True)]  # fmt: skip
        if self._run is None:
            self._run = self._compile([array.dtype for array in inputs], output_dtypes)
        pointers = (ctypes.c_void_p * (len(arrays) + len(outputs)))(
            *[array.ctypes.data for array in (*arrays, *outputs)]
        )
        self._run(grid[0] // fused_kernels.THREADS, pointers)
        return [
            mx.array(array).view(kind) for array, kind in zip(outputs, output_dtypes, strict=True)
        ]

    def _compile(self, inputs: Sequence[mx.Dtype], outputs: Sequence[mx.Dtype]) -> Any:
        library = self._path.with_suffix(".so")
        if library.exists():
            return ctypes.CDLL(str(library)).run
        whole = [f"const {KINDS[kind][0]}*" for kind in inputs]
        whole += [f"{KINDS[kind][0]}*" for kind in outputs]
        named = "".join(
            f"    auto {name} = reinterpret_cast<{kind}>(pointers[{i}]);\n"
            for i, (kind, name) in enumerate(zip(whole, self._names, strict=True))
        )
        primitives = (fused_kernels.SOURCES / "primitives.cuh").read_text("utf-8")
        body = self._source.replace(
            "extern __shared__ float shared[];", "float* shared = room[blockIdx.x].data();"
        )
        self._path.write_text(
            f'#include "{SOURCES / "primitives.h"}"\n{self._header.replace(primitives, "")}\n'
            'extern "C" void run(int blocks, void** pointers) {\n'
            f"  std::vector<std::vector<float>> room(blocks, std::vector<float>({self._shared} / 4"
            f" + 1));\n  launch(blocks, {fused_kernels.THREADS}, [&] {{\n"
            f"{named}{body}\n  }});\n}}\n",
            encoding="utf-8",
        )
        return compile_source(self._path, library).run


def memory(array: mx.array) -> NDArray[Any]:
    """The array's own memory, not a copy of it."""
    words = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
    mx.eval(array, words)
    return np.array(words, copy=False)
