"""A drafter's folder, as it is published: `config.json`, `drafter.safetensors`, `README.md`.

In: trained parameters. Out: a folder that `--drafter` takes and, if it is not quantised, the
authors' package `dflash` loads, too.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from pipeline.errors import EngineError
from pipeline.training.model import Parameters
from pipeline.training.shards import write_whole

TENSORS = "drafter.safetensors"
GROUP_SIZES = (64, 32)


def export_drafter(
    folder: Path, shape: Mapping[str, Any], parameters: Parameters, bits: int
) -> None:
    """Writes weights and config; whatever was there under these names is replaced.

    Args:
        folder: Made if it is not there.
        shape: The config.
        parameters: In float32.
        bits: 8, 4, or 0 for float16.

    Raises:
        EngineError: The disk is full or refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, mx.array] = {}
    group_size = quantised_groups(parameters) if bits else 0
    for name, value in parameters.items():
        half = value.astype(mx.float16)
        if not group_size or value.ndim == 1:
            tensors[name] = half
            continue
        parts = mx.quantize(half, group_size=group_size, bits=bits)
        for part, array in zip(("weight", "scales", "biases"), parts, strict=True):
            tensors[name.removesuffix("weight") + part] = array
    write_tensors(folder / TENSORS, tensors)
    config = {name: value for name, value in shape.items() if name != "quantization"}
    if group_size:
        config["quantization"] = {"group_size": group_size, "bits": bits}
    write_whole(folder / "config.json", (json.dumps(config, indent=1) + "\n").encode())


def quantised_groups(parameters: Parameters) -> int:
    """The largest group size that divides every matrix's width; 0 if none does."""
    widths = [int(value.shape[-1]) for value in parameters.values() if value.ndim > 1]
    return next((size for size in GROUP_SIZES if all(w % size == 0 for w in widths)), 0)


def write_tensors(path: Path, tensors: Mapping[str, mx.array]) -> None:
    """Writes a safetensors file whole or not at all.

    Raises:
        EngineError: The disk is full or refuses.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as file:
            mx.save_safetensors(file, dict(tensors), metadata={"format": "mlx"})
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except (OSError, RuntimeError) as error:
        fresh.unlink(missing_ok=True)
        raise EngineError(
            f"path={str(path)!r} can't be written ({' '.join(str(error).split())[:200]}); make "
            "room on the disk and run the same command again"
        ) from error
