"""What a step is given: sequences in batches, anchors in them, and what is right after each.

In: the target's answers. Out: arrays. All of it is a function of the seed and the step's number,
so a training that goes on after an interrupt sees what it would have seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.training.shards import Answer

COLUMNS = 128
"""Lengths are rounded up to a multiple of this: every new shape costs on a GPU."""
WINDOW = 64
"""Batches among which sequences are sorted by length, so that little is padding."""
ORDER, PLACES = 1, 2  # streams of random numbers

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Example:
    """A sequence.

    Attributes:
        key, kind, source: Of the question.
        tokens: Prompt and answer.
        start: Where the answer begins; at least 1.
        schema: As JSON, or "".
        quoted: What quotes in the answer are words of, or "".
    """

    key: str
    kind: str
    source: str
    tokens: Ints
    start: int
    schema: str = ""
    quoted: str = ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Examples out of answers, and how many were left out."""

    examples: tuple[Example, ...]
    looping: int
    too_long: int


def choose_examples(answers: Sequence[Answer], split: str, length: int) -> Chosen:
    """The answers of a split that can be learnt from.

    Args:
        answers: All of them; those that loop are left out.
        split: "train" or "heldout".
        length: Most tokens of prompt and answer.

    Raises:
        InputError: None is left.
    """
    own = [answer for answer in answers if answer.split == split]
    looping = sum(answer.loops for answer in own)
    sound = [answer for answer in own if not answer.loops and answer.answer and answer.prompt]
    short = [a for a in sound if len(a.prompt) + len(a.answer) <= length]
    if not short:
        raise InputError(
            f"no answer of split={split!r} is left: of {len(own)}, {looping} loop and "
            f"{len(sound) - len(short)} are longer than length={length!r} tokens; give more "
            "documents, or raise the length"
        )
    examples = tuple(
        Example(
            a.key, a.kind, a.source, np.concatenate([a.prompt, a.answer], dtype=np.int32),
            len(a.prompt), a.schema, a.quoted,
        )
        for a in sorted(short, key=lambda answer: answer.key)
    )  # fmt: skip
    return Chosen(examples, looping, len(sound) - len(short))


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences side by side, with nothing chosen in them yet.

    Attributes:
        examples: B of them.
        tokens: [B, L], zeros behind each sequence's end, which nothing sees.
    """

    examples: tuple[Example, ...]
    tokens: Ints


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks to be drafted, and what is right.

    Attributes:
        anchors: [B, A] positions of the last verified token. What the drafter may see of the
            context lies strictly before.
        first: [B, A] the tokens there.
        labels: [B, A, T - 1] the tokens after it.
        weights: [B, A, T - 1] their weight in the loss; 0 past the end.
    """

    anchors: Ints
    first: Ints
    labels: Ints
    weights: Floats


class Batches:
    """All batches of a training, by number.

    Args:
        examples: To be learnt from.
        rows: B.
        seed: Of the order and the anchors.
    """

    def __init__(self, examples: Sequence[Example], rows: int, seed: int) -> None:
        self._examples = examples
        self._rows = rows
        self._seed = seed
        self.per_epoch = max(1, len(examples) // rows)
        self._epoch = -1
        self._order: list[list[int]] = []

    def batch(self, number: int) -> Batch:
        """The batch of this number, from 0; there is no last."""
        epoch, place = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        return stack([self._examples[i] for i in self._order[place]])

    def blocks(self, batch: Batch, step: int, anchors: int, block: int, decay: float) -> Blocks:
        """Anchors for a step, anywhere in the answers, the last prompt token included."""
        chance = np.random.default_rng((self._seed, PLACES, step))
        places = [_places(example, anchors, chance) for example in batch.examples]
        return make_blocks(batch, places, block, decay)

    def _shuffled(self, epoch: int) -> list[list[int]]:
        chance = np.random.default_rng((self._seed, ORDER, epoch))
        count = self.per_epoch * self._rows
        order = np.resize(chance.permutation(len(self._examples)), count)
        batches: list[list[int]] = []
        for start in range(0, count, WINDOW * self._rows):
            window = order[start : start + WINDOW * self._rows]
            lengths = [len(self._examples[i].tokens) for i in window]
            window = window[np.argsort(lengths, kind="stable")]
            batches += window.reshape(-1, self._rows).tolist()
        return [batches[i] for i in chance.permutation(len(batches))]


def stack(examples: Sequence[Example]) -> Batch:
    """Sequences as one array."""
    longest = max(len(example.tokens) for example in examples)
    tokens = np.zeros((len(examples), -(-longest // COLUMNS) * COLUMNS), np.int32)
    for row, example in zip(tokens, examples, strict=True):
        row[: len(example.tokens)] = example.tokens
    return Batch(tuple(examples), tokens)


def make_blocks(batch: Batch, places: Sequence[Sequence[int]], block: int, decay: float) -> Blocks:
    """Blocks at given anchors.

    Args:
        batch: The sequences.
        places: [B] up to A positions for each; -1, or a missing one, is a block that counts not.
        block: T.
        decay: Token k after the anchor weighs exp(-(k - 1) / decay); it predicts k after it.
    """
    most = max(len(row) for row in places)
    padded = np.full((len(places), most), -1, np.int64)
    for row, own in zip(padded, places, strict=True):
        row[: len(own)] = own
    anchors = np.maximum(padded, 0)
    offsets = np.arange(1, block)  # [T - 1]
    at = anchors[..., None] + offsets  # [B, A, T - 1]
    ends = np.array([len(example.tokens) for example in batch.examples])[:, None, None]
    known = (at < ends) & (padded >= 0)[..., None]
    rows = np.arange(len(places))[:, None]
    return Blocks(
        anchors=anchors.astype(np.int32),
        first=batch.tokens[rows, anchors],
        labels=batch.tokens[rows[..., None], np.minimum(at, batch.tokens.shape[1] - 1)],
        weights=(known * np.exp(-(offsets - 1) / decay)).astype(np.float32),
    )


def _places(example: Example, most: int, chance: np.random.Generator) -> list[int]:
    """Anchors: positions with at least one token of the answer after them."""
    first, count = example.start - 1, len(example.tokens) - example.start
    picked = chance.choice(count, min(count, most), replace=False)
    return [*sorted((first + picked).tolist()), *[-1] * (most - len(picked))]
