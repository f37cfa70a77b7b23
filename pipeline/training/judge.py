"""Judges a drafter on held-out answers: its blocks at every place, then the walks.

In: examples and parameters. Out: accepted tokens per verify, by kind of question, width and
context, with the drafter alone and with copies and the grammar's drafts.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

import mlx.core as mx
import numpy as np

from pipeline.engine.choosing.sampling import likeliest_tokens
from pipeline.engine.drafters.growing import Beginning, grow_trees
from pipeline.engine.drafters.markov import Chain, shortlist
from pipeline.engine.grammars.grammar import Grammars
from pipeline.engine.tree import LARGEST
from pipeline.training.examples import Batch, Example, Ints, make_blocks, stack
from pipeline.training.features import Features
from pipeline.training.loss import Head, slots_at_once
from pipeline.training.model import Draft, Parameters, TrainableDrafter
from pipeline.training.report import Figure, Kind
from pipeline.training.walks import Drafted, Walk, walk_alone, walk_branched, walk_with_others

ROWS = 8
"""Sequences whose hidden states are held at once."""
BLOCKS = 512
"""Blocks of a forward, at most."""
WIDTHS = (4, 8, 16, 32)
"""Widths of a verify: the anchor and the first so many drafted tokens less one. No chain is longer
than the block; a tree is."""
CONTEXTS = (("up to 400", 0, 400), ("400 to 800", 400, 800), ("over 800", 800, 10**9))
"""Ranges of a context's length in tokens, prompt and half of the answer."""


class Judge:
    """Drafts for known answers.

    Args:
        drafter: The forward.
        features: The target's hidden states.
    """

    def __init__(self, drafter: TrainableDrafter, features: Features) -> None:
        self._drafter = drafter
        self._features = features

    def accepted(self, parameters: Parameters, examples: Sequence[Example]) -> float:
        """Tokens per verify of the whole block, with nothing added."""
        most = self._drafter.config.block_size - 1
        walks = [
            walk_alone(one, drafted, most) for one, drafted in self._draft(parameters, examples)
        ]
        return sum(walks, Walk(0, 0)).accepted

    def figures(
        self,
        parameters: Parameters,
        examples: Sequence[Example],
        grammars: Grammars,
        progress: Callable[[float], None] = lambda _: None,
    ) -> list[Figure]:
        """All figures.

        Args:
            parameters: Of the drafter.
            examples: Held-out answers.
            grammars: Of the target.
            progress: Told the part that is done.
        """
        sums: dict[tuple[str, int, Kind], tuple[int, Walk]] = {}
        block = self._drafter.config.block_size
        widths = sorted({*WIDTHS, min(block, WIDTHS[0])})
        for done, (one, drafted) in enumerate(self._draft(parameters, examples, others=True)):
            groups = ("all", one.kind, _context_of(one))
            for width in widths:
                walks: dict[Kind, Walk] = {
                    "tree": walk_branched(one, drafted, width - 1),
                    "all": walk_with_others(one, drafted, width - 1, grammars),
                }
                if width <= block:
                    walks["chain"] = walk_alone(one, drafted, width - 1)
                for kind, walk in walks.items():
                    for group in groups:
                        count, total = sums.get((group, width, kind), (0, Walk(0, 0)))
                        sums[group, width, kind] = (count + 1, total + walk)
            progress((done + 1) / len(examples))
        return [
            Figure(group, width, kind, count, total.tokens, total.verifies)
            for (group, width, kind), (count, total) in sorted(sums.items())
        ]

    def _draft(
        self, parameters: Parameters, examples: Sequence[Example], *, others: bool = False
    ) -> Iterator[tuple[Example, Drafted]]:
        chain = self._drafter.chain(parameters)
        by_length = sorted(examples, key=lambda one: len(one.tokens))
        for start in range(0, len(by_length), ROWS):
            batch = stack(by_length[start : start + ROWS])
            drafted = self._draft_batch(parameters, chain, batch, others=others)
            yield from zip(batch.examples, drafted, strict=True)

    def _draft_batch(
        self, parameters: Parameters, chain: Chain | None, batch: Batch, *, others: bool
    ) -> Iterator[Drafted]:
        features = self._features.of(batch)
        config = self._drafter.config
        longest = max(len(one.tokens) - one.start for one in batch.examples)
        slots = slots_at_once(config.vocab_size)
        step = max(1, BLOCKS // len(batch.examples))
        picked: list[np.ndarray] = []
        lists: list[Listed] = []
        for start in range(0, longest, step):
            places = [_places(one, start, start + step) for one in batch.examples]
            blocks = make_blocks(batch, places, config.block_size, 1.0)
            hidden = self._drafter.hidden(parameters, Draft(features, blocks))
            if chain is not None or others:
                lists.append(Listed(chain, self._drafter.scores, hidden, blocks.first, slots))
            picked.append(self._choose(hidden) if chain is None else lists[-1].tokens)
        tokens = np.concatenate(picked, axis=1)
        for row, one in enumerate(batch.examples):
            count = len(one.tokens) - one.start
            go_on = partial(_go_on, lists, step, row) if chain is not None and others else None
            grow = partial(_grow, lists, step, row) if others else None
            yield Drafted(tokens[row, :count], grow and _remembered(grow), go_on)

    def _choose(self, hidden: mx.array) -> np.ndarray:
        """The likeliest tokens [B, A, T - 1].

        Some slots at a time: all their logits at once would be gigabytes.
        """
        flat = hidden.reshape(-1, hidden.shape[-1])
        step = slots_at_once(self._drafter.config.vocab_size)
        found = [
            likeliest_tokens(self._drafter.scores(flat[None, start : start + step]))[0]
            for start in range(0, flat.shape[0], step)
        ]
        return np.concatenate(found).reshape(hidden.shape[:-1])


class Listed:
    """The candidates of blocks, and what is chosen of them.

    Args:
        chain: A Markov head, if there is one.
        scores: Hidden states [N, D] to logits [N, V].
        hidden: [B, A, T - 1, D] of the drafted slots.
        first: [B, A] the tokens before.
        slots: How many of them have their logits made at once.

    Attributes:
        tokens: [B, A, T - 1]; none without such a head.
    """

    def __init__(
        self, chain: Chain | None, scores: Head, hidden: mx.array, first: Ints, slots: int
    ) -> None:
        _, blocks, width, size = hidden.shape
        self._chain, self._blocks = chain, blocks
        self._anchors: list[int] = first.reshape(-1).tolist()
        flat = hidden.reshape(-1, width, size)
        step = self._step = max(1, slots // width)
        pieces = [flat[start : start + step] for start in range(0, len(flat), step)]
        self._parts = [
            (*shortlist(scores(piece)), piece if chain is None else chain.gates(piece))
            for piece in pieces
        ]
        mx.eval(self._parts)
        tokens = [np.zeros((0, width), np.int32)]
        if chain is not None:
            tokens += [
                chain.pick(*part, anchors, [Beginning()] * len(anchors))
                for i, part in enumerate(self._parts)
                for anchors in (self._anchors[i * step : (i + 1) * step],)
            ]
        self.tokens = np.concatenate(tokens).reshape(-1, blocks, width)

    def go_on(self, row: int, block: int, begin: Sequence[int]) -> list[int]:
        """A block that begins with given tokens."""
        if self._chain is None:
            raise ValueError("without a Markov head a beginning changes nothing")
        values, ids, gates, anchor = self._block(row, block)
        chosen = self._chain.pick(values, ids, gates, [anchor], [Beginning(begin)])
        return chosen[0].tolist()

    def grow(self, row: int, block: int, begin: Sequence[int], count: int) -> Ints:
        """A block as a tree of so many tokens behind given ones: [2, count]."""
        values, ids, gates, anchor = self._block(row, block)
        known = [Beginning(begin)]
        if self._chain is None:
            return grow_trees(values, ids, [anchor], known, count)[0]
        return self._chain.grow_among(values, ids, gates, [anchor], known, count)[0]

    def _block(self, row: int, block: int) -> tuple[mx.array, mx.array, mx.array, int]:
        at = row * self._blocks + block
        part, place = divmod(at, self._step)
        values, ids, gates = (array[place : place + 1] for array in self._parts[part])
        return values, ids, gates, self._anchors[at]


def _go_on(
    lists: Sequence[Listed], step: int, row: int, place: int, begin: Sequence[int]
) -> list[int]:
    return lists[place // step].go_on(row, place % step, begin)


def _grow(lists: Sequence[Listed], step: int, row: int, place: int, begin: Sequence[int]) -> Ints:
    return lists[place // step].grow(row, place % step, begin, LARGEST)


def _remembered(grow: Callable[[int, Sequence[int]], Ints]) -> Callable[[int, Sequence[int]], Ints]:
    """The same; walks of several widths ask for the same trees."""
    known = cache(grow)
    return lambda place, begin: known(place, tuple(begin))


def _places(example: Example, start: int, end: int) -> list[int]:
    """Anchors from the last prompt token on; -1 past the answer's end."""
    count = len(example.tokens) - example.start
    return [example.start - 1 + i if i < count else -1 for i in range(start, end)]


def _context_of(example: Example) -> str:
    middle = (example.start + len(example.tokens)) // 2
    return "context " + next(name for name, low, high in CONTEXTS if low < middle <= high)
