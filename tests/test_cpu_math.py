"""The plain-arithmetic softmax and SiLU equal MLX's own."""

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn

from pipeline.engine.targets import cpu_math

KEYS = 192


@pytest.mark.parametrize("kind", ["none", "causal", "ragged", "added"])
@pytest.mark.parametrize("width", [1, 5, 130])
def test_attention_is_mlx_s(kind: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_math, "FEW_SCORES", 0)
    mx.random.seed(width)
    q = mx.random.normal((3, 6, width, 16)) * 3
    k, v = (mx.random.normal((3, 2, KEYS, 16)) for _ in range(2))
    seen = mx.array([60, 150, KEYS])[:, None, None, None]
    masks: dict[str, mx.array | str | None] = {
        "none": None,
        "causal": "causal",
        "ragged": mx.arange(KEYS)[None, None, None, :] < seen + mx.zeros((1, 1, width, 1)),
        "added": mx.random.normal((width, KEYS)),
    }
    expected = cpu_math._mlx_attention(q, k, v, scale=0.3, mask=masks[kind])
    found = cpu_math.attention(q, k, v, scale=0.3, mask=masks[kind])
    np.testing.assert_allclose(np.array(found), np.array(expected), atol=5e-5)


def test_powers_and_silu_are_as_exact_as_float32() -> None:
    x = mx.linspace(-125, 126, 100_001)
    expected = np.exp2(np.array(x).astype(np.float64))
    np.testing.assert_allclose(np.array(cpu_math.exp2(x)), expected, rtol=4e-7)
    assert np.isfinite(np.array(cpu_math.exp2(mx.array([-mx.inf, mx.inf, -1e9])))).all()
    y = mx.linspace(-90, 90, 10_001)
    np.testing.assert_allclose(
        np.array(cpu_math.silu(y)), np.array(y * mx.sigmoid(y)), atol=1e-6, rtol=1e-6
    )


def test_what_is_not_plain_float32_is_left_to_mlx() -> None:
    q = mx.random.normal((1, 4, 3, 16))
    k, v = (mx.random.normal((1, 2, 9, 16)) for _ in range(2))
    sinks = mx.random.normal((4,))
    expected = cpu_math._mlx_attention(q, k, v, scale=0.25, mask="causal", sinks=sinks)
    found = cpu_math.attention(q, k, v, scale=0.25, mask="causal", sinks=sinks)
    np.testing.assert_array_equal(np.array(found), np.array(expected))
    half = mx.ones((4,), mx.float16)
    np.testing.assert_array_equal(np.array(cpu_math.silu(half)), np.array(nn.silu(half)))
