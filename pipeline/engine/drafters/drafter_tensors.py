"""The tensors of a drafter's checkpoint: read, and compared with what the modules want.

In: a folder with `*.safetensors`. Out: all its tensors, or an `InputError` that names what is
missing, unexpected or of another shape.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn

from pipeline.errors import InputError

NAMED = 3
"""How many tensors a message names."""


def read_tensors(folder: Path) -> dict[str, mx.array]:
    """All tensors of a folder's `*.safetensors`.

    Raises:
        InputError: There are none, or a file is corrupt or cut short.
    """
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise InputError(
            f"the drafter's folder={str(folder)!r} has no *.safetensors; give the folder of a "
            "complete DFlash checkpoint"
        )
    tensors: dict[str, mx.array] = {}
    for path in paths:
        try:
            found: Any = mx.load(str(path))
            mx.eval(found)
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"the drafter's file={str(path)!r} can't be read "
                f"({' '.join(str(error).split())[:300]}); fetch it again"
            ) from error
        tensors.update(found)
    return tensors


def quantize_like(
    modules: nn.Module, quantization: Mapping[str, Any], tensors: Mapping[str, mx.array]
) -> None:
    """Makes those modules quantised whose tensors are.

    Args:
        modules: The drafter's modules; changed in place.
        quantization: The config's `quantization`: bits and so on, and exceptions by module name.
        tensors: The checkpoint's.

    Raises:
        InputError: MLX knows no such quantisation.
    """

    def settings(name: str, module: nn.Module) -> bool | dict[str, Any]:
        if not hasattr(module, "to_quantized") or f"{name}.scales" not in tensors:
            return False
        own: bool | dict[str, Any] = quantization.get(name, True)
        return own

    try:
        nn.quantize(
            modules,
            group_size=quantization["group_size"],
            bits=quantization["bits"],
            mode=quantization.get("mode", "affine"),
            class_predicate=settings,
        )
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"the drafter's quantization={dict(quantization)!r} is none that MLX can use "
            f"({' '.join(str(error).split())[:300]}); give one that mlx-lm wrote"
        ) from error


def check_tensors(
    folder: Path, wanted: Mapping[str, mx.array], found: Mapping[str, mx.array]
) -> None:
    """Compares a checkpoint's tensors with those that the modules want.

    Raises:
        InputError: They differ; says how.
    """
    shapes = [
        f"{name} is {list(found[name].shape)} and not {list(wanted[name].shape)}"
        for name in sorted(wanted.keys() & found.keys())
        if found[name].shape != wanted[name].shape
    ]
    wrong = [
        f"{what}: {', '.join(names[:NAMED])}{f' and {more} more' if more > 0 else ''}"
        for what, names in (
            ("missing", sorted(wanted.keys() - found.keys())),
            ("unexpected", sorted(found.keys() - wanted.keys())),
            ("of another shape", shapes),
        )
        if names
        for more in (len(names) - NAMED,)
    ]
    if wrong:
        raise InputError(
            f"the tensors of the drafter's folder={str(folder)!r} are not those of its "
            f"config.json; {'; '.join(wrong)}; fetch the checkpoint again"
        )
