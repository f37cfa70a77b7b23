"""The choice of greedy tokens as one kernel on an NVIDIA GPU, instead of a dozen.

In: logits and constraints. Out: at each position the best token after mask and penalty, the very
one that MLX's own operations give (`sampling.shape_logits`), ties to the lowest.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np

from pipeline.engine.constraints import Constraints
from pipeline.engine.fused_kernels import THREADS, device_blocks, kernel_header

WORD = 32


def can_choose_at_once(logits: mx.array) -> bool:
    """Whether there is such a kernel for these logits."""
    return logits.dtype == mx.bfloat16 and logits.shape[-1] % WORD == 0 and device_blocks() > 0


def choose_at_once(logits: mx.array, constraints: Constraints) -> mx.array:
    """As `sampling.choose_tokens`, without draws and shifts."""
    rows, width, vocabulary = logits.shape
    if not constraints.masked and not constraints.penalised:
        return mx.argmax(logits, axis=-1)
    kernel = _choice_kernel(vocabulary)
    return kernel(
        inputs=[logits, *arrays_of(constraints, width)],
        template=[],
        grid=(rows * width * THREADS, 1, 1),
        threadgroup=(THREADS, 1, 1),
        output_shapes=[(rows, width)],
        output_dtypes=[mx.int32],
    )[0]


def arrays_of(constraints: Constraints, width: int) -> list[mx.array]:
    """The kernel's `plan` and `masks`: few arrays, since each is copied to the device."""
    longest = constraints.recent.shape[1] - width + 1
    plan = [
        np.array([width, longest], np.int32),
        constraints.mask_of.ravel(),
        constraints.penalties.ravel().view(np.int32),
        np.array(constraints.windows, np.int32),
        constraints.recent.ravel(),
    ]
    masks = constraints.masks if constraints.masked else np.zeros((1, 1), np.int32)
    return [mx.array(np.concatenate(plan)), mx.array(masks)]


@cache
def _choice_kernel(vocabulary: int) -> Callable[..., Any]:
    made: Any = mx.fast.cuda_kernel(
        name=f"docflash_choice_{vocabulary}",
        input_names=["logits", "plan", "masks"],
        output_names=["chosen"],
        header=kernel_header("choice.cuh"),
        source=f"""
  extern __shared__ float shared[];
  choose_token<{vocabulary}>(logits, plan, masks, chosen, shared);
""",
        shared_memory=vocabulary // 8 + 256,
    )
    return made
