"""How far drafts survive: the chance that each position is accepted, by source, task and row.

In: for every draft how many of its tokens the target chose itself. Out: the tokens that a verify
of a draft is expected to yield. A position's chance is counted given that all before it were
accepted, so a draft that fell at its second token says nothing about its third.

What is known of few trials leans on what is known of many: a row on its task's other rows, the task
on other tasks, and those on a prior (shrinkage: `strength` trials' worth). Old trials fade, a row's
soonest.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import Literal

from pipeline.engine.planning.widths import WIDTHS

Source = Literal["dflash", "tree", "copy", "forced", "spliced"]

POSITIONS = 15
"""The longest draft: a block of 16 whose first token is the anchor. A tree is no deeper."""
LARGEST_TREE = WIDTHS[-1] - 1
MATCHES = (1, 2, 3, 5, 9)
"""Lower ends of the buckets of a copy's match length."""
COPY_PRIOR = (0.25, 0.5, 0.7, 0.85, 0.93)
"""Chance of a copy's next token by the bucket of its match; it grows with each one accepted."""
PRIOR: dict[Source, float] = {
    "dflash": 0.72, "tree": 0.72, "copy": 0.5, "forced": 0.97, "spliced": 0.75,
}  # fmt: skip
LARGE_TREE_PRIOR = 0.74
"""That of trees with more tokens than a chain has: these yield a few per cent more."""
LEAST_TREE = 3
"""Tokens of the smallest tree: of two, the second is rather the first's follower."""
MOST_TASKS = 256
REFRESH = 64
"""Recorded drafts after which what others taught is worked out anew."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A draft that a row could use.

    Attributes:
        source: Where it comes from.
        length: Its tokens, at most 15, of a tree 31.
        match_length: For "copy" its match; for "spliced" that of its first part; for "tree" how
            many tokens it has (`length` is then how deep it was checked); else 0.
        sure: For "tree" how many of its tokens, the first, a grammar forces; else 0.
    """

    source: Source
    length: int
    match_length: int = 0
    sure: int = 0

    @property
    def bucket(self) -> int:
        """Which match lengths it is counted with; large trees have the last to themselves."""
        if self.source == "tree" and self.match_length > POSITIONS:
            return _LARGE
        return max(0, bisect_right(MATCHES, self.match_length) - 1)

    def cut(self, most: int) -> "Offer":
        """The same draft with so many tokens at most."""
        match = self.match_length if self.source != "tree" else min(self.match_length, most)
        return Offer(self.source, min(self.length, most), match, min(self.sure, most))


class Counts:
    """Trials and hits of each position, the older the lighter."""

    __slots__ = ("above", "hits", "keep", "strength", "trials")

    def __init__(self, window: int, strength: float, above: "Counts | None" = None) -> None:
        self.above = above  # those that count all of these as well, and forget them later
        self.hits = [0.0] * POSITIONS
        self.trials = [0.0] * POSITIONS
        self.keep = 1 - 1 / window
        self.strength = strength

    def add(self, drafted: int, accepted: int) -> None:
        """Counts one draft: hits up to the first rejection, which is a trial too."""
        hits, trials, keep = self.hits, self.trials, self.keep
        for k in range(min(drafted, accepted + 1, POSITIONS)):
            hits[k] = hits[k] * keep + (k < accepted)
            trials[k] = trials[k] * keep + 1

    def chances(self, prior: list[float], own: "Counts | None" = None) -> list[float]:
        """The chance of each position given all before it.

        Args:
            prior: What is believed without these counts.
            own: Of them those that are not to count: who leans on what others did, and has
                taken part in it, would else count each of its trials twice.
        """
        strength = self.strength
        if own is None or own.above is not self:  # these were begun anew in between
            return [
                (hit + strength * p) / (trial + strength)
                for hit, trial, p in zip(self.hits, self.trials, prior, strict=True)
            ]
        parts = zip(self.hits, self.trials, own.hits, own.trials, prior, strict=True)
        return [
            (hit - own_hit + strength * p) / (trial - own_trial + strength)
            for hit, trial, own_hit, own_trial, p in parts
        ]


WINDOWS = {"all": (1024, 12.0), "task": (256, 5.0), "row": (32, 4.0)}
"""By level: trials until an old one has faded to a third, and how many its prior is worth."""

_Key = tuple[Source, int]
_LARGE = len(MATCHES)
_TREE_BUCKETS = [Offer("tree", size, size).bucket for size in range(LARGEST_TREE + 1)]
_LEAST_BUCKET = _TREE_BUCKETS[LEAST_TREE]
_TREE_KEYS: list[_Key] = [("tree", bucket) for bucket in range(_LARGE + 1)]


class Acceptance:
    """The tracked chances.

    Rows are forgotten by `forget`, tasks when `MOST_TASKS` newer ones came.
    """

    def __init__(self) -> None:
        self._all: dict[_Key, Counts] = {}
        self._tasks: OrderedDict[str, dict[_Key, Counts]] = OrderedDict()
        self._rows: dict[str, dict[_Key, Counts]] = {}
        self._priors: dict[tuple[str, _Key], list[float]] = {}  # by row, and by task
        self._curves: dict[str, dict[_Key, tuple[float, ...]]] = {}
        self._recorded = 0

    def record(self, row: str, task: str, offer: Offer, accepted: int) -> None:
        """Counts one draft, run or not: see `checked`.

        Args:
            row: The row's id.
            task: What its acceptance has in common with other rows.
            offer: The draft, as long as it was checked.
            accepted: How many of its tokens the target chose.
        """
        key = (offer.source, offer.bucket)
        length = offer.length
        every = _counts(self._all, key, "all")
        tasks = _counts(self._task(task), key, "task", every)
        for counts in every, tasks, _counts(self._rows.setdefault(row, {}), key, "row", tasks):
            counts.add(length, accepted)
        if row in self._curves:
            self._curves[row].pop(key, None)
        self._recorded += 1
        if self._recorded % REFRESH == 0:  # what other rows taught reaches those that draft nothing
            self._curves.clear()
            self._priors.clear()

    def expected(self, row: str, task: str, offer: Offer) -> tuple[float, ...]:
        """Tokens that a verify is expected to yield, by how many of the draft it runs.

        Returns:
            Element d is the mean for d drafted tokens, the target's own included: element 0 is 1.
        """
        if offer.source == "tree":
            return self._expected_of_trees(row, task, offer)
        return self._curve(row, task, (offer.source, offer.bucket))

    def _expected_of_trees(self, row: str, task: str, offer: Offer) -> tuple[float, ...]:
        """As `expected`: of trees of so many tokens, which are deep or not."""
        buckets = _TREE_BUCKETS[LEAST_TREE : offer.length - offer.sure + 1]
        keys = _TREE_KEYS[_LEAST_BUCKET : max(buckets, default=0) + 1]
        wholes = [self._curve(row, task, key)[-1] for key in keys]
        trees = [wholes[bucket - _LEAST_BUCKET] for bucket in buckets]
        if not offer.sure:
            return (*[1.0] * min(LEAST_TREE, offer.length + 1), *trees)
        forced = self._curve(row, task, ("forced", 0))[: offer.sure + 1]
        survival = forced[-1] - forced[-2]
        behind = (forced[-1] + survival * (tree - 1) for tree in trees)
        return (*forced, *[forced[-1]] * (LEAST_TREE - 1), *behind)

    def _curve(self, row: str, task: str, key: _Key) -> tuple[float, ...]:
        curves = self._curves.setdefault(row, {})
        if key not in curves:
            counts = self._rows.get(row, {}).get(key)
            prior = self._prior(row, task, key)
            curves[key] = tokens_expected(counts.chances(prior) if counts else prior)
        return curves[key]

    def knows(self, task: str) -> bool:
        """Whether somebody has met a task."""
        return task in self._tasks

    def meet(self, task: str) -> bool:
        """Whether a task is new; from now on it is not."""
        new = not self.knows(task)
        self._task(task)
        return new

    def forget(self, row: str) -> None:
        """Drops a row that has left."""
        self._rows.pop(row, None)
        for key in self._curves.pop(row, ()):
            self._priors.pop((row, key), None)

    def _task(self, task: str) -> dict[_Key, Counts]:
        if task not in self._tasks:
            self._tasks[task] = {}
            if len(self._tasks) > MOST_TASKS:
                self._tasks.popitem(last=False)
        self._tasks.move_to_end(task)
        return self._tasks[task]

    def _prior(self, row: str, task: str, key: _Key) -> list[float]:
        """What is believed of a row by what others did, as of the last refresh."""
        if (row, key) not in self._priors:
            tasks, own = self._tasks.get(task, {}).get(key), self._rows.get(row, {}).get(key)
            chances = self._prior_of_task(task, tasks, key)
            self._priors[row, key] = tasks.chances(chances, own) if tasks else chances
        return self._priors[row, key]

    def _prior_of_task(self, task: str, tasks: Counts | None, key: _Key) -> list[float]:
        """What is believed of a task by what others did."""
        name = f"task {task}"
        if (name, key) not in self._priors:
            every, chances = self._all.get(key), prior_chances(*key)
            self._priors[name, key] = every.chances(chances, tasks) if every else chances
        return self._priors[name, key]


def _counts(level: dict[_Key, Counts], key: _Key, name: str, above: Counts | None = None) -> Counts:
    if key not in level:
        level[key] = Counts(*WINDOWS[name], above)
    return level[key]


def tokens_expected(chances: list[float]) -> tuple[float, ...]:
    """One token of the target's own, and each drafted one with the chance that it survives."""
    return tuple(accumulate(accumulate(chances, mul, initial=1.0)))


def prior_chances(source: Source, bucket: int) -> list[float]:
    """What is believed before anything was seen."""
    if source == "tree" and bucket == _LARGE:
        return [LARGE_TREE_PRIOR] * POSITIONS
    if source != "copy":
        return [PRIOR[source]] * POSITIONS
    lengths = range(MATCHES[bucket], MATCHES[bucket] + POSITIONS)
    return [COPY_PRIOR[bisect_right(MATCHES, length) - 1] for length in lengths]


def checked(draft: Sequence[int], gained: Sequence[int]) -> tuple[int, int]:
    """Compares a draft, run or not, with the tokens that the target then chose.

    A draft that was not run is known as far as the gained tokens reach, so copies are learnt for
    nothing, even while decoding plainly.

    Returns:
        How many of its tokens could be checked, and how many of those were right.
    """
    length = min(len(draft), len(gained))
    right = 0
    while right < length and draft[right] == gained[right]:
        right += 1
    return length, right
