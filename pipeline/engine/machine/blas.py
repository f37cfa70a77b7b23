"""The engine's environment: a fast matrix product and memory given back, or how CUDA launches.

On Linux MLX's CPU wheel calls a slow reference BLAS by its plain names; an OpenBLAS loaded before
it takes over. What OpenBLAS needs of Fortran's runtime lies in MLX's own wheel under other names,
so links with the right names are made in the cache folder, and nothing of the system is needed.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
import threading
from functools import cache
from itertools import chain
from pathlib import Path

import psutil

from pipeline.engine.loading.embedded import device_dtype
from pipeline.settings import EMBEDDED_MODEL, cache_folder, private_folder

OPENBLAS_WHEELS = ("ngsolve-openblas", "cmeel-openblas")
"""The first has kernels for every x86-64 processor and picks those of the one that it runs on; the
second, for Linux on Arm, is built for one processor only, and others die of its products."""
MLX_WHEEL = "mlx-cpu"
PROBE = """
import ctypes
multiply = ctypes.CDLL(None).cblas_sgemm
by_rows, plain, turned, one = 101, 111, 112, ctypes.c_float(1)
for m, n, k in ((1, 64, 64), (16, 96, 64), (200, 200, 64)):
    a, b, c = ((ctypes.c_float * size)(*[1.0] * size) for size in (m * k, n * k, m * n))
    multiply(by_rows, plain, turned, m, n, k, one, a, k, b, k, ctypes.c_float(0), c, n)
    assert all(value == k for value in c)
assert ctypes.CDLL(None).openblas_get_config
"""
"""Products as the engine makes them: small ones have kernels of their own. (cblas.h)"""
PROBE_S = 20.0
# Keys and values grow by new, larger buffers. glibc by itself soon puts those on the heap, where
# what was freed in the middle stays (mallopt(3)): 130 MB of a run. The rest is left as it was.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(8 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}
# MLX makes a CUDA graph of what it launches and has the executable one of the last graph of that
# shape changed into it. For steps of a few kernels, as the embedded model's are, that takes longer
# than launching them; for models of hundreds of kernels a step it was not measured.
LAUNCHES = {"MLX_USE_CUDA_GRAPHS": "0"}
LIBRARY_NAME = re.compile(r"libopenblas(p-r[\d.]+\.so|\.so\.\d+)")
BUNDLED_NAME = re.compile(r"(lib(?:gfortran|quadmath))(?:-[0-9a-f]+)?\.so\.(\d+)")


def serving_environment(model: str) -> dict[str, str]:
    """What to add to the environment of a process that runs a core.

    Args:
        model: "embedded" or a folder.

    Raises:
        InputError: The cache folder can't be used.
    """
    return engine_environment() | launch_settings(model)


def launch_settings(model: str) -> dict[str, str]:
    """How MLX is to launch a model's kernels on CUDA; empty elsewhere, and for others' models."""
    settings = LAUNCHES if model == EMBEDDED_MODEL and uses_cuda() else {}
    return {name: os.environ.get(name, value) for name, value in settings.items()}


def engine_environment() -> dict[str, str]:
    """What to add to the environment of a process that computes; empty where nothing is needed.

    Raises:
        InputError: The cache folder can't be used.
    """
    added = _openblas_environment()
    # A library that can't be loaded before a program keeps the program from starting at all.
    return added if added and _takes_over() else {}


def _openblas_environment() -> dict[str, str]:
    library = _openblas() if uses_cpu() else None
    if library is None:
        return {}
    links = _fortran_links()
    added = MALLOC | {
        "LD_PRELOAD": _joined(str(library), os.environ.get("LD_PRELOAD", "")),
        "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", str(usable_cores())),
    }
    if links is not None:
        added["LD_LIBRARY_PATH"] = _joined(str(links), os.environ.get("LD_LIBRARY_PATH", ""))
    return added


def uses_cpu() -> bool:
    """Whether MLX computes on a Linux CPU here."""
    return device_dtype() == "f32"


def uses_cuda() -> bool:
    """Whether MLX computes on an NVIDIA GPU here."""
    return device_dtype() == "bf16"


def usable_cores() -> int:
    """Physical cores that this process may run on: a second thread on a core only slows it."""
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def blas_status() -> str:
    """One line for people: which matrix product the engine will use."""
    if not uses_cpu():
        return "not needed: MLX computes on the GPU, or with Accelerate"
    if _openblas() is None:
        return (
            "the slow one inside MLX's wheel; "
            "`uv sync --extra embedded` brings OpenBLAS, several times faster"
        )
    if not _takes_over():
        return (
            "the slow one inside MLX's wheel: OpenBLAS is installed, but it can't be loaded, or "
            "has no kernels for this processor"
        )
    version = importlib.metadata.version(next(name for name in OPENBLAS_WHEELS if _files(name)))
    return f"OpenBLAS {version}, {engine_environment()['OPENBLAS_NUM_THREADS']} threads"


@cache
def _takes_over() -> bool:
    """Whether OpenBLAS is loaded in a process with the engine's environment, and multiplies."""
    probe = subprocess.run(
        [sys.executable, "-S", "-c", PROBE],
        env=os.environ | _openblas_environment(),
        capture_output=True,
        timeout=PROBE_S,
        check=False,
    )
    return probe.returncode == 0


def _openblas() -> Path | None:
    for path in chain.from_iterable(map(_files, OPENBLAS_WHEELS)):
        if LIBRARY_NAME.fullmatch(path.name) and path.is_file():
            return path
    return None


def _files(wheel: str) -> list[Path]:
    try:
        found = importlib.metadata.distribution(wheel)
    except importlib.metadata.PackageNotFoundError:
        return []
    return sorted(Path(str(found.locate_file(file))).absolute() for file in found.files or ())


def _fortran_links() -> Path | None:
    """A folder where the Fortran runtime of MLX's wheel has the names that OpenBLAS asks for."""
    bundled = [(path, BUNDLED_NAME.match(path.name)) for path in _files(MLX_WHEEL)]
    links = [(path, match) for path, match in bundled if match]
    if not links:
        return None
    folder = private_folder(cache_folder() / "blas")
    for path, match in links:
        # Its own name too: the libraries find each other beside the link.
        for name in (f"{match[1]}.so.{match[2]}", path.name):
            _link(folder / name, path)
    return folder


def _link(link: Path, target: Path) -> None:
    """Makes or corrects a link so that no other process ever misses it."""
    if link.is_symlink() and link.readlink() == target:
        return
    fresh = link.with_name(f".{link.name}.{os.getpid()}-{threading.get_ident()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def _joined(*paths: str) -> str:
    return ":".join(path for path in paths if path)
