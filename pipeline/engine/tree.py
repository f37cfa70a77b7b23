"""Branched drafts: where the drafter doubts, several tokens are drafted, and the target picks.

Most drafts fail early, at a token whose runner-up was right. A tree of drafted tokens costs the
verify what a chain of as many costs, and survives there (SpecInfer, arXiv 2305.09781). It is grown
by likelihood: of all tokens that may come next anywhere, the one whose whole path is likeliest
(EAGLE-2, arXiv 2406.16858; here by the probabilities of one block and its Markov head).

Tokens of a forward are numbered in a row: 0 is the last one that is known, i the i-th drafted one,
each behind its parent. In: candidates' probabilities. Out: trees, and what a forward has to know.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

MOST_TREES = 8
"""Rows of a step that may have trees: with more of them, tokens cost what they are worth."""
CHILDREN = 4
"""Tokens that may follow one token, at most."""
NONE = -1
SIZES = (3, 7, 15, 31)
"""Of trees: what the widths of a verify have room for."""
USUAL, LARGEST = SIZES[-2:]
"""Trees are always grown as large as the step may run any, and cut: so larger ones than are run are
known, too. That is `USUAL`, but where larger ones may pay."""
DEEPEST = 15
"""Tokens that may follow each other in a draft, whatever it is."""
Children = Callable[[int, int], Sequence[tuple[int, float]]]
"""Given a depth and the token there, what may follow, and its log-probability, likeliest first."""


class Tree(tuple[int, ...]):  # noqa: SLOT001 (it has attributes)
    """Drafted tokens that are no chain: a tuple of tokens, the likeliest path first.

    Attributes:
        parents: The number of the token that each follows.
        ranks: When each was picked, from 0: the first so many make the best tree of that size.
        whole: The one that was grown, of which this is the best of its size.
    """

    parents: tuple[int, ...]
    ranks: tuple[int, ...]
    whole: "Tree"


def make_tree(tokens: Sequence[int], parents: Sequence[int]) -> Tree:
    """A tree of tokens in the order in which they were picked; a parent, a number, comes before.

    The likeliest path is put first: if it is accepted, its keys and values lie where they should.
    """
    path, others, at = list[int](), list[int](), 0
    for rank, parent in enumerate(parents):
        if parent == at:  # the first that follows it is its likeliest
            path.append(rank)
            at = rank + 1
        else:
            others.append(rank)
    order, numbers = path + others, [0] * (len(parents) + 1)
    for number, rank in enumerate(order, start=1):
        numbers[rank + 1] = number
    tree = Tree([tokens[rank] for rank in order])
    tree.parents = tuple([numbers[parents[rank]] for rank in order])
    tree.ranks = tuple(order)
    tree.whole = tree
    return tree


def picked_of(grown: NDArray[np.int32]) -> tuple[list[int], list[int]]:
    """What was picked, of a line [2, count] of `growing.grow_trees`: as `grow`."""
    tokens, parents = grown.tolist()
    count = len(tokens) - tokens.count(NONE)
    return tokens[:count], parents[:count]


def cut_tree(tokens: Sequence[int], parents: Sequence[int], size: int) -> Tree:
    """As `make_tree`: the first so many of the tokens, with all of them as the whole."""
    whole = make_tree(tokens, parents)
    if size >= len(whole):
        return whole
    tree = make_tree(tokens[:size], parents[:size])
    tree.whole = whole
    return tree


def behind(
    begin: Sequence[int], tokens: Sequence[int], parents: Sequence[int]
) -> tuple[list[int], list[int]]:
    """The picks of a tree that stands behind a chain: as `grow`."""
    chain = len(begin)
    return [*begin, *tokens], [*range(chain), *(chain + parent for parent in parents)]


def graft(
    tokens: Sequence[int], parents: Sequence[int], path: Sequence[int], size: int
) -> tuple[list[int], list[int]]:
    """Joins a chain from elsewhere, such as a copy, into a tree; they take turns.

    Args:
        tokens: Of the tree, in the order in which they were picked.
        parents: The number of each one's parent.
        path: The chain.
        size: Of what comes of it, at most.

    Returns:
        As `grow`.
    """
    joined: list[int] = []
    behind: list[int] = []
    numbers: dict[tuple[int, int], int] = {}

    def put(parent: int, token: int) -> int:
        if (parent, token) not in numbers:
            joined.append(token)
            behind.append(parent)
            numbers[parent, token] = len(joined)
        return numbers[parent, token]

    placed, left, at = [0], list(path[::-1]), 0
    for token, parent in zip(tokens, parents, strict=True):
        placed.append(put(placed[parent], token))
        count = len(joined)
        while left and len(joined) == count:
            at = put(at, left.pop())
    while left:
        at = put(at, left.pop())
    return joined[:size], behind[:size]


def parents_of(draft: Sequence[int]) -> Sequence[int]:
    """The number of the token that each drafted one follows."""
    return draft.parents if isinstance(draft, Tree) else range(len(draft))


def grow(anchor: int, count: int, depth: int, children: Children) -> tuple[list[int], list[int]]:
    """Picks the tokens of a tree, the likeliest path's next one each time.

    Args:
        anchor: The token before.
        count: How many to pick, at most.
        depth: How many may follow each other, at most.
        children: What may follow.

    Returns:
        Tokens, and the number of each one's parent, in the order in which they were picked.
    """
    tokens: list[int] = []
    parents: list[int] = []
    open_: list[tuple[float, int, int, int, int]] = []  # doubt, order, parent, depth, token
    made, at, deep, doubt, token = 0, 0, 0, 0.0, anchor
    while True:
        if deep < depth and len(tokens) < count:
            for after, logprob in children(deep, token):
                heappush(open_, (doubt - logprob, made, at, deep + 1, after))
                made += 1
        if not open_ or len(tokens) == count:
            return tokens, parents
        doubt, _, parent, deep, token = heappop(open_)
        tokens.append(token)
        parents.append(parent)
        at = len(tokens)


def main_path(draft: Sequence[int]) -> Sequence[int]:
    """The likeliest path of a tree; a chain is its own."""
    if not isinstance(draft, Tree):
        return draft
    chain = takewhile(lambda pair: pair[0] == pair[1], enumerate(draft.parents))
    return draft[: sum(1 for _ in chain)]


def follower(draft: Sequence[int], number: int, token: int) -> int:
    """The number of the drafted token that stands behind another and is this one; 0 if none is."""
    if not isinstance(draft, Tree):
        return number + 1 if number < len(draft) and draft[number] == token else 0
    for child, (other, parent) in enumerate(zip(draft, draft.parents, strict=True), start=1):
        if parent == number and other == token:
            return child
    return 0


@dataclass(frozen=True)
class Branches:
    """How the tokens of a forward follow each other, if some rows have trees.

    Attributes:
        parents: [B][T] the number of each token's parent; the first has none.
    """

    parents: Sequence[Sequence[int]]

    @property
    def width(self) -> int:
        """T."""
        return len(self.parents[0])

    @cached_property
    def depths(self) -> NDArray[np.int32]:
        """[B, T] how many tokens of the forward are before each."""
        return np.array([_depths(row) for row in self.parents], np.int32)

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """[B, T, T] whether a token sees another: it stands on its path, or is the same."""
        found = np.zeros((len(self.parents), self.width, self.width), np.bool_)
        found[:, 0, 0] = True
        for own, parents in zip(found, self.parents, strict=True):
            for t in range(1, self.width):
                own[t] = own[parents[t]]
                own[t, t] = True
        return found

    @cached_property
    def told(self) -> NDArray[np.int32]:
        """[B, T, 4] what `forward.cuh` reads of each token: see `Branch` there.

        Its depth; a leaf at or behind it; its path, itself included, four bits for each.
        """
        depths = self.depths
        leaves = np.array([_leaves(row) for row in self.parents], np.int32)
        pairs = zip(self.parents, depths.tolist(), strict=True)
        paths = np.array([_paths(*pair) for pair in pairs], "<u8")
        words = paths.view("<i4").reshape(*depths.shape, 2)
        return np.concatenate([depths[..., None], leaves[..., None], words], axis=-1)


def _depths(parents: Sequence[int]) -> list[int]:
    depths = [0] * len(parents)
    for t in range(1, len(parents)):
        depths[t] = depths[parents[t]] + 1
    return depths


def _leaves(parents: Sequence[int]) -> list[int]:
    """Of each token one that nothing follows, at or behind it."""
    leaves = list(range(len(parents)))
    for t in range(len(parents) - 1, 0, -1):
        leaves[parents[t]] = leaves[t]
    return leaves


def _paths(parents: Sequence[int], depths: Sequence[int]) -> list[int]:
    paths = [0] * len(parents)
    for t in range(1, len(parents)):
        paths[t] = paths[parents[t]] | t << 4 * depths[t]
    return paths


def branches_of(drafts: Sequence[Sequence[int]], width: int) -> Branches | None:
    """How the tokens of drafts follow each other in a forward of that width; None for chains.

    What is missing at a row's end is taken to follow, one token after the other.
    """
    if not any(isinstance(draft, Tree) for draft in drafts):
        return None
    return Branches([[0, *parents_of(draft), *range(len(draft), width - 1)] for draft in drafts])


def agreed_with(tree: Tree, tokens: Sequence[int], size: int) -> int:
    """How many of these tokens stand in a tree, one behind the other; of its first picks only."""
    agreed = at = 0
    for token in tokens:
        if not (at := follower(tree, at, token)) or tree.ranks[at - 1] >= size:
            break
        agreed += 1
    return agreed


def checked_tree(tree: Tree, gained: Sequence[int], largest: int) -> list[tuple[int, int, bool]]:
    """Compares a tree that was run with the tokens that the target then chose.

    What was grown and not run is known as far as those reach.

    Args:
        tree: It.
        gained: They.
        largest: How large it might have grown: if it did not, larger ones would be the same.

    Returns:
        For trees of the sizes of the verify's widths, made of the first picks, and for the one
        that was run: how many tokens each might have, how many of the gained ones it has, and
        whether another one was gained behind those.
    """
    whole = tree.whole
    sizes = {size for size in SIZES if size <= largest}
    if len(tree) < len(whole):
        sizes.add(len(tree))
    right = [(size, agreed_with(whole, gained, size)) for size in sorted(sizes)]
    return [(size, one, one < len(gained)) for size, one in right]
