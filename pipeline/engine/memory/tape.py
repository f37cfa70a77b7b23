"""Remembers what went into the recurrent layers, to run their recurrence again and nothing else.

In: the recurrent layers' modules. Out: their states after the first few tokens of the last forward.

Why this way of taking rejected tokens out of a state: measured on a CPU, float32, the dimensions of
Qwen3.5-0.8B with 3 recurrent layers and 1 of attention (a state is 3.2 MB a row), half of the draft
kept, in ms of processor time and MB at the peak of a step:

| rows x tokens | forward alone | and replay | and forward again | keeping every position |
| --- | --- | --- | --- | --- |
| 1 x 4 | 76 ms, 13 MB | 84 ms, 15 MB | 152 ms, 13 MB | 76 ms, 20 MB |
| 1 x 16 | 126 ms, 28 MB | 143 ms, 28 MB | 211 ms, 28 MB | 129 ms, 69 MB |
| 8 x 16 | 696 ms, 227 MB | 902 ms, 227 MB | 1,059 ms, 227 MB | 773 ms, 550 MB |

To keep the state at every position would be faster still here, but holds 16 states a row (at 4B,
where one is 50 MB, 6.4 GB for 8 rows), needs a recurrence of our own instead of mlx-lm's, and can't
be had from its Metal kernel, which gives the last state only.
"""

from collections.abc import Sequence

import mlx.core as mx
from mlx import nn
from mlx_lm.models.cache import ArraysCache


class Tape:
    """The outputs of the recurrent layers' input projections in the last forward.

    Only the given modules are told to report: their class becomes a subclass of its own.

    Args:
        mixers: The recurrent layers' modules; their input projections are named `in_proj*`.
    """

    def __init__(self, mixers: Sequence[nn.Module]) -> None:
        self._mixers = tuple(mixers)
        self._outputs: dict[tuple[int, str], mx.array] = {}
        self._recording = self._replaying = False
        self._rows = self._width = 0
        self._dtype = mx.float32
        for layer, mixer in enumerate(mixers):
            for name, child in mixer.children().items():
                if name.startswith("in_proj") and isinstance(child, nn.Module):
                    self._listen(child, (layer, name))

    def record(self, *, on: bool) -> None:
        """Starts anew, with or without remembering the next forward."""
        self._outputs.clear()
        self._recording = on

    def _listen(self, projection: nn.Module, key: tuple[int, str]) -> None:
        kind: type[nn.Module] = type(projection)

        def call(module: nn.Module, x: mx.array) -> mx.array:
            if self._replaying:
                return self._outputs[key][:, : self._width]
            out: mx.array = kind.__call__(module, x)
            if self._recording:
                self._outputs[key] = out
                self._dtype = x.dtype
            return out

        projection.__class__ = type(kind.__name__, (kind,), {"__call__": call})

    def replay(
        self, before: Sequence[Sequence[mx.array | None]], kept: Sequence[int]
    ) -> tuple[tuple[mx.array, ...], ...]:
        """Runs the recurrence over each row's first tokens of the last forward.

        mlx-lm's own layer code runs, on the remembered projections; what it does after the
        recurrence is part of a graph that nobody evaluates.

        Args:
            before: Per layer its arrays before that forward, each [B, ...] or None for zeros.
            kept: How many tokens stay, per row.

        Returns:
            Per layer its arrays, being computed.
        """
        self._width = max(kept)
        inputs = mx.zeros((len(kept), self._width, 1), self._dtype)  # only its shape is looked at
        after: list[tuple[mx.array, ...]] = []
        self._replaying = True
        try:
            for mixer, arrays in zip(self._mixers, before, strict=True):
                cache = ArraysCache(size=len(arrays))
                cache.cache = list(arrays)
                cache.prepare(lengths=list(kept))
                mixer(inputs, mask=cache.make_mask(self._width), cache=cache)
                after.append(tuple(array for array in cache.cache if array is not None))
        finally:
            self._replaying = False
        return tuple(after)
