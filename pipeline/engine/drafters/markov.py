"""The Markov head: what each token of a block says of the next one.

A drafter fills all slots of a block at once, so no slot knows what its neighbour became, and what
is right grows rarer towards the end. A small head mends that, token by token: to a slot's logits it
adds what the token before makes likelier, gated by the slot's hidden state,

    logits[k] + after @ (silu(gate_proj(hidden[k])) * before[token k - 1])

(DSpark, arXiv 2607.05147: the gated Markov head. Here its two tables [V, R] are made of the
target's own embedding and head, so a checkpoint holds 3 R D numbers instead of 2 V R.)

Only candidates are looked at, and not all V tokens: the best of each of `CLASSES` classes.

In: a block's logits and hidden states. Out: its tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import mlx.core as mx
import numpy as np
from mlx import nn
from numpy.typing import NDArray

from pipeline.engine.drafters.drafter_config import DrafterConfig
from pipeline.engine.drafters.growing import Beginning, Floats, grow_trees

CLASSES = 256
"""Token i is in class i % CLASSES. Two good candidates of one class are a rare loss."""
MOST_BANNED = 4
"""Banned tokens of a row that are looked at; more are rare, and a draft may be wrong."""
Product = Callable[[mx.array], mx.array]


class Markov(nn.Module):
    """The head's weights, R = `markov_rank`."""

    def __init__(self, config: DrafterConfig) -> None:
        super().__init__()
        size, rank = config.hidden_size, config.markov_rank
        self._eps = config.rms_norm_eps
        self.gate_proj = nn.Linear(size, rank, bias=False)
        self.previous_proj = nn.Linear(size, rank, bias=False)
        self.output_proj = nn.Linear(rank, size, bias=False)

    def gates(self, hidden: mx.array) -> mx.array:
        """[..., D] of a slot, after the last norm, to [..., R]."""
        gate = self.gate_proj(hidden)
        return gate * mx.sigmoid(gate)

    def before(self, embedded: mx.array) -> mx.array:
        """The target's embedding [..., D] of the token before, to [..., R]."""
        return self.previous_proj(mx.fast.rms_norm(embedded, None, self._eps))

    def shift(self, hidden: mx.array, embedded: mx.array) -> mx.array:
        """What is to be added to a slot's hidden state [..., D], for its training."""
        return self.output_proj(self.gates(hidden) * self.before(embedded))


class Chain:
    """Chooses the tokens of blocks, each by the one before.

    Args:
        head: The weights.
        embed: Tokens [N] to the target's embedding [N, D].
        project: Hidden states [N, D] to logits [N, V].
        vocabulary: V.
    """

    def __init__(self, head: Markov, embed: Product, project: Product, vocabulary: int) -> None:
        self.before = head.before(embed(mx.arange(vocabulary)))  # [V, R]
        self.after = mx.contiguous(project(head.output_proj.weight.T).T)  # [V, R]
        self.gates, self.vocabulary = head.gates, vocabulary
        self.nbytes = self.before.nbytes + self.after.nbytes
        mx.eval(self.before, self.after)

    def choose(
        self, logits: mx.array, gates: mx.array, anchors: Sequence[int], known: Sequence[Beginning]
    ) -> NDArray[np.int32]:
        """The tokens of blocks.

        Args:
            logits: [B, T, V] of the drafted slots.
            gates: [B, T, R], see `Markov.gates`.
            anchors: [B] the tokens before the blocks.
            known: The rows' beginnings.

        Returns:
            [B, T], computed.
        """
        return self.pick(*shortlist(logits), gates, anchors, known)

    def grow(
        self,
        logits: mx.array,
        gates: mx.array,
        anchors: Sequence[int],
        known: Sequence[Beginning],
        count: int,
    ) -> NDArray[np.int32]:
        """Trees [B, 2, count], see `growing.grow_trees`; else as `choose`."""
        return self.grow_among(*shortlist(logits), gates, anchors, known, count)

    def grow_among(
        self,
        values: mx.array,
        ids: mx.array,
        gates: mx.array,
        anchors: Sequence[int],
        known: Sequence[Beginning],
        count: int,
    ) -> NDArray[np.int32]:
        """As `grow`, among the candidates of a `shortlist` [B, T, C]."""
        shift = partial(self._shifts, gates, anchors, known)
        return grow_trees(values, ids, anchors, known, count, shift)

    def _shifts(
        self, gates: mx.array, anchors: Sequence[int], known: Sequence[Beginning], ids: mx.array
    ) -> "list[_Shift]":
        """See `growing.Shift`; what is needed of the tables is fetched at once."""
        lasts = mx.array([one.last(anchor) for one, anchor in zip(known, anchors, strict=True)])
        fetched = gates, self.after[ids], self.before[ids], self.before[lasts]
        mx.eval(ids, *fetched)
        tokens, firsts = np.array(ids), [len(one.tokens) for one in known]
        gated, after, before, last = (np.array(one.astype(mx.float32)) for one in fetched)
        return list(map(_Shift, tokens, gated, after, before, last, firsts))

    def pick(
        self,
        values: mx.array,
        ids: mx.array,
        gates: mx.array,
        anchors: Sequence[int],
        known: Sequence[Beginning],
    ) -> NDArray[np.int32]:
        """As `choose`, among the candidates of a `shortlist` [B, T, C]."""
        width = ids.shape[1]
        chosen: list[mx.array] = []
        previous = mx.array(list(anchors))
        for k in range(width):
            wanted = gates[:, k] * self.before[previous]  # [B, R]
            more = (self.after[ids[:, k]] @ wanted[..., None])[..., 0]  # [B, C]
            scores = values[:, k] + more
            if any(one.banned and k == len(one.tokens) for one in known):
                banned = [_padded(one.banned if k == len(one.tokens) else ()) for one in known]
                hit = (ids[:, k, :, None] == mx.array(banned)[:, None]).any(axis=-1)
                scores = mx.where(hit, mx.array(-mx.inf, scores.dtype), scores)
            best = mx.argmax(scores, axis=-1, keepdims=True)
            previous = mx.take_along_axis(ids[:, k], best, axis=-1)[:, 0]
            if any(k < len(one.tokens) for one in known):
                given = mx.array([one.tokens[k] if k < len(one.tokens) else -1 for one in known])
                previous = mx.where(given >= 0, given, previous)
            chosen.append(previous)
        tokens = mx.stack(chosen, axis=1)
        mx.eval(tokens)
        return np.array(tokens).astype(np.int32)


@dataclass(frozen=True, slots=True)
class _Shift:
    """What a Markov head adds to the scores of a row's candidates, see `growing.Shift`.

    Attributes:
        ids: [T, C] the candidates.
        gates: [T, R].
        after, before: [T, C, R] the candidates' own.
        last: [R] what the last known token has before.
        first: The slot behind it.
    """

    ids: NDArray[np.int32]
    gates: Floats
    after: Floats
    before: Floats
    last: Floats
    first: int

    def __call__(self, slot: int, previous: int) -> Floats:
        before = self.last
        if slot > self.first:
            before = self.before[slot - 1, np.argmax(self.ids[slot - 1] == previous)]
        return self.after[slot] @ (self.gates[slot] * before)


def plan_of(anchors: Sequence[int], known: Sequence[Beginning], width: int) -> NDArray[np.int32]:
    """What `choose_block` in `cuda/markov.cuh` is told, a line for each row."""
    return np.array([
        [anchor, *_padded(one.banned), *(*one.tokens, *[-1] * width)[:width]]
        for anchor, one in zip(anchors, known, strict=True)
    ], np.int32)  # fmt: skip


def _padded(banned: Sequence[int]) -> list[int]:
    return [*banned, *[-1] * MOST_BANNED][:MOST_BANNED]


def shortlist(logits: mx.array) -> tuple[mx.array, mx.array]:
    """The best token of each class, logits and ids [..., CLASSES]; an empty one has -inf."""
    vocabulary = logits.shape[-1]
    short = -vocabulary % CLASSES
    if short:
        widths = [(0, 0)] * (logits.ndim - 1) + [(0, short)]
        logits = mx.pad(logits, widths, constant_values=mx.array(-mx.inf, logits.dtype))
    classes = logits.reshape(*logits.shape[:-1], -1, CLASSES)
    ids = mx.argmax(classes, axis=-2).astype(mx.int32) * CLASSES + mx.arange(CLASSES)
    return classes.max(axis=-2), mx.minimum(ids, vocabulary - 1)
