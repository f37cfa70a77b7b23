"""A token of a tree gets, to the last bit, what its path alone would: see `emulated_gpu`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from pipeline.engine.cuda import fused_kernels
from pipeline.engine.cuda.fused_kernels import ROOM_FOR_TREES, WIDEST_TREE, Inbox, Place
from pipeline.engine.drafters import fused_drafter
from pipeline.engine.drafters.fused_drafter import pack_drafter
from pipeline.engine.memory.cache import RaggedCache
from pipeline.engine.memory.moves import buffers_of
from pipeline.engine.targets.fused import Fused
from pipeline.engine.tree import Branches
from tests import emulated_gpu
from tests.emulated import Words, needs_compiler, words
from tests.test_cuda_forward import EPS, SIZES, TAPS, make_drafter, make_model

pytestmark = needs_compiler
ROWS, COLUMNS = 4, 640
BUSHY = [0, 0, 0, 1, 1, 2, 4, 4, 5, 0, 10]
"""Parents of the drafted tokens of one tree; others are drawn."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trees")


@pytest.fixture
def target(compiled: Path) -> Iterator[Fused]:
    with emulated_gpu.played(compiled):
        yield Fused(make_model(mx.bfloat16), SIZES, COLUMNS)


def filled(seed: int = 0) -> RaggedCache:
    """A cache whose buffers are full of numbers, always the same."""
    rng = np.random.default_rng(seed)
    cache = RaggedCache(SIZES.layers)
    cache.resize(ROWS, COLUMNS)
    for layer in cache.attention:
        for buffer in layer.buffers(SIZES.groups, (64, 64), mx.bfloat16):
            buffer[:] = mx.array(rng.standard_normal(buffer.shape).astype(np.float32))
    mx.eval(cache.state())
    return cache


def bits(cache: RaggedCache) -> list[Words]:
    return [words(buffer) for buffer in buffers_of(cache.attention)]


def draw_parents(rng: np.random.Generator, width: int) -> list[int]:
    """Those of a row's tokens; that of the first is nobody's."""
    return [0, *(int(rng.integers(max(0, t - 4), t)) for t in range(1, width))]


def path_to(parents: Sequence[int], token: int) -> list[int]:
    """The tokens from the first to this one."""
    return [*path_to(parents, parents[token]), token] if token else [0]


class Forwards:
    """One target's forwards, each in a cache as it was before.

    Attributes:
        logits, taps, cache: What the last left.
    """

    def __init__(self, target: Fused) -> None:
        self._target = target
        self.logits, self.taps = np.zeros(0, np.uint16), np.zeros(0, np.uint16)
        self.cache: list[Words] = []

    def run(
        self, tokens: list[list[int]], places: list[Place], branches: Branches | None = None
    ) -> None:
        cache, taps = filled(), tuple(range(SIZES.layers))
        logits, tapped = self._target.forward(
            tokens, places, cache.attention, taps, logits=True, branches=branches
        )
        shape = (SIZES.layers, len(tokens), len(tokens[0]), -1)
        self.logits, self.taps = words(logits), words(tapped).reshape(shape)
        self.cache = bits(cache)


def differences(target: Fused, parents: list[list[int]], places: list[Place]) -> int:
    """How many tokens of trees get other bits than at the ends of their paths."""
    rng = np.random.default_rng(len(parents))
    tokens = rng.integers(0, SIZES.vocabulary, (len(parents), len(parents[0])))
    trees, chain, differing = Forwards(target), Forwards(target), 0
    trees.run(tokens.tolist(), places, Branches(parents))
    for b, (slot, start) in enumerate(places):
        for leaf in set(range(len(parents[b]))) - set(parents[b][1:]):
            path = path_to(parents[b], leaf)
            chain.run([tokens[b, path].tolist()], [(slot, start)])
            for depth, t in enumerate(path):
                same = (trees.logits[b, t] == chain.logits[0, depth]).all()
                same &= (trees.taps[:, b, t] == chain.taps[:, 0, depth]).all()
                for ours, theirs in zip(trees.cache, chain.cache, strict=True):
                    there = theirs[slot, :, start + depth]
                    same &= (ours[slot, :, start + t] == there).all()
                differing += not same
    before = bits(filled())
    for b, (slot, start) in enumerate(places):
        for ours, theirs in zip(trees.cache, before, strict=True):
            end = start + len(parents[b])
            assert (ours[slot, :, :start] == theirs[slot, :, :start]).all()
            assert (ours[slot, :, end:] == theirs[slot, :, end:]).all()
    return differing


@pytest.mark.parametrize(
    ("width", "starts"),
    [(12, (20,)), (16, (31, 3)), (16, (287, 24, 272)), (9, (520, 0)), (5, (30,)), (2, (256, 255))],
)
def test_a_token_of_a_tree_gets_the_bits_of_its_path(
    target: Fused, width: int, starts: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(width)
    parents = [draw_parents(rng, width) for _ in starts]
    if width == len(BUSHY) + 1:
        parents[0] = [0, *BUSHY]
    assert not differences(target, parents, [(3 - i, start) for i, start in enumerate(starts)])


def test_chains_beside_trees_get_the_bits_of_chains(target: Fused) -> None:
    width = 16
    chain = [0, *range(width - 1)]
    comb = [0, *[t - t % 2 for t in range(width - 1)]]
    star = [0] * width
    places = [(0, 25), (1, 286), (2, 31), (3, 60)]
    assert not differences(target, [chain, comb, star, chain], places)


def test_more_trees_than_there_is_room_for_are_refused(target: Fused) -> None:
    cache = filled()
    for rows, width in ((ROOM_FOR_TREES + 1, 2), (1, WIDEST_TREE + 1)):
        parents = [[0] * width] * rows
        with pytest.raises(ValueError, match=f"{rows=}"):
            target.forward([[0] * width] * rows, [(0, 0)] * rows, cache.attention, (),
                           logits=True, branches=Branches(parents))  # fmt: skip


def extended(
    weights: list[mx.array], taps: Words, places: list[Place], branches: Branches | None
) -> list[Words]:
    """A drafter's cache with a context put into it: taps [TAPS, B, T, D]."""
    cache = filled()
    _, rows, width, _ = taps.shape
    begin = fused_kernels.where(places, width, cache.attention)
    states = (
        mx.array(np.ascontiguousarray(taps))
        .view(mx.bfloat16)
        .reshape(TAPS * rows, width, SIZES.hidden)
    )
    fused_kernels.launch(
        fused_drafter._context_kernel(SIZES, TAPS, EPS, branches is not None),
        [
            Inbox().put(begin, branches=branches),
            states,
            *weights,
            fused_kernels.new_counters(),
            mx.zeros((rows * width, SIZES.hidden), mx.bfloat16),
            *buffers_of(cache.attention),
        ],
        [fused_kernels.DONE],
    )
    return bits(cache)


def context_differences() -> int:
    """How many tokens of a context get other keys and values than on their paths."""
    weights, rng = make_drafter(), np.random.default_rng(9)
    table = mx.zeros((SIZES.vocabulary, SIZES.hidden), mx.bfloat16)
    weights.set_dtype(mx.bfloat16)
    _, context = pack_drafter(weights, table, COLUMNS)
    width, places = 16, [(2, 300), (0, 27)]
    parents = [draw_parents(rng, width), [0, *range(width - 1)]]
    drawn = rng.standard_normal((TAPS, 2, width, SIZES.hidden), np.float32)
    taps = words(mx.array(drawn))
    trees, differing = extended(context, taps, places, Branches(parents)), 0
    for b, (slot, start) in enumerate(places):
        for leaf in set(range(width)) - set(parents[b][1:]):
            path = path_to(parents[b], leaf)
            chain = extended(context, taps[:, b : b + 1, path], [(slot, start)], None)
            for depth, t in enumerate(path):
                differing += any(
                    (ours[slot, :, start + t] != theirs[slot, :, start + depth]).any()
                    for ours, theirs in zip(trees, chain, strict=True)
                )
    return differing


def test_a_context_s_keys_are_turned_as_on_their_path(compiled: Path) -> None:
    with emulated_gpu.played(compiled):
        assert not context_differences()


@pytest.mark.parametrize(
    ("kept", "broken"),
    [
        ("TREES ? branches[row * width + t].depth : t", "t"),  # the column is no position
        ("leaves[0] == leaf, leaves[1] == leaf", "true, true"),
        ("from + path.at(at - from)", "at"),
        ("lanes[place * 4 + own.quad]", "total[place]"),
    ],
)
def test_a_planted_fault_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str, broken: str
) -> None:
    sources = tmp_path / "cuda"
    sources.mkdir()
    for source in fused_kernels.SOURCES.glob("*.cuh"):
        text = source.read_text("utf-8")
        if source.name == "forward.cuh":
            assert text.count(kept) == 1
            text = text.replace(kept, broken)
        (sources / source.name).write_text(text, "utf-8")
    monkeypatch.setattr(fused_kernels, "SOURCES", sources)
    fused_kernels.kernel_header.cache_clear()
    with emulated_gpu.played(tmp_path):
        deep = [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]  # two chains
        assert differences(Fused(make_model(mx.bfloat16), SIZES, COLUMNS), [deep], [(0, 284)])
        assert bool(context_differences()) == (broken == "t")
    monkeypatch.undo()
    fused_kernels.kernel_header.cache_clear()
