"""Loads a DFlash drafter and binds it to its target.

In: a checkpoint folder. Out: a `Drafter` of the kind that the target needs.
"""

from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.utils import dequantize_model

from pipeline.engine.drafters.drafter import Drafter
from pipeline.engine.drafters.drafter_config import check_fit, read_config
from pipeline.engine.drafters.drafter_layers import Weights
from pipeline.engine.drafters.drafter_tensors import check_tensors, quantize_like, read_tensors
from pipeline.engine.drafters.fused_drafter import FusedDrafter, can_fuse
from pipeline.engine.machine.blas import uses_cpu
from pipeline.engine.targets.taps import find_embedding, model_layers
from pipeline.engine.targets.target import Target
from pipeline.errors import InputError


def load_drafter(folder: Path, target: Target) -> Drafter:
    """Loads a DFlash checkpoint, quantised or not, and binds it to its target.

    Args:
        folder: Has `config.json` and one or more `*.safetensors`.
        target: The model that it was trained for. It must hold no rows yet.

    Raises:
        InputError: The drafter does not fit the target; says what differs. Or the checkpoint is
            incomplete or corrupt; says what is missing.
    """
    config = read_config(folder)
    try:
        embedding = find_embedding(target.model)(mx.array([[0]]))  # [1, 1, D]
        layers = len(model_layers(target.model))
    except ValueError as error:
        raise InputError(
            f"model_type={target.kind!r} is not built as a drafter needs it "
            f"({error}); go on without one: --drafter none"
        ) from error
    check_fit(
        config,
        vocabulary=target.vocabulary,
        hidden_size=int(embedding.shape[-1]),
        layers=layers,
    )
    weights = Weights(config)
    tensors = read_tensors(folder)
    if config.quantization is not None:
        quantize_like(weights, config.quantization, tensors)
    check_tensors(folder, dict(tree_flatten(weights.parameters())), tensors)
    weights.load_weights(list(tensors.items()))
    fused = target.fused_table is not None and can_fuse(config, weights)
    if uses_cpu() or fused:
        dequantize_model(weights)  # MLX's quantised products are slow on a CPU, see `embedded`
    weights.set_dtype(embedding.dtype)
    if fused:
        return FusedDrafter(config, weights, target)
    target.unfuse()
    weights.join()
    mx.eval(weights.parameters())
    return Drafter(config, weights, target)
