"""Trees: grown by likelihood, each token as if its path had been run alone."""

import random
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from pipeline.engine.drafters.drafter import Drafter
from pipeline.engine.drafters.drafter_loader import load_drafter
from pipeline.engine.drafters.growing import Beginning, grow_trees
from pipeline.engine.targets.positions import ALL_BY_ROPE
from pipeline.engine.targets.target import Target
from pipeline.engine.tree import (
    NONE,
    SIZES,
    Tree,
    behind,
    branches_of,
    checked_tree,
    cut_tree,
    follower,
    graft,
    grow,
    main_path,
    make_tree,
    parents_of,
    picked_of,
)
from tests.test_drafter import SEEDS
from tests.tiny import target_of
from tests.tiny_drafter import FEW, drafter_config, write_drafter, write_target

ROWS = ([1, 2, 3], [2, 0, 1, 3, 3, 1, 0, 2, 2, 1, 3, 0, 1, 1, 2, 3, 0, 2], [0, 3])


def path_to(draft: Sequence[int], number: int) -> list[int]:
    path = list[int]()
    while number:
        path.append(number)
        number = parents_of(draft)[number - 1]
    return path[::-1]


def any_picks(chance: random.Random, count: int, tokens: int) -> tuple[list[int], list[int]]:
    parents = [chance.randrange(max(0, i - 3), i + 1) for i in range(count)]
    return [chance.randrange(tokens) for _ in parents], parents


def any_tree(chance: random.Random, count: int, tokens: int) -> Tree:
    return make_tree(*any_picks(chance, count, tokens))


def test_the_likeliest_paths_are_picked() -> None:
    chances = {0: 0.6, 1: 0.3, 2: 0.1}  # the same at every depth

    def follows(_depth: int, _token: int) -> list[tuple[int, float]]:
        return [(token, float(np.log(chance))) for token, chance in chances.items()]

    tokens, parents = grow(7, 9, 3, follows)
    paths = {
        tuple(tokens[at - 1] for at in path_to(make_plain(tokens, parents), number))
        for number in range(1, 10)
    }
    every = [path for size in (1, 2, 3) for path in product(range(3), repeat=size)]
    best = sorted(every, key=lambda path: -np.prod([chances[token] for token in path]))

    def likely(path: Sequence[int]) -> float:
        return float(np.prod([chances[token] for token in path]))

    assert sorted(map(likely, paths)) == pytest.approx(sorted(map(likely, best[:9])))
    assert max(map(len, paths)) == 3


def make_plain(tokens: Sequence[int], parents: Sequence[int]) -> Tree:
    tree = Tree(tokens)
    tree.parents, tree.ranks = tuple(parents), tuple(range(len(parents)))
    return tree


def test_the_likeliest_path_is_put_first() -> None:
    tree = make_tree([5, 6, 7, 8, 9], [0, 1, 0, 2, 3])
    assert (tree, tree.parents) == ((5, 6, 8, 7, 9), (0, 1, 2, 0, 4))
    assert tree.ranks == (0, 1, 3, 2, 4)
    assert main_path(tree) == (5, 6, 8)
    assert main_path([4, 5]) == [4, 5]
    assert [follower(tree, 0, token) for token in (5, 7, 6)] == [1, 4, 0]
    assert [follower([4, 5], at, 5) for at in (0, 1, 2)] == [0, 2, 0]


def test_a_copy_is_grafted_on_a_tree() -> None:
    picked = [5, 6, 7, 8], [0, 1, 0, 2]
    assert graft(*picked, [], 9) == picked
    # They take turns, and what both have stands there once.
    assert graft(*picked, [5, 9, 1, 2], 9) == ([5, 9, 6, 1, 7, 2, 8], [0, 1, 1, 2, 0, 4, 3])
    assert graft([5], [0], [1, 2, 3], 3) == ([5, 1, 2], [0, 0, 2])
    chance = random.Random(7)
    for _ in range(50):
        picks = any_picks(chance, 9, 3)
        tree = make_tree(*picks)
        path = [chance.randrange(3) for _ in range(5)]
        joined = make_tree(*graft(*picks, path, 99))
        ways = {tuple(joined[n - 1] for n in path_to(joined, k)) for k in range(1, len(joined) + 1)}
        mine = {tuple(tree[n - 1] for n in path_to(tree, k)) for k in range(1, 10)}
        assert ways == mine | {tuple(path[:k]) for k in range(1, 6)}
        assert len(ways) == len(joined)


def test_of_a_tree_smaller_ones_are_known() -> None:
    tree = make_tree([5, 6, 7, 8, 9], [0, 1, 0, 2, 3])
    cut = cut_tree([5, 6, 7, 8, 9], [0, 1, 0, 2, 3], 3)
    assert (cut, cut.parents, cut.whole) == ((5, 6, 7), (0, 1, 0), tree)
    assert checked_tree(cut, [7, 9], 3) == [(3, 1, True)]
    # More might have grown, and did not: a larger one would be the same.
    assert checked_tree(tree, [7, 9, 1], 7) == [(3, 1, True), (7, 2, True)]
    assert checked_tree(tree, [5, 6, 8], 7) == [(3, 2, True), (7, 3, False)]  # nothing came after
    assert checked_tree(tree, [4], 31) == [(size, 0, True) for size in SIZES]
    middle = cut_tree([5, 6, 7, 8, 9], [0, 1, 0, 2, 3], 4)
    assert checked_tree(middle, [7, 9], 15) == [
        (3, 1, True), (4, 1, True), (7, 2, False), (15, 2, False),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_a_kernel_is_told_whose_path_each_token_is_on(seed: int) -> None:
    chance = random.Random(seed)
    drafts = [any_tree(chance, 15, 50), [1, 2, 3], any_tree(chance, 9, 50)]
    branches = branches_of(drafts, 16)
    assert branches is not None
    for b, draft in enumerate(drafts):
        padded = [*parents_of(draft), *range(len(draft), 15)]
        whole = make_plain(range(15), padded)
        for t, (depth, leaf, *words) in enumerate(branches.told[b].tolist()):
            path = [0, *path_to(whole, t)]
            nibbles = [words[i // 8] >> 4 * (i % 8) & 15 for i in range(depth + 1)]
            assert (depth, nibbles) == (len(path) - 1, path)
            assert leaf not in padded
            assert t in [0, *path_to(whole, leaf)]
            assert np.flatnonzero(branches.seen[b, t]).tolist() == path
    assert branches_of([[1, 2], []], 4) is None


@pytest.mark.parametrize("gates", [False, True])
def test_trees_are_grown_out_of_blocks(gates: bool, tmp_path: Path) -> None:
    changes = {"dflash_config": {"markov_rank": 8}} if gates else {}
    folder = write_target(tmp_path / "target", "llama", seed=3)
    checkpoint = write_drafter(tmp_path / "drafter", drafter_config(**changes))
    target = target_of(folder)
    drafter = load_drafter(checkpoint, target)
    target.cache.resize(len(ROWS), 64)
    for slot, prompt in enumerate(ROWS):
        target.prefill(slot, prompt)
    blocks = drafter.begin([1, 0, 2], 5)
    chain = drafter.finish(blocks).tolist()
    for count in (1, 7, 15, 31):
        for b, line in enumerate(drafter.grow(blocks, [Beginning()] * 3, count).tolist()):
            tree = make_tree(*line)
            assert len(tree) == count
            assert all(a < b for a, b in pairwise([-1, *tree.ranks[: len(main_path(tree))]]))
            assert list(main_path(tree)) == chain[b][: len(main_path(tree))]  # the best is the best
            assert max(len(path_to(tree, n)) for n in range(1, count + 1)) <= 5
    banned = [Beginning((), [chain[b][0]]) for b in range(3)]
    assert all(chain[b][0] != tree[0][0] for b, tree in enumerate(drafter.grow(blocks, banned, 3)))


def test_trees_stand_behind_what_is_known(tmp_path: Path) -> None:
    folder = write_target(tmp_path / "target", "llama", seed=3)
    config = drafter_config(dflash_config={"markov_rank": 8})
    target = target_of(folder)
    drafter = load_drafter(write_drafter(tmp_path / "drafter", config), target)
    target.cache.resize(1, 64)
    target.prefill(0, ROWS[1])
    blocks = drafter.begin([1], 5)
    trees = set[tuple[int, ...]]()
    for begin in ([], [3], [0, 2], [3, 0, 0, 0], [2] * 5):
        known = [Beginning(begin)]
        (grown,) = drafter.grow(blocks, known, 7)
        tree = make_tree(*behind(begin, *picked_of(grown)))
        depth = 5 - len(begin)
        assert list(main_path(tree))[: len(begin)] == begin
        assert (
            list(main_path(tree))
            == drafter.finish(blocks, known)[0].tolist()[: len(main_path(tree))]
        )
        assert max(len(path_to(tree, n)) for n in range(1, len(tree) + 1)) <= 5
        assert (len(tree) == len(begin)) == (not depth)
        trees.add(tuple(tree[len(begin) :]))
        if depth:
            first = int(grown[0, 0])
            (other,) = drafter.grow(blocks, [Beginning(begin, [first])], 7)
            assert int(other[0, 0]) != first
    assert len(trees) > 2


def test_a_block_with_few_candidates_gives_few_tokens() -> None:
    values, ids = mx.array([[[1.0, -mx.inf], [0.5, 0.25]]]), mx.array([[[4, 5], [6, 7]]])
    grown = grow_trees(values, ids, [0], [Beginning()], 6)
    assert grown.tolist() == [[[4, 6, 7, NONE, NONE, NONE], [0, 1, 1, NONE, NONE, NONE]]]


def assert_close(found: mx.array, expected: mx.array) -> None:
    np.testing.assert_allclose(np.array(found), np.array(expected), rtol=0, atol=2e-4)


def after(folder: Path, checkpoint: Path, context: Sequence[int], tokens: Sequence[int]) -> Target:
    target = target_of(folder)
    load_drafter(checkpoint, target)
    target.cache.resize(1, 64)
    target.prefill(0, [*context, *tokens])
    return target


def filled(folder: Path, checkpoint: Path) -> tuple[Target, Drafter]:
    target = target_of(folder)
    drafter = load_drafter(checkpoint, target)
    target.cache.resize(len(ROWS) + 1, 96)
    for slot, prompt in enumerate(ROWS):
        target.prefill(slot, prompt)
    return target, drafter


@pytest.mark.parametrize("kind", [kind for kind in SEEDS if kind in ALL_BY_ROPE])
def test_a_token_gets_what_its_path_alone_would_give_it(kind: str, tmp_path: Path) -> None:
    folder = write_target(tmp_path / "target", kind, seed=SEEDS[kind])
    checkpoint = write_drafter(tmp_path / "drafter", drafter_config())
    target, drafter = filled(folder, checkpoint)
    chance = random.Random(5)
    drafts = [any_tree(chance, 31, FEW), [1, 2], any_tree(chance, 12, FEW)]
    tokens = [[slot, *draft, *[0] * (31 - len(draft))] for slot, draft in enumerate(drafts)]
    logits = target.forward(tokens, branches_of(drafts, 32))
    kept: list[list[int]] = []
    for slot, draft in enumerate(drafts):
        last = max(range(1, len(draft) + 1), key=lambda n: (len(path_to(draft, n)), n))
        for number in (0, 1, last, len(draft)):
            said = [slot, *(draft[n - 1] for n in path_to(draft, number))]
            alone = after(folder, checkpoint, ROWS[slot], said[:-1]).forward([said[-1:]])
            assert_close(logits[slot, number], alone[0, 0])
        path = path_to(draft, last)
        start = target.cache.lengths[slot]
        moves = [(slot, start + n, start + d) for d, n in enumerate(path, start=1) if n != d]
        target.cache.moves.copy_columns(target.cache.attention, moves)
        target.cache.lengths[slot] += 1 + len(path)
        kept.append([slot, *(draft[n - 1] for n in path)])
    assert max(map(len, kept)) > 4, "this proves little: the trees are flat"
    drafted = drafter.draft([1, 2, 3])[1]
    logits = target.forward([[1], [2], [3]])
    for slot, said in enumerate(kept):
        alone = target_of(folder)
        other = load_drafter(checkpoint, alone)
        alone.cache.resize(1, 64)
        alone.prefill(0, [*ROWS[slot], *said])
        assert_close(drafted[slot], other.draft([slot + 1])[1][0])
        assert_close(logits[slot], alone.forward([[slot + 1]])[0])


def test_models_that_know_positions_otherwise_get_chains(tmp_path: Path) -> None:
    for kind, branches in (("llama", True), ("qwen3_next", False)):
        target = target_of(write_target(tmp_path / kind, kind))
        assert target.largest_tree == (31 if branches else 0)
        if not branches:
            with pytest.raises(ValueError, match="branches"):
                target.forward([[0, 0, 0]], branches_of([make_tree([0, 0], [0, 0])], 3))
