"""Recurrent layers in the ragged batch: one state per row, rolled back exactly on rejection.

mlx-lm's hybrid models (`qwen3_5`, `qwen3_next`) see a `StateCache` per recurrent layer, which
speaks the interface of `ArraysCache`. `RaggedCache` says which rows the next forward has and, once
the caller has counted the accepted tokens, what stays of them (`settle`).

How rejection works. A state can't be cut like keys and values, so the states before a forward stay
(arrays never change in place: keeping them is free) and the accepted tokens are run again, but only
through the recurrence: the outputs of the layers' input projections are remembered, so mlx-lm's
own layer code runs with a mask of the accepted length per row and without one matrix product.
Padding to the right of a short draft is never counted, so it never enters a state. Nothing is
replayed if all rows keep all tokens (plain decoding, prefill).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx
from mlx import nn

from pipeline.engine.memory.states import Saved, States, longest_usable, zeros_like
from pipeline.engine.memory.tape import Tape

ARRAYS_PER_LAYER = 2
STATES_PER_ROW = 4
"""States to reserve memory for: before and after a forward, and a row's two marks."""


class StateCache:
    """One recurrent layer's states, seen through the window of the current forward.

    Attributes:
        lengths: mlx-lm's name for where right padding begins: none is ever counted here.
        now: The window's arrays, once the forward has come to this layer.
    """

    lengths: mx.array | None = None

    def __init__(self, states: "RecurrentStates", layer: int) -> None:
        self._states = states
        self._layer = layer
        self.now: list[mx.array | None] | None = None

    def __getitem__(self, index: int) -> mx.array | None:
        return self._arrays()[index]

    def __setitem__(self, index: int, value: mx.array) -> None:
        self._arrays()[index] = value

    def _arrays(self) -> list[mx.array | None]:
        if self.now is None:
            self.now = list(self._states.before()[self._layer])
        return self.now

    def make_mask(self, N: int) -> mx.array | None:  # noqa: ARG002, N803 (mlx-lm's name)
        """No token is masked: those that don't stay are taken back when that is known."""
        return None

    def advance(self, N: int) -> None:  # noqa: N803 (mlx-lm's name)
        """Nothing to do: `RaggedCache` counts."""


@dataclass(frozen=True, slots=True)
class _Forward:
    """The rows of a forward: each had `starts[i]` tokens and gets `width` more."""

    slots: range
    starts: tuple[int, ...]
    width: int
    whole: bool


class RecurrentStates:
    """All rows' states of all recurrent layers.

    A slot refers to a row of immutable arrays. Running rows share one set of them, so a step copies
    nothing; they are packed anew when a row joins or leaves.

    A prompt can only be continued where a state was kept: at the end of a row, and at its marks. A
    row has two: the end of its prompt, and where the prompt last left one that began alike.

    Args:
        mixers: The recurrent layers' modules.
    """

    def __init__(self, mixers: Sequence[nn.Module]) -> None:
        self._tape = Tape(mixers)
        self.layers = [StateCache(self, layer) for layer in range(len(mixers))]
        self._rows: list[Saved | None] = []
        self._marks: list[list[Saved]] = []
        self._branches: list[int] = []  # where a row's prompt left the one it began like
        self._forward: _Forward | None = None
        self._zeros: Callable[[], States] | None = None  # known once a forward has shown the shapes

    @property
    def size_bytes(self) -> int:
        """Memory held by the states."""
        saved = [*self._rows, *(mark for marks in self._marks for mark in marks)]
        held = {id(one.states): one.states for one in saved if one is not None}
        return sum(states.size_bytes for states in held.values())

    def resize(self, rows: int) -> None:
        """Sets the number of slots; those that stay keep their states."""
        more = max(0, rows - len(self._rows))
        self._rows = [*self._rows, *[None] * more][:rows]
        self._marks = [*self._marks, *([] for _ in range(more))][:rows]
        self._branches = [*self._branches, *[0] * more][:rows]

    def release(self) -> None:
        """Drops all states."""
        self._forward = None
        self._clear_forward()
        self.resize(0)

    def pretend(self, length: int) -> None:
        """Counts all rows as `length` tokens long, with empty states: to time a forward.

        Raises:
            ValueError: There was no forward yet.
        """
        if self._zeros is None:
            raise ValueError("no forward has shown yet what a state looks like")
        self._forward = None
        self._clear_forward()
        for slot in range(len(self._rows)):
            self._put(slot, Saved(length, self._zeros(), 0), [])

    def look_at(self, first: int, starts: tuple[int, ...], width: int, *, whole: bool) -> None:
        """The next forward has rows from slot `first`; the one before it is settled.

        Args:
            first: The first row's slot.
            starts: How many tokens each row has.
            width: New tokens of each.
            whole: All of them are known to stay.

        Raises:
            ValueError: A row's length is not one that its state can have.
        """
        self._forward = _Forward(range(first, first + len(starts)), starts, width, whole)
        for slot, start in zip(self._forward.slots, starts, strict=True):
            if self._held(slot) != start:
                raise ValueError(
                    f"slot={slot!r} has length={start!r}, but its recurrent state is that after "
                    f"{self._held(slot)} tokens; only tokens of the last forward can be taken back"
                )
        self._tape.record(on=width > 1 and not whole)

    def before(self) -> Sequence[Sequence[mx.array | None]]:
        """Per layer the arrays of the looked at rows, as they were before the forward."""
        if self._forward is None:
            raise ValueError("no rows are looked at")
        return self._pack(self._forward.slots)

    def settle(self, lengths: Sequence[int]) -> None:
        """Keeps of the last forward what its caller counted since.

        Args:
            lengths: All rows' lengths. Any row may have been emptied, too.

        Raises:
            ValueError: A forward that was to stay whole does not.
        """
        forward, self._forward = self._forward, None
        if forward is not None and all(layer.now is not None for layer in self.layers):
            kept = [
                min(max(lengths[slot] - start, 0), forward.width)
                for slot, start in zip(forward.slots, forward.starts, strict=True)
            ]
            self._keep(forward, kept)
        self._clear_forward()
        for slot, length in enumerate(lengths):
            if length == 0 and self._held(slot):
                self._put(slot, None, [])

    def copy(self, source: int, target: int, wanted: int) -> int:
        """Gives one row the state of another after its first tokens.

        Returns:
            How many tokens the row has now: the most, up to `wanted`, that a state was kept for.
        """
        if wanted != self._held(source):
            return self.load(target, self._saved(source), wanted)
        self._rows[target], self._marks[target] = self._rows[source], self._marks[source]
        self._branches[target] = self._branches[source]
        return wanted

    def save(self, slot: int, length: int) -> tuple[Saved, ...]:
        """Copies out the states that a row has of its first `length` tokens."""
        return tuple(one.apart() for one in self._saved(slot) if 0 < one.length <= length)

    def load(self, slot: int, saved: Sequence[Saved], wanted: int) -> int:
        """Like `copy`, from states that were copied out."""
        length = longest_usable(saved, wanted)
        loaded = [one for one in saved if one.length == length][:1]
        self._put(slot, loaded[0] if loaded else None, loaded)
        self._branches[slot] = wanted
        return length

    def usable(self, slot: int, wanted: int) -> int:
        """How many tokens `copy` would give."""
        return longest_usable(self._saved(slot), wanted)

    def keep_at(self, slot: int, length: int) -> None:
        """A state is to be kept after the first `length` tokens of the row's prompt."""
        self._branches[slot] = length

    def next_stop(self, slot: int, start: int, end: int) -> int:
        """Where a prompt's piece should end, so that a state is kept where others branch off."""
        return self._branches[slot] if start < self._branches[slot] < end else end

    def arrays(self) -> list[mx.array]:
        """The states that the last forward made, to evaluate them."""
        return [a for layer in self.layers for a in layer.now or () if a is not None]

    def _held(self, slot: int) -> int:
        row = self._rows[slot]
        return 0 if row is None else row.length

    def _saved(self, slot: int) -> list[Saved]:
        row = self._rows[slot]
        return [*self._marks[slot], *([] if row is None else [row])]

    def _put(self, slot: int, row: Saved | None, marks: list[Saved]) -> None:
        self._rows[slot], self._marks[slot], self._branches[slot] = row, marks, 0

    def _clear_forward(self) -> None:
        for layer in self.layers:
            layer.now = None
        self._tape.record(on=False)

    def _keep(self, forward: _Forward, kept: Sequence[int]) -> None:
        if all(n in (0, forward.width) for n in kept):
            after = States(
                tuple(tuple(a for a in layer.now or () if a is not None) for layer in self.layers)
            )
        elif forward.whole:
            raise ValueError(f"kept={kept!r} of width={forward.width!r} tokens that were to stay")
        else:
            after = States(self._tape.replay(self._pack(forward.slots), kept))
        self._zeros = self._zeros or zeros_like(after)
        for i, slot in enumerate(forward.slots):
            if kept[i]:
                self._rows[slot] = row = Saved(forward.starts[i] + kept[i], after, i)
                if forward.whole:
                    branches = [m for m in self._marks[slot] if m.length == self._branches[slot]]
                    self._marks[slot] = [*branches, row.apart()]
        users = Counter(id(row.states) for row in self._rows if row is not None)
        for slot, row in enumerate(self._rows):
            if row is not None and users[id(row.states)] < row.states.rows:
                self._rows[slot] = row.apart()  # else it would hold the memory of rows that left

    def _pack(self, slots: range) -> Sequence[Sequence[mx.array | None]]:
        """The rows' arrays, side by side in slot order, and nothing else in them."""
        rows = [self._rows[slot] for slot in slots]
        some = next((row for row in rows if row is not None), None)
        if some is None:
            return [[None] * ARRAYS_PER_LAYER for _ in self.layers]
        if some.states.rows == len(rows) and all(
            row is not None and row.states is some.states and row.index == i
            for i, row in enumerate(rows)
        ):
            return some.states.layers
        zeros = zeros_like(some.states)()
        parts = [zeros if row is None else row.states.row(row.index) for row in rows]
        packed = States(
            tuple(
                tuple(mx.concatenate(list(column)) for column in zip(*layer, strict=True))
                for layer in zip(*(part.layers for part in parts), strict=True)
            )
        )
        for i, slot in enumerate(slots):
            self._rows[slot] = Saved(self._held(slot), packed, i)
        return packed.layers
