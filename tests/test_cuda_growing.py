"""Trees that a kernel grows are those of the plainest way there is; see `emulated_gpu`."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.engine.drafters.fused_markov import MOST_GROWN, FusedChain
from pipeline.engine.drafters.growing import Beginning
from pipeline.engine.tree import CHILDREN, NONE, grow
from tests import emulated_gpu
from tests.emulated import needs_compiler

pytestmark = needs_compiler
RANK, CLASSES = 16, 256
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("growing")


def draw(rng: np.random.Generator, *shape: int) -> mx.array:
    return mx.array(rng.standard_normal(shape).astype(np.float32)).astype(mx.bfloat16)


def plain(array: mx.array) -> Floats:
    return np.array(array.astype(mx.float32))


class Growing:
    """A chain with random tables, and what it is asked for."""

    def __init__(self, seed: int, rows: int, width: int, vocabulary: int) -> None:
        rng = np.random.default_rng(seed)
        self.tables = [draw(rng, vocabulary, RANK) * 0.7 for _ in range(2)]
        head: Any = SimpleNamespace(
            before=lambda embedded: embedded,
            output_proj=SimpleNamespace(weight=mx.zeros((1, 1))),
            gates=None,
        )
        self.chain = FusedChain(
            head, lambda _: self.tables[0], lambda _: self.tables[1].T, vocabulary
        )
        self.logits = draw(rng, rows, width, vocabulary) * 2
        self.gates = draw(rng, rows, width, RANK)
        self.anchors: list[int] = rng.integers(0, vocabulary, rows).tolist()

    def found(self, known: list[Beginning], count: int) -> list[list[list[int]]]:
        grown = self.chain.grow(self.logits, self.gates, self.anchors, known, count)
        assert grown.dtype == np.int32
        return grown.tolist()

    def wanted(self, known: list[Beginning], count: int) -> list[list[list[int]]]:
        return [self._wanted(b, known[b], count) for b in range(len(known))]

    def _wanted(self, b: int, known: Beginning, count: int) -> list[list[int]]:
        logits, gates, before, after = map(plain, (self.logits, self.gates, *self.tables))
        first = len(known.tokens)

        def children(depth: int, previous: int) -> list[tuple[int, float]]:
            slot = logits[b, first + depth]
            every = slot + after @ (gates[b, first + depth] * before[previous])
            ids = [int(c + CLASSES * slot[c::CLASSES].argmax())
                   for c in range(min(CLASSES, len(slot)))]  # fmt: skip
            scores = {i: every[i] for i in ids if depth or i not in known.banned}
            whole = np.logaddexp.reduce(list(scores.values()))
            best = sorted(scores, key=lambda i: (-scores[i], i))[:CHILDREN]
            return [(i, float(scores[i] - whole)) for i in best]

        lines = grow(known.last(self.anchors[b]), count, len(logits[b]) - first, children)
        return [[*line, *[NONE] * count][:count] for line in lines]


@pytest.fixture
def gpu(compiled: Path) -> Iterator[None]:
    with emulated_gpu.played(compiled):
        yield


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("rows", "width", "vocabulary", "count"),
    [(3, 5, 640, 7), (1, 7, 640, 15), (5, 1, 640, 3), (2, 7, 1000, MOST_GROWN), (2, 3, 200, 15)],
)
def test_a_tree_grows_by_likelihood(rows: int, width: int, vocabulary: int, count: int) -> None:
    trees = set[tuple[int, ...]]()
    for seed in range(4):
        growing = Growing(seed, rows, width, vocabulary)
        begins = [[7, 9, 199, 0, 3, 5][: (seed + b) % 3 * width // 2] for b in range(rows)]
        free = [Beginning(begin) for begin in begins]
        first = growing.found(free, count)
        assert first == growing.wanted(free, count)
        assert all(tree[0][0] >= 0 or len(one.tokens) == width
                   for one, tree in zip(free, first, strict=True))  # fmt: skip
        known = [Beginning(begin, [t for t in tree[0][: b % 4 + 1] if t >= 0])
                 for b, (begin, tree) in enumerate(zip(begins, first, strict=True))]  # fmt: skip
        found = growing.found(known, count)
        assert found == growing.wanted(known, count)
        assert all(tree[0][0] not in one.banned for one, tree in zip(known, found, strict=True))
        trees |= {tuple(parents) for _, parents in first}
    assert len(trees) > 1 or width == 1


@pytest.mark.usefixtures("gpu")
def test_a_tree_is_as_large_as_it_can_be() -> None:
    growing = Growing(1, 2, 1, 640)  # one slot: the anchor's children are all there is
    nothing = [Beginning()] * 2
    for tokens, parents in growing.found(nothing, 7):
        assert tokens[CHILDREN:] == parents[CHILDREN:] == [NONE] * 3
        assert min(tokens[:CHILDREN]) >= 0
        assert parents[:CHILDREN] == [0] * CHILDREN
    growing.logits = mx.full(growing.logits.shape, -mx.inf, mx.bfloat16)
    assert growing.found(nothing, 3) == [[[NONE] * 3] * 2] * 2
    with pytest.raises(ValueError, match="count=17"):
        growing.found(nothing, 17)
