"""Prompts that were run before: their keys and values are reused by prompts that begin alike.

Kept least-recently-used first out, within a budget of bytes.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pipeline.engine.memory.states import Saved, longest_usable

MOSTLY_COVERED = 0.8


@dataclass(frozen=True, slots=True)
class Prefix:
    """Keys and values of the first tokens of a prompt, copied out of a row.

    Attributes:
        kept: They, as `moves.Moves.copy_out` or another way to move rows has them.
        length: L, in tokens.
        states: If the model is recurrent, the states that were kept of those tokens.
        tapped: Whether the drafter has its context.
    """

    kept: tuple[mx.array, ...]
    length: int
    states: tuple[Saved, ...] | None = None
    tapped: bool = False

    @property
    def size_bytes(self) -> int:
        """Memory held by the arrays."""
        states = sum(saved.states.size_bytes for saved in self.states or ())
        return states + sum(array.nbytes for array in self.kept)

    def usable(self, wanted: int) -> int:
        """How many of its first `wanted` tokens a row can begin with."""
        wanted = min(wanted, self.length)
        return wanted if self.states is None else longest_usable(self.states, wanted)


def common_length(a: NDArray[np.int32], b: NDArray[np.int32]) -> int:
    """How many leading tokens two prompts share."""
    size = min(len(a), len(b))
    if not size:
        return 0
    differ = a[:size] != b[:size]
    first = int(differ.argmax())
    return first if differ[first] else size


@dataclass(frozen=True, slots=True)
class Entry:
    """A kept prompt: its tokens and their keys and values."""

    tokens: NDArray[np.int32]
    prefix: Prefix


class PrefixCache:
    """Prefixes of finished rows.

    Args:
        limit_bytes: The most memory to hold.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._next = 0
        self.size_bytes = 0

    def find(self, tokens: NDArray[np.int32], untapped: int = 0) -> tuple[int, Entry | None, int]:
        """Where a prompt can begin.

        Args:
            tokens: The prompt.
            untapped: So many tokens fewer counts a prefix that the drafter has no context of.

        Returns:
            The most leading tokens of it that an entry can give, that entry, and how many
            `tokens` shares with any entry, usable or not.
        """
        best, best_key, most, shared = 0, -1, 0, 0
        for key, entry in self._entries.items():
            common = common_length(entry.tokens, tokens)
            shared = max(shared, common)
            usable = entry.prefix.usable(common)
            worth = usable if entry.prefix.tapped else usable - untapped
            if worth > most:
                best, best_key, most = usable, key, worth
        if best_key < 0:
            return 0, None, shared
        self._entries.move_to_end(best_key)
        return best, self._entries[best_key], shared

    def wants(self, tokens: NDArray[np.int32], size_bytes: int, *, tapped: bool) -> bool:
        """Whether keeping a prompt of this size is worth a copy."""
        if size_bytes > self._limit:
            return False
        return all(
            common_length(entry.tokens, tokens) < len(tokens)
            for entry in self._entries.values()
            if entry.prefix.tapped or not tapped
        )

    def keep(self, tokens: NDArray[np.int32], prefix: Prefix) -> None:
        """Adds an entry; drops those it mostly covers, then the least recently used."""
        for key, entry in list(self._entries.items()):
            covered = common_length(entry.tokens, tokens) >= MOSTLY_COVERED * len(entry.tokens)
            if covered and (prefix.tapped or not entry.prefix.tapped):
                self._drop(key)
        self._entries[self._next] = Entry(tokens, prefix)
        self._next += 1
        self.size_bytes += prefix.size_bytes
        self.shrink(self._limit)

    def shrink(self, limit_bytes: int) -> None:
        """Drops the least recently used entries until at most `limit_bytes` are held."""
        while self._entries and self.size_bytes > max(limit_bytes, 0):
            self._drop(next(iter(self._entries)))

    def _drop(self, key: int) -> None:
        self.size_bytes -= self._entries.pop(key).prefix.size_bytes


def as_tokens(tokens: Sequence[int]) -> NDArray[np.int32]:
    """Tokens as an array that compares fast."""
    return np.asarray(tokens, dtype=np.int32)
