"""A row's way along its draft: where it stands, what it has gained, how far its grammar is ahead.

In: a draft, then what the target chose at each position. Out: the tokens gained, and which columns
of the cache belong elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from pipeline.engine.memory.moves import Column
from pipeline.engine.row import Row
from pipeline.engine.tree import follower


@dataclass(frozen=True, slots=True)
class Place:
    """What holds where a row has gone on along its draft.

    Attributes:
        complete: Nothing may follow.
        forced: The only token that may come.
        banned: Tokens that may not.
    """

    complete: bool
    forced: int | None
    banned: Sequence[int]


@dataclass(slots=True)
class Walk:
    """A row's way along its draft.

    Attributes:
        row: The row.
        place: Its place among the logits.
        draft: As far as the grammar allows it; or a tree.
        sure: At how many positions, from the first, what was picked is the target's choice.
        picked: What was chosen at each position, once that is known.
        path: The positions that it has passed, which are 0, 1, 2... but in a tree.
        over: Nothing may follow.
        places: What is known of the places after none of its drafted tokens, the first, and so on.
        gained: The target's choices so far.
        gone: By these tokens the row went on, to see what may come next; its grammar takes none
            of them twice.
    """

    row: Row
    place: int
    draft: Sequence[int]
    sure: int
    picked: list[int] = field(default_factory=list[int])
    path: list[int] = field(default_factory=lambda: [0])
    over: bool = False
    places: list[Place | None] = field(default_factory=list[Place | None])
    gained: list[int] = field(default_factory=list[int])
    gone: list[int] = field(default_factory=list[int])

    def go_on(self, tokens: Sequence[int]) -> bool:
        """Has the row go on by more tokens; False if its grammar fails at one of them."""
        for token in tokens:
            if not self.row.go_on(token):
                return False
            self.gone.append(token)
        return True

    def go_back(self, left: int) -> None:
        """Has the row go back until it is so many tokens ahead."""
        self.row.go_back(len(self.gone) - left)
        del self.gone[left:]

    def catch_up(self) -> bool:
        """Has the row stand where it has gained all that it did; False if its grammar fails."""
        self._go_back_to_gained()
        return self.go_on(self.gained[len(self.gone) :])

    def settle(self) -> None:
        """Leaves the row ahead by what it went on by and has gained."""
        self._go_back_to_gained()
        self.row.ahead = len(self.gone)

    def _go_back_to_gained(self) -> None:
        pairs = zip(self.gone, self.gained, strict=False)
        self.go_back(sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)))

    def take(self) -> bool:
        """Gains what was chosen where it stands; False if that was not drafted."""
        token = self.picked[self.path[-1]]
        self.gained.append(token)
        if next_ := follower(self.draft, self.path[-1], token):
            self.path.append(next_)
        return bool(next_)

    @property
    def on_main_path(self) -> bool:
        """Whether it stands on its draft's likeliest path."""
        return self.path[-1] == len(self.path) - 1

    def moves(self, start: int) -> list[Column]:
        """Which of the columns that it passed belong elsewhere; it began at `start`."""
        pairs = enumerate(self.path)
        return [(self.row.slot, start + i, start + d) for d, i in pairs if i != d]
