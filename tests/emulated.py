"""The kernels' source, compiled for a CPU with a coroutine for every CUDA thread.

`tests/cuda/primitives.h` stands in for what the kernels ask of the hardware; all else is the very
source that a GPU compiles. Needs a C++ compiler.
"""

import ctypes
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

Words = NDArray[np.uint16]
"""Numbers in bfloat16."""

SOURCES = Path(__file__).with_name("cuda")
COMPILER = shutil.which("g++") or shutil.which("clang++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")


def compile_source(source: Path, library: Path, defined: Mapping[str, int] | None = None) -> Any:
    """A C++ file as a loaded library, with these numbers as `M_` macros."""
    macros = [f"-DM_{name}={value}" for name, value in (defined or {}).items()]
    subprocess.run(
        [str(COMPILER), "-std=c++17", "-O2", "-shared", "-fPIC", "-w", *macros, str(source), "-o",
         str(library)], check=True)  # fmt: skip
    return ctypes.CDLL(str(library))


def words(array: mx.array) -> Words:
    return np.array(array.astype(mx.bfloat16).view(mx.uint16))


def floats(array: Words) -> NDArray[np.float32]:
    return (array.astype(np.uint32) << 16).view(np.float32)


def pointer(array: NDArray[Any] | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)
