"""What shapes the choice at every position of a verify, prepared while the forward runs.

In: the running rows and their drafts. Out: `Constraints`, and how much of each draft the rows'
grammars allow.

A grammar's mask takes 10 to 400 us, so in steps with drafts none is made where it can be done
without: the likeliest of all tokens, if the grammar allows it, is also the likeliest of those that
it allows. `Verifier` checks that, and chooses again under a mask where it is not so. Draws,
probabilities, and penalties under a grammar (which hold only where it leaves a choice) need all.
A plain step has as many as there is time for (`masking`): the next forward begins with what is
chosen under them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.engine.choosing.constraints import ALL_ALLOWED, Constraints, ban_tokens, recent_tokens
from pipeline.engine.choosing.shifts import Shifts, row_shifts
from pipeline.engine.grammars.grammar import Grammars
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.engine.row import Row
from pipeline.engine.verifying.masking import Masking

FREE_CHOICE = 64
"""Where the grammar allows fewer tokens than this, penalties stay off: it is structure."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known before a step's tokens are chosen.

    Attributes:
        constraints: What shapes the choice at every position.
        allowed: [B] how many leading tokens of each draft may be accepted.
        bare: [B] whether nothing was made of the row's grammar: what is chosen is to be checked.
    """

    constraints: Constraints
    allowed: list[int]
    bare: list[bool]


class Constrainer:
    """Prepares constraints for rows of one model.

    Args:
        tokenizer: Its tokenizer.
        grammars: Those that the rows' matchers are of.
        stop_tokens: Tokens that end an answer.
        vocabulary: V.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        grammars: Grammars,
        stop_tokens: frozenset[int],
        vocabulary: int,
    ) -> None:
        self._grammars = grammars
        self._stop = tuple(stop_tokens)
        self._words = (vocabulary + 31) // 32
        self._has_quote: Callable[[int], bool] = cache(lambda t: '"' in tokenizer.token_text(t))
        self.masking = Masking()

    def prepare(
        self,
        rows: Sequence[Row],
        drafts: Sequence[Sequence[int]],
        width: int,
        *,
        whole: bool,
        again: Sequence[Row] = (),
    ) -> Prepared:
        """What shapes the choice at every position.

        Args:
            rows: The rows, in the logits' order.
            drafts: A proposal for each.
            width: T.
            whole: Whether every mask is wanted; else only those of rows that need them, and of the
                first position of those that don't do without.
            again: Rows of a plain step that choose the token that they have: it is run again.
        """
        under = [
            draft if whole or row.needs_masks else []
            for row, draft in zip(rows, drafts, strict=True)
        ]
        allowed = [
            row.matcher.count_allowed(draft) if row.matcher and draft else len(draft)
            for row, draft in zip(rows, drafts, strict=True)
        ]
        bare = [False] * len(rows) if whole else self._bare(rows, width)
        guided = [row.matcher is not None and row not in again for row in rows]
        needed = [b for b, has in enumerate(guided) if has and not bare[b]]
        masks = self._masks(rows, needed, under, timed=width == 1 and not whole)
        mask_of = np.full((len(rows), width), -1, np.int32)
        penalties = np.ones((len(rows), width), np.float32)
        shifts: list[Shifts | None] = [None] * len(rows)
        for b, (row, draft) in enumerate(zip(rows, drafts, strict=True)):
            if row in again:
                mask_of[b, 0] = masks.only(row.pending)
            elif not bare[b]:  # else there are no penalties, see `Row.branches`
                known = min(allowed[b], len(under[b]))
                penal = self._mask_row(masks, b, row, draft[:known], mask_of[b])
                sampling = row.request.sampling
                if sampling.repetition_penalty != 1:
                    penalties[b, penal] = sampling.repetition_penalty
                if sampling.logit_bias or row.history.counted:
                    shifts[b] = self._shifts(row, draft[: allowed[b]], penal)
        histories = [row.history for row in rows]
        recent, windows = recent_tokens(histories, drafts, width, self._exempt(rows))
        constraints = Constraints(
            masks=masks.all(),
            mask_of=mask_of,
            penalties=penalties,
            recent=recent,
            windows=windows,
            shifts=shifts,
            settings=[row.request.sampling for row in rows],
            positions=[len(row.history.tokens) for row in rows],
        )
        return Prepared(constraints, allowed, bare)

    def _masks(
        self,
        rows: Sequence[Row],
        guided: Sequence[int],
        drafts: Sequence[Sequence[int]],
        *,
        timed: bool,
    ) -> "_Masks":
        began_s = time.perf_counter()
        masks = _Masks(self._grammars, rows, guided, drafts, self._words)
        if timed:
            self.masking.made(len(guided), time.perf_counter() - began_s)
        return masks

    def _mask_row(
        self,
        masks: "_Masks",
        b: int,
        row: Row,
        draft: Sequence[int],
        mask_of: NDArray[np.int32],
    ) -> list[bool]:
        """Says which mask holds before each token of a draft, and behind it.

        Returns:
            Where penalties hold [T].
        """
        free = [row.matcher is None] * len(mask_of)
        if row.matcher is None and not draft and not self.banned(row):
            return free  # as most rows are
        for t in range(1 + len(draft)):
            if t:
                row.history.push(draft[t - 1])
            mask_of[t] = masks.number(b, t)
            free[t] = masks.leaves_choice(mask_of[t])
            if free[t] and (banned := self.banned(row)):
                mask_of[t] = masks.ban(mask_of[t], banned, self._stop)
        for _ in draft:
            row.history.pop()
        return free

    def _bare(self, rows: Sequence[Row], width: int) -> list[bool]:
        if width == 1:
            return self.masking.without(rows)
        return [row.matcher is not None and row.branches for row in rows]

    def banned(self, row: Row) -> list[int]:
        """Tokens that may not come next, unless the grammar leaves no choice there."""
        return row.history.banned(self._has_quote if row.matcher else None)

    def _exempt(self, rows: Sequence[Row]) -> list[Callable[[int], bool] | None]:
        """Under a grammar tokens that close a string stay free, else strings would run on."""
        return [self._has_quote if row.matcher else None for row in rows]

    def _shifts(self, row: Row, draft: Sequence[int], free: Sequence[bool]) -> Shifts | None:
        def is_open(token: int) -> bool:
            return row.matcher is None or not self._has_quote(token)

        return row_shifts(row.request.sampling, row.history.counts, draft, free, is_open)


@cache
def _no_masks(words: int) -> NDArray[np.int32]:
    return np.zeros((0, words), np.int32)


class _Masks:
    """The masks of a forward: those of grammars, and others only where something is banned.

    Args:
        grammars: Those that the rows' matchers are of.
        rows: [B].
        guided: Those that have masks of their grammars.
        drafts: [B] drafted tokens under masks.
        words: [V/32].
    """

    def __init__(
        self,
        grammars: Grammars,
        rows: Sequence[Row],
        guided: Sequence[int],
        drafts: Sequence[Sequence[int]],
        words: int,
    ) -> None:
        self._begins: dict[int, int] = {}
        self._choices: list[int] = []
        self._others: list[NDArray[np.int32]] = []  # of places without a grammar
        if not guided:
            self._guided = _no_masks(words)
            return
        deep = 1 + max(len(drafts[b]) for b in guided)
        masks = np.full((len(guided), deep, words), ALL_ALLOWED, np.int32)
        grammars.fill_masks(masks, [rows[b].matcher for b in guided], [drafts[b] for b in guided])
        self._guided = masks.reshape(-1, words)
        self._choices = np.bitwise_count(self._guided.view(np.uint32)).sum(axis=-1).tolist()
        self._begins = {b: i * deep for i, b in enumerate(guided)}

    def number(self, b: int, t: int) -> int:
        """Which of `all` a row's grammar has at a place; -1 if it has none: all is allowed."""
        return self._begins[b] + t if b in self._begins else -1

    def leaves_choice(self, number: int) -> bool:
        """Whether a mask, before anything was banned, allows more than a structure does."""
        return number < 0 or self._choices[number] >= FREE_CHOICE

    def ban(self, number: int, tokens: Sequence[int], stop: Sequence[int]) -> int:
        """Forbids tokens where this mask is, see `ban_tokens`; gives which mask is there now."""
        if number < 0:
            self._others.append(np.full(self._guided.shape[1], ALL_ALLOWED, np.int32))
            number = len(self._guided) + len(self._others) - 1
            ban_tokens(self._others[-1], tokens, stop)
        else:
            ban_tokens(self._guided[number], tokens, stop)
        return number

    def only(self, token: int) -> int:
        """A mask that allows one token."""
        self._others.append(np.zeros(self._guided.shape[1], np.int32))
        self._others[-1].view(np.uint32)[token >> 5] = 1 << (token & 31)
        return len(self._guided) + len(self._others) - 1

    def all(self) -> NDArray[np.int32]:
        """The masks [M, V/32]."""
        return np.stack([*self._guided, *self._others]) if self._others else self._guided
