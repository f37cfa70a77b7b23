"""Whether drafts pay at all, by what whole steps gave: if not, steps are plain and nobody plans.

Plans compare what forwards cost and what drafts should yield. What that leaves out (planning, looks
at rows, a next forward that could not begin early) is small beside a large model, and on a fast GPU
it is not: there a plan that promises 5 % loses. So tokens and time are counted with drafts and
without, for each kind of batch: its tasks, and how many rows about. The better way goes on; the
other is tried for a few steps, each time twice as late.

In: the rows of each step, then its tokens and time. Out: whether to think of drafts, now or soon.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.engine.planning.acceptance import MOST_TASKS

FIRST = 64
"""With drafts begins a new kind of batch, for so many tokens of each row."""
TRIAL = {True: 48, False: 24}
"""For so many the other way is tried: with drafts much of an answer; plain steps are alike."""
SHORTEST, LONGEST = 512, 8192
"""So many are between trials, the first time and at most."""
BETTER, BETTER_TAPPED = 1.02, 1.05
"""How much more with drafts must give; and where the drafter looks at rows, in plain steps, too."""
SOON = 96
"""So many tokens of each row before drafts are tried new rows are made ready for it."""
MOST_MS = 4.0
"""A step that took more times the mean counts as this: something was compiled, say."""
MANY_TASKS = 3
"""Batches of so many tasks, whichever they are, are of one kind."""
_Kind = tuple[int, frozenset[str]]


@dataclass(slots=True)
class _State:
    """What is known of a kind of batch.

    Attributes:
        drafts: Whether it drafts now.
        left: Tokens of each row until that is looked at again.
        period: How many there are from a trial to the next.
        since: How many there were since the last one.
        better: How much more drafts must give.
        trial: Whether this is one.
        rates: Tokens per millisecond, plain and with drafts, once known.
        tokens, ms, steps: Since that was looked at.
    """

    drafts: bool = True
    left: float = FIRST
    period: int = 0
    since: float = 0.0
    better: float = BETTER
    trial: bool = False
    rates: dict[bool, float] = field(default_factory=dict[bool, float])
    tokens: int = 0
    ms: float = 0.0
    steps: int = 0

    def note(self, rows: int, tokens: int, ms: float) -> None:
        """Counts a step."""
        if self.steps:
            ms = min(ms, MOST_MS * self.ms / self.steps)
        self.tokens, self.ms, self.steps = self.tokens + tokens, self.ms + ms, self.steps + 1
        self.left -= tokens / rows
        self.since += tokens / rows
        if self.left <= 0 < self.ms:
            self.rates[self.drafts] = self.tokens / self.ms
            self.tokens, self.ms, self.steps = 0, 0.0, 0
            (self._judge if self.trial else self._go_on)()

    def _go_on(self) -> None:
        """Goes on, or begins a trial: if it is time, or drafts give less than plain steps did."""
        loses = self.drafts and self.rates[True] < self.better * self.rates.get(False, 0.0)
        self.trial = loses or self.since >= self.period
        self.drafts ^= self.trial
        self.left = TRIAL[self.drafts] if self.trial else SHORTEST

    def _judge(self) -> None:
        """Ends a trial."""
        better = self.rates[True] >= self.better * self.rates[False]
        longer = max(SHORTEST, min(2 * self.period, LONGEST))
        self.period = SHORTEST if better == self.drafts else longer
        self.trial, self.drafts, self.left, self.since = False, better, SHORTEST, 0.0


class Worth:
    """The kinds of batches seen last."""

    def __init__(self) -> None:
        self._kinds: OrderedDict[_Kind, _State] = OrderedDict()
        self._state, self._rows = _State(), 1

    def meet(self, tasks: Iterable[str], rows: int, *, tapped: bool = False) -> bool:
        """Whether the next step is to think of drafts.

        Args:
            tasks: Of its rows.
            rows: How many there are.
            tapped: Whether the drafter looks at any of them.
        """
        different, self._rows = frozenset(tasks), rows
        kind = (rows - 1).bit_length(), different if len(different) < MANY_TASKS else frozenset()
        if kind in self._kinds:
            self._kinds.move_to_end(kind)
        self._state = self._kinds.setdefault(kind, _State())
        self._state.better = BETTER_TAPPED if tapped else BETTER
        if len(self._kinds) > MOST_TASKS:
            self._kinds.popitem(last=False)
        return self._state.drafts

    @property
    def soon(self) -> bool:
        """Whether steps are plain, but not for long."""
        state = self._state
        ends = state.left <= SOON and state.since + state.left >= state.period
        return not state.drafts and (state.trial or ends)

    def took(self, tokens: int, ms: float) -> None:
        """Takes what that step gave, and all that it took."""
        self._state.note(self._rows, tokens, ms)
