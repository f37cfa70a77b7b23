"""Softmax and SiLU on a Linux CPU, where MLX's own `exp` is the slowest part of a forward.

MLX's x86 build computes `exp` one number at a time: 11.5 ns each, against 0.1 ns for an addition,
so that attention over 512 x 1,024 scores spent three quarters of its time in it (AMD EPYC, mlx
0.32.4). Here it is made of additions and multiplications: 2 to 3 ns.

In: float32 arrays on the CPU. Anything else goes to MLX's own functions.
"""

import math
from typing import Any

import mlx.core as mx
from mlx import nn

QUERY_BLOCK = 64
"""Queries whose scores are computed at once: they stay in the processor's cache."""
FEW_SCORES = 65_536
"""So few scores [B, H, T, K] are left to MLX: its `exp` then costs less than our many small steps.

Measured: a decode step of 8 rows with 600 tokens each 145 ms with MLX's, 154 ms with ours; at 1,500
tokens (108,000 scores) ours takes half the time.
"""

# The polynomial closest to 2**f on [-0.5, 0.5] in relative error (largest: 8e-8), by least squares
# on Chebyshev nodes: the same size as float32's own rounding.
_EXP2 = (1.000000071029699, 0.693146949161064, 0.24022121753561657, 0.055507426160022466,
         0.009675459745521472, 0.0013266970386459505)  # fmt: skip
_ROUND = 1.5 * 2.0**23  # adding it leaves the nearest whole number in the low bits
_LOWEST, _HIGHEST = -126.0, 127.0
_MASKED = -1e9

_mlx_attention = mx.fast.scaled_dot_product_attention
_mlx_silu = nn.silu


def exp2(x: mx.array) -> mx.array:
    """2**x for float32 `x` of any shape, to 3e-7; what is over or under the range stays finite.

    The whole part becomes the exponent's bits, the rest goes through a polynomial (Cody and Waite
    1980, chapter 6).
    """
    x = mx.clip(x, _LOWEST, _HIGHEST)
    shifted = x + _ROUND
    rest = x - (shifted - _ROUND)
    power = rest * _EXP2[-1] + _EXP2[-2]
    for factor in _EXP2[-3::-1]:
        power = power * rest + factor
    exponent = mx.left_shift(mx.view(shifted, mx.int32), 23)
    return mx.view(mx.view(power, mx.int32) + exponent, mx.float32)


def silu(x: mx.array) -> mx.array:
    """The activation x * sigmoid(x), of any shape."""
    if x.dtype != mx.float32:
        return _mlx_silu(x)
    return x / (1.0 + exp2(x * -math.log2(math.e)))


def attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    *,
    scale: float,
    mask: mx.array | str | None = None,
    sinks: mx.array | None = None,
    **more: Any,
) -> mx.array:
    """Scaled dot product attention, as `mx.fast.scaled_dot_product_attention` takes it.

    Args:
        q: [B, H, T, D].
        k: [B, G, K, D], G heads that divide H.
        v: Likewise.
        scale: Factor of the scores.
        mask: None, "causal", or an array that broadcasts to [B, H, T, K]: true, or to be added.
        sinks: Left to MLX.
        more: Likewise.

    Returns:
        [B, H, T, D].
    """
    if q.dtype != mx.float32 or sinks is not None or more or k.dtype != mx.float32:
        return _mlx_attention(q, k, v, scale=scale, mask=mask, sinks=sinks, **more)
    width, columns = q.shape[2], k.shape[2]
    if q.shape[0] * q.shape[1] * width * columns <= FEW_SCORES:
        return _mlx_attention(q, k, v, scale=scale, mask=mask)
    bias = _bias(mask, width, columns)
    q = q * (scale * math.log2(math.e))
    blocks: list[mx.array] = []
    for start in range(0, width, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, width)
        # What a causal block can't see is not computed.
        seen = columns - width + end if mask == "causal" else columns
        part = bias[..., start:end, :seen] if bias is not None and bias.shape[-2] > 1 else bias
        blocks.append(_attend(q[:, :, start:end], k[:, :, :seen], v[:, :, :seen], part))
    return blocks[0] if len(blocks) == 1 else mx.concatenate(blocks, axis=2)


def _bias(mask: mx.array | str | None, width: int, columns: int) -> mx.array | None:
    """What is added to the scores: [B or 1, 1 or G, 1 or H/G, 1 or T, K]."""
    if mask is None or (isinstance(mask, str) and width == 1):
        return None
    if isinstance(mask, str):
        last_seen = mx.arange(columns - width, columns)[:, None]
        mask = (mx.arange(columns)[None, :] <= last_seen)[None, None]
    if mask.dtype == mx.bool_:
        mask = mx.where(mask, 0.0, _MASKED)
    mask = mask * math.log2(math.e)
    while mask.ndim < 4:  # noqa: PLR2004
        mask = mask[None]
    return mask


def _attend(q: mx.array, k: mx.array, v: mx.array, bias: mx.array | None) -> mx.array:
    """Attention of scaled queries; the heads of one group are one product."""
    rows, heads, width, size = q.shape
    groups = k.shape[1]
    grouped = (rows, groups, heads // groups * width, -1)
    scores = q.reshape(grouped) @ k.swapaxes(-1, -2)  # [B, G, H/G T, K]
    if bias is not None:
        scores = (scores.reshape(rows, heads, width, -1) + bias).reshape(grouped)
    weights = exp2(scores - scores.max(axis=-1, keepdims=True))
    total = weights.sum(axis=-1, keepdims=True)
    return ((weights @ v) / total).reshape(rows, heads, width, size)


def use_on_cpu() -> None:
    """Puts these functions in the place of MLX's, in this process, if it computes on a Linux CPU.

    mlx-lm's models look both up when they run, so no model and no class is touched. MLX's
    compiler, which gains nothing on a CPU without a C++ compiler, can't take `view`: it is off.
    """
    if mx.default_device() == mx.Device(mx.cpu) and not mx.metal.is_available():
        mx.fast.scaled_dot_product_attention = attention
        nn.silu = silu
        mx.disable_compile()
