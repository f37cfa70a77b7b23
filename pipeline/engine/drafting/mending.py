"""Trees kept to a grammar: what it forbids is dropped, what it forces is put in.

In: a tree as it was picked, and the state of a row's grammar. Out: likewise.
"""

from collections.abc import Sequence

from pipeline.engine.grammars.matcher import Matcher
from pipeline.engine.tree import DEEPEST

_Order = tuple[int, int]  # the pick behind which it stands, and how far behind it


def mend_tree(
    matcher: Matcher, tokens: Sequence[int], parents: Sequence[int], most: int
) -> tuple[list[int], list[int]]:
    """The part of a tree that a grammar allows, with what it forces in between and behind.

    What is forced is as likely as what it follows, so it is picked next.

    Args:
        matcher: The grammar, where the tree begins; it stands there again afterwards.
        tokens: Of the tree, in the order in which they were picked.
        parents: The number of each one's parent.
        most: Tokens of what comes of it.

    Returns:
        As `tree.grow`.
    """
    mender = _Mender(matcher, tokens, parents, most)
    mender.visit(0, 0, (0, 0), 0, ())
    return mender.picked()


class _Mender:
    """Goes through a tree, one path after the other: a grammar's state is one place."""

    def __init__(
        self, matcher: Matcher, tokens: Sequence[int], parents: Sequence[int], most: int
    ) -> None:
        self._matcher, self._tokens, self._most = matcher, tokens, most
        self._behind: dict[int, list[int]] = {}  # numbers of the tokens that follow one
        for number, parent in enumerate(parents, start=1):
            self._behind.setdefault(parent, []).append(number)
        self._kept: list[tuple[_Order, int, int]] = []  # when it is picked, token, parent

    def visit(self, old: int, new: int, order: _Order, depth: int, forced: Sequence[int]) -> None:
        """Keeps what may follow a token.

        Args:
            old: Its number in the tree; -1 if it was put in.
            new: Its number among those kept.
            order: When it is picked.
            depth: Tokens up to it.
            forced: What must follow, as far as that is known.
        """
        if depth == min(self._most, DEEPEST) or self._matcher.complete:
            return
        forced = forced or self._matcher.likely_forced()
        behind = self._behind.get(old, ())
        if forced:
            same = (number for number in behind if self._tokens[number - 1] == forced[0])
            next_ = order[0], order[1] + 1
            if self._keep(forced[0], next(same, -1), new, next_, depth, forced[1:]):
                return  # it may be wrong, see `likely_forced`
        for number in behind:
            self._keep(self._tokens[number - 1], number, new, (number, 0), depth, ())

    def _keep(
        self, token: int, old: int, parent: int, order: _Order, depth: int, forced: Sequence[int]
    ) -> bool:
        if self._matcher.ends(token) or not self._matcher.try_consume(token):
            return False
        self._kept.append((order, token, parent))
        self.visit(old, len(self._kept), order, depth + 1, forced)
        self._matcher.rollback(1)
        return True

    def picked(self) -> tuple[list[int], list[int]]:
        """The first of what was kept."""
        places = sorted(range(len(self._kept)), key=lambda i: self._kept[i][0])[: self._most]
        numbers = {place + 1: number for number, place in enumerate(places, start=1)} | {0: 0}
        kept = [self._kept[place] for place in places]
        return [token for _, token, _ in kept], [numbers[parent] for _, _, parent in kept]
