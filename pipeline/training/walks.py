"""How many tokens a verify yields: the engine's loop, played over answers that are known.

The target's own answer is what it would accept, so a draft's worth shows without running the target
again: draft at the anchor, count what agrees, go on behind it. The loop's order and what it sees
are those of `pipeline.engine.drafting.draft`; what is not played is the choice of widths.

In: an answer and a block for every place in it. Out: verifies and tokens.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.engine.copying import Copier
from pipeline.engine.drafters.growing import Beginning
from pipeline.engine.drafting.composing import make_draft_tree
from pipeline.engine.drafting.offering import LEAST_COPY
from pipeline.engine.grammars.grammar import Grammars
from pipeline.engine.grammars.matcher import Matcher
from pipeline.engine.tree import (
    DEEPEST,
    USUAL,
    agreed_with,
    main_path,
    make_tree,
    picked_of,
)
from pipeline.training.examples import Example, Ints

SURE_COPY, SURER_COPY = 3, 9
"""A copy with so long a match is taken instead of the drafter's block, or instead of its tree."""


@dataclass(frozen=True, slots=True)
class Drafted:
    """The drafter's blocks for every place of an answer.

    Attributes:
        likeliest: [N, T - 1] tokens; row i is for the anchor i places after the last prompt token.
        grown: The largest tree at a place, behind given tokens, as `growing.grow_trees` gives it;
            None where none is asked for.
        go_on: The block at a place, if it begins with given tokens; None where it makes no
            difference to the rest of it.
    """

    likeliest: Ints
    grown: Callable[[int, Sequence[int]], Ints] | None = None
    go_on: Callable[[int, Sequence[int]], list[int]] | None = None

    def block(self, place: int, begin: Sequence[int], most: int) -> list[int]:
        """Up to `most` tokens, of which the first are given."""
        if begin and self.go_on is not None:
            return self.go_on(place, begin)[:most]
        return [*begin, *self.likeliest[place, len(begin) :].tolist()][:most]


@dataclass(frozen=True, slots=True)
class Walk:
    """What became of an answer.

    Attributes:
        verifies: Forwards of the target.
        tokens: Of the answer.
    """

    verifies: int
    tokens: int

    def __add__(self, other: "Walk") -> "Walk":
        return Walk(self.verifies + other.verifies, self.tokens + other.tokens)

    @property
    def accepted(self) -> float:
        """Tokens per verify; the target's own is one of them."""
        return self.tokens / max(1, self.verifies)


def walk_alone(example: Example, drafted: Drafted, most: int) -> Walk:
    """Drafts by the block alone.

    Args:
        example: The answer.
        drafted: Its blocks.
        most: Tokens of a draft; the block is cut to it.
    """

    def agreed(place: int, right: Sequence[int]) -> int:
        return _agreed(drafted.likeliest[place, :most].tolist(), right)

    return _walk(example, agreed)


def walk_branched(example: Example, drafted: Drafted, most: int) -> Walk:
    """As `walk_alone`, by trees of so many tokens.

    Raises:
        ValueError: There are none.
    """
    if (grown := drafted.grown) is None:
        raise ValueError("no trees were asked for")

    def agreed(place: int, right: Sequence[int]) -> int:
        return agreed_with(make_tree(*picked_of(grown(place, ()))), right, most)

    return _walk(example, agreed)


def _walk(example: Example, agreed: Callable[[int, Sequence[int]], int]) -> Walk:
    """Goes along an answer: `agreed` tells how many of the tokens after a place are drafted."""
    answer = example.tokens[example.start :].tolist()
    place = verifies = 0
    while place < len(answer):
        place += 1 + agreed(place, answer[place:])
        verifies += 1
    return Walk(verifies, len(answer))


def walk_with_others(
    example: Example, drafted: Drafted, most: int, grammars: Grammars | None
) -> Walk:
    """Drafts by the grammar, by copies, and by the block for what these leave.

    The block is a tree, unless a copy is sure.

    Args:
        example: The answer.
        drafted: Its blocks.
        most: Tokens of a draft; where it is no tree it has no more than `DEEPEST`.
        grammars: Compiles the answer's schema; None if it has none.
    """
    answer = example.tokens[example.start :].tolist()
    copier = Copier(example.tokens[: example.start].tolist())
    matcher = _matcher(example, grammars)
    place, verifies, chain = 0, 0, min(most, DEEPEST)
    while place < len(answer):
        forced = matcher.likely_forced()[:chain] if matcher else []
        copy = copier.propose(chain)
        sure = copy.match_length >= (SURER_COPY if drafted.grown else SURE_COPY)
        if drafted.grown is None or (sure and not forced):
            begin = forced or (copy.tokens if sure else ())
            agreed = _agreed(_draft(begin, matcher, drafted, place, chain), answer[place:])
        else:
            grafted = copy.tokens if copy.match_length >= LEAST_COPY else ()
            grown = drafted.grown(place, forced)[:, : max(most, USUAL)]
            tree = make_draft_tree(Beginning(forced), grown, grafted, matcher, most)
            agreed = agreed_with(tree, answer[place:], most)
        gained = min(1 + agreed, len(answer) - place)
        copier.extend(answer[place : place + gained])
        if matcher is not None and not matcher.complete:
            matcher.consume(answer[place : place + gained])
        place += gained
        verifies += 1
    return Walk(verifies, len(answer))


def _draft(
    begin: Sequence[int], matcher: Matcher | None, drafted: Drafted, place: int, most: int
) -> Sequence[int]:
    if matcher is None or drafted.grown is None:
        return drafted.block(place, begin, most)
    grown = drafted.grown(place, begin)[:, :USUAL]
    return main_path(make_draft_tree(Beginning(begin), grown, (), matcher, USUAL))[:most]


def _matcher(example: Example, grammars: Grammars | None) -> Matcher | None:
    if grammars is None or not example.schema:
        return None
    return grammars.matcher(json.loads(example.schema), example.quoted)


def _agreed(draft: Sequence[int], right: Sequence[int]) -> int:
    agreed = 0
    while agreed < min(len(draft), len(right)) and draft[agreed] == right[agreed]:
        agreed += 1
    return agreed
