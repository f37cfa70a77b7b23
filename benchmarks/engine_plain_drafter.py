"""A drafter's weights written out, for engines that read no quantised drafter.

In: a DFlash checkpoint and its target. Out: the same checkpoint, in the target's own precision.
"""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn

from pipeline.engine.drafters.drafter_tensors import read_tensors
from pipeline.engine.targets.taps import find_embedding

QUANTISED = (".scales", ".biases")


def write_plain_drafter(source: Path, out: Path, target: nn.Module) -> None:
    """Writes `config.json` and `model.safetensors` as the published drafters have them.

    Args:
        source: Folder of a drafter, quantised or not.
        out: Where to write; exists.
        target: The model that the drafter is for.
    """
    config: dict[str, Any] = json.loads((source / "config.json").read_text(encoding="utf-8"))
    settings: dict[str, Any] = config.pop("quantization", {})
    config["dflash_config"].pop("markov_rank", None)  # a head that none of them has
    tensors = read_tensors(source)
    dtype = find_embedding(target)(mx.array([[0]])).dtype
    plain = {
        name: written_out(name, tensors, settings).astype(dtype)
        for name in tensors
        if not name.endswith(QUANTISED) and not name.startswith("markov.")
    }
    mx.save_safetensors(str(out / "model.safetensors"), plain)
    (out / "config.json").write_text(json.dumps(config), encoding="utf-8")


def written_out(name: str, tensors: dict[str, mx.array], settings: dict[str, Any]) -> mx.array:
    """A tensor as numbers; `settings` may have exceptions by module."""
    module = name.removesuffix(".weight")
    scales = tensors.get(f"{module}.scales")
    if scales is None:
        return tensors[name]
    own: Any = settings | settings.get(module, {})
    return mx.dequantize(
        tensors[name],
        scales,
        tensors.get(f"{module}.biases"),
        group_size=own["group_size"],
        bits=own["bits"],
        mode=own.get("mode", "affine"),
    )
