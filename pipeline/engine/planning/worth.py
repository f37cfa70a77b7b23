"""Which drafts pay at all, by what whole steps gave: all, those that need no drafter, or none.

Plans compare what forwards cost and what drafts should yield. What that leaves out (planning, looks
at rows, the drafter's context, a next forward that could not begin early) is small beside a large
model, and on a fast GPU it is not: there a plan that promises 5 % loses. So tokens and time are
counted each way, for each kind of batch: its tasks, and how many rows about. The best way goes on;
the others are tried for a few steps, each time twice as late, but for those that are surely worse.

In: the rows of each step, then its tokens and time. Out: which drafts to think of, now and soon.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from pipeline.engine.planning.acceptance import MOST_TASKS


class Way(IntEnum):
    """Which drafts are thought of."""

    PLAIN = 0
    FREE = 1  # that the drafter does not make
    ALL = 2


FIRST, LEAST = 384, 24
"""A new kind of batch begins with all drafts for so many tokens, and for so many of each row."""
TRIAL = {Way.PLAIN: (128, 16), Way.FREE: (384, 24), Way.ALL: (384, 24)}
"""For so many a way is tried, likewise: with drafts much of an answer; plain steps are alike."""
SHORTEST, LONGEST = 6_144, 65_536
"""So many tokens are between trials, the first time and at most."""
SOON = 768
"""So many tokens before the drafter is tried new rows are made ready for it."""
BETTER = {Way.PLAIN: 1.0, Way.FREE: 0.95, Way.ALL: 0.97}
"""How much more a way must give. What was seen is a sample: drafts are left out where they clearly
lose. (Beside the drafter others are tried while it keeps its context, which costs them something.)
"""
SURE = 1.3
"""With so much more than plain steps should have given by the cost tables nothing less is tried."""
MOST_MS = 4.0
"""A step that took more times the mean counts as this: something was compiled, say."""
MANY_TASKS = 3
"""Batches of so many tasks, whichever they are, are of one kind."""
_Kind = tuple[int, frozenset[str]]


@dataclass(slots=True)
class _State:
    """What is known of a kind of batch.

    Attributes:
        ways: Those that there are.
        best: The one that goes on.
        way: The one that runs: it, or one that is tried.
        untried: Those whose trial is still to come; None between trials.
        ready: Whether the drafter looks at most rows, so that it can be tried.
        left: Tokens until that is looked at again.
        least: As many are counted of each row.
        period: How many there are from trials to the next.
        since: How many there were since the last ones.
        rates: Tokens per millisecond, of each way that is known.
        tokens, ms, steps: Since that was looked at.
        plain_ms: What plain steps should have taken for those tokens.
    """

    ways: tuple[Way, ...]
    best: Way = field(init=False)
    way: Way = field(init=False)
    untried: list[Way] | None = None
    ready: bool = True
    left: int = FIRST
    least: int = LEAST
    period: int = 0
    since: int = 0
    rates: dict[Way, float] = field(default_factory=dict[Way, float])
    tokens: int = 0
    ms: float = 0.0
    steps: int = 0
    plain_ms: float = 0.0

    def __post_init__(self) -> None:
        """Begins with all drafts."""
        self.best = self.way = self.ways[-1]

    def begin_as(self, other: "_State") -> None:
        """Begins as fewer rows with these tasks go on: what loses there loses here."""
        self.best = self.way = other.best
        self.left, self.least, self.period = SHORTEST, 0, SHORTEST

    @property
    def looks(self) -> bool:
        """Whether the drafter is to look at new rows: it goes on, or will be tried soon."""
        due = self.left <= SOON and self.since + self.left >= self.period
        return Way.ALL in (self.best, self.way) or (due and self.untried is None)

    def note(self, rows: int, tokens: int, ms: float, plain_ms: float) -> None:
        """Counts a step; `plain_ms` is what a plain one should take."""
        if not self.steps:
            self.left = max(self.left, self.least * rows)
        self.plain_ms += plain_ms * tokens / rows
        if self.steps:
            ms = min(ms, MOST_MS * self.ms / self.steps)
        self.tokens, self.ms, self.steps = self.tokens + tokens, self.ms + ms, self.steps + 1
        self.left -= tokens
        self.since += tokens
        if self.left <= 0 < self.ms:
            self.rates[self.way] = self.tokens / self.ms
            gain = self.plain_ms / self.ms
            self.tokens, self.ms, self.steps, self.plain_ms = 0, 0.0, 0, 0.0
            self._turn(gain)

    def _turn(self, gain: float) -> None:
        """Goes on, or tries other ways: if it is time, or one of them gave more."""
        if self.untried is None and (self.since >= self.period or self._leader() != self.best):
            others = sorted(set(self.ways) - {self.best})
            self.untried = [way for way in others if gain < SURE or way > self.best] or None
            if self.untried and self.untried[-1] == Way.ALL and not self.ready:
                self.untried, self.left, self.least = None, SOON // 2, LEAST // 2
                return
        if self.untried:
            self.way = self.untried.pop()  # the drafter first: rows are ready for it
            self.left, self.least = TRIAL[self.way]
            return
        if self.untried is not None:
            self._judge()
        self.left, self.least = SHORTEST, 0

    def _judge(self) -> None:
        """Ends the trials."""
        leader = self._leader()
        longer = max(SHORTEST, min(2 * self.period, LONGEST))
        self.period = longer if leader == self.best else SHORTEST
        self.best = self.way = leader
        self.untried, self.since = None, 0

    def _leader(self) -> Way:
        return max(self.rates, key=lambda way: self.rates[way] / BETTER[way])


class Worth:
    """The kinds of batches seen last.

    Args:
        drafter: Whether there is one.
    """

    def __init__(self, *, drafter: bool) -> None:
        self._ways = tuple(Way) if drafter else (Way.PLAIN, Way.FREE)
        self._kinds: OrderedDict[_Kind, _State] = OrderedDict()
        self._state, self._rows = _State(self._ways), 1

    def meet(self, tasks: Iterable[str], rows: int, tapped: int = 0) -> Way:
        """Which drafts the next step is to think of.

        Args:
            tasks: Of its rows.
            rows: How many there are.
            tapped: How many of them the drafter looks at.
        """
        different, self._rows = frozenset(tasks), rows
        kind = (rows - 1).bit_length(), different if len(different) < MANY_TASKS else frozenset()
        if kind not in self._kinds:
            alike = [one for one in self._kinds if one[1] == kind[1] and one[0] < kind[0]]
            self._kinds[kind] = _State(self._ways)
            if alike:
                self._kinds[kind].begin_as(self._kinds[max(alike, key=lambda one: one[0])])
        self._kinds.move_to_end(kind)
        if len(self._kinds) > MOST_TASKS:
            self._kinds.popitem(last=False)
        self._state = self._kinds[kind]
        self._state.ready = 2 * tapped >= rows
        return self._state.way

    @property
    def looks(self) -> bool:
        """Whether the drafter is to look at new rows of that kind."""
        return Way.ALL in self._ways and self._state.looks

    @property
    def settled(self) -> bool:
        """Whether steps are plain, and will be for a while."""
        return self._state.way == self._state.best == Way.PLAIN and not self.looks

    def passed(self, tokens: int) -> None:
        """Counts tokens of plain steps whose time nobody took."""
        self._state.left -= tokens
        self._state.since += tokens

    def took(self, tokens: int, ms: float, plain_ms: float) -> None:
        """Takes what that step gave, all that it took, and what a plain one should take."""
        self._state.note(self._rows, tokens, ms, plain_ms)
