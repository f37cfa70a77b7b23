"""States of recurrent layers as records: those of several rows side by side, and one row's of them.

The arrays never change in place, so a state is kept by keeping its arrays.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """What the recurrent layers remember of B rows.

    Attributes:
        layers: Per layer its arrays: a GatedDeltaNet's last inputs of the convolution [B, C, D]
            and its delta state [B, H, V, K].
    """

    layers: tuple[tuple[mx.array, ...], ...]

    @property
    def rows(self) -> int:
        """B."""
        return int(self.layers[0][0].shape[0])

    @property
    def size_bytes(self) -> int:
        """Memory held by the arrays."""
        return sum(array.nbytes for arrays in self.layers for array in arrays)

    def row(self, index: int) -> "States":
        """One row's, as views."""
        return States(
            tuple(tuple(array[index : index + 1] for array in arrays) for arrays in self.layers)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """The state of one row after its first `length` tokens: row `index` of `states`."""

    length: int
    states: States
    index: int

    def apart(self) -> "Saved":
        """The same in arrays of its own, so that the other rows' memory can go."""
        if self.states.rows == 1:
            return self
        row = self.states.row(self.index)
        own = States(tuple(tuple(mx.contiguous(a) for a in arrays) for arrays in row.layers))
        mx.eval([list(arrays) for arrays in own.layers])
        return Saved(self.length, own, 0)


def zeros_like(states: States) -> Callable[[], States]:
    """Makes the state of one row without tokens; holds shapes only."""
    kinds = [[((1, *a.shape[1:]), a.dtype) for a in arrays] for arrays in states.layers]
    return lambda: States(tuple(tuple(mx.zeros(*kind) for kind in layer) for layer in kinds))


def longest_usable(saved: Sequence[Saved], wanted: int) -> int:
    """How many of the first `wanted` tokens the latest fitting state stands for."""
    return max((one.length for one in saved if one.length <= wanted), default=0)
