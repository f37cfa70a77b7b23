"""What shapes the choice at every position of a verify, prepared while the forward runs.

In: the running rows and their drafts. Out: `Constraints`, and how much of each draft the rows'
grammars allow.

A grammar's mask takes 10 to 400 us, so at drafted positions none is made where it can be done
without: the likeliest of all tokens, if the grammar allows it, is also the likeliest of those that
it allows. `Verifier` checks that, and chooses again under a mask where it is not so. Draws,
probabilities, and penalties under a grammar (which hold only where it leaves a choice) need all.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.engine.constraints import ALL_ALLOWED, Constraints, ban_tokens, recent_tokens
from pipeline.engine.grammar import Grammars
from pipeline.engine.row import Row
from pipeline.engine.shifts import Shifts, row_shifts
from pipeline.engine.tokenizer import ChatTokenizer

FREE_CHOICE = 64
"""Where the grammar allows fewer tokens than this, penalties stay off: it is structure."""


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

    def prepare(
        self, rows: Sequence[Row], drafts: Sequence[Sequence[int]], width: int, *, whole: bool
    ) -> tuple[Constraints, list[int]]:
        """What shapes the choice at every position.

        Args:
            rows: The rows, in the logits' order.
            drafts: A proposal for each.
            width: T.
            whole: Whether every mask is wanted; else only those of rows that need them, and of the
                first position.

        Returns:
            The constraints, and how many leading tokens of each draft may be accepted.
        """
        under = [
            draft if whole or row.needs_masks else []
            for row, draft in zip(rows, drafts, strict=True)
        ]
        allowed = [
            len(draft) if row.matcher is None else row.matcher.count_allowed(draft)
            for row, draft in zip(rows, drafts, strict=True)
        ]
        masks = _Masks(self._grammars, rows, under, self._words)
        mask_of = np.full((len(rows), width), -1, np.int32)
        penalties = np.ones((len(rows), width), np.float32)
        shifts: list[Shifts | None] = [None] * len(rows)
        for b, (row, draft) in enumerate(zip(rows, drafts, strict=True)):
            free = [row.matcher is None] * width
            known = min(allowed[b], len(under[b]))
            sampling = row.request.sampling
            for t in range(1 + known):
                if t:
                    row.history.push(draft[t - 1])
                free[t] = masks.leave_choice(b, t)
                if banned := self.banned(row) if free[t] else []:
                    ban_tokens(masks.to_change(b, t), banned, self._stop)
                if banned or row.matcher is not None:
                    mask_of[b, t] = masks.number(b, t)
            for _ in range(known):
                row.history.pop()
            if sampling.repetition_penalty != 1:
                penalties[b, free] = sampling.repetition_penalty
            if sampling.logit_bias or row.history.counted:
                shifts[b] = self._shifts(row, draft[: allowed[b]], free)
        histories = [row.history for row in rows]
        recent, windows = recent_tokens(histories, drafts, width, self._exempt(rows, penalties))
        return (
            Constraints(
                masks=masks.all(),
                mask_of=mask_of,
                penalties=penalties,
                recent=recent,
                windows=windows,
                shifts=shifts,
                settings=[row.request.sampling for row in rows],
                positions=[len(row.history.tokens) for row in rows],
            ),
            allowed,
        )

    def banned(self, row: Row) -> list[int]:
        """Tokens that may not come next, unless the grammar leaves no choice there."""
        return row.history.banned(self._has_quote if row.matcher else None)

    def _exempt(
        self, rows: Sequence[Row], penalties: NDArray[np.float32]
    ) -> list[Callable[[int], bool] | None]:
        """Under a grammar tokens that close a string stay free, else strings would run on."""
        return [
            self._has_quote if row.matcher and (penalties[b] != 1).any() else None
            for b, row in enumerate(rows)
        ]

    def _shifts(self, row: Row, draft: Sequence[int], free: Sequence[bool]) -> Shifts | None:
        def is_open(token: int) -> bool:
            return row.matcher is None or not self._has_quote(token)

        return row_shifts(row.request.sampling, row.history.counts, draft, free, is_open)


class _Masks:
    """The masks of a forward: those of grammars, and others only where something is banned.

    Args:
        grammars: Those that the rows' matchers are of.
        rows: [B].
        drafts: [B] drafted tokens under masks.
        words: [V/32].
    """

    def __init__(
        self,
        grammars: Grammars,
        rows: Sequence[Row],
        drafts: Sequence[Sequence[int]],
        words: int,
    ) -> None:
        guided = [b for b, row in enumerate(rows) if row.matcher is not None]
        deep = 1 + max((len(drafts[b]) for b in guided), default=0)
        masks = np.full((len(guided), deep, words), ALL_ALLOWED, np.int32)
        self._words = words
        self._choices: list[list[int]] = []
        if guided:
            matchers = [rows[b].matcher for b in guided]
            grammars.fill_masks(masks, matchers, [drafts[b] for b in guided])
            self._choices = np.bitwise_count(masks.view(np.uint32)).sum(axis=-1).tolist()
        self._guided = masks.reshape(-1, words)
        self._begins = {b: i * deep for i, b in enumerate(guided)}
        self._deep = deep
        self._banned: dict[tuple[int, int], NDArray[np.int32]] = {}
        """Of places without a grammar, in the order of their numbers."""

    def leave_choice(self, b: int, t: int) -> bool:
        """Whether the row's grammar, if it has one, leaves a choice at a place."""
        begin = self._begins.get(b)
        return begin is None or self._choices[begin // self._deep][t] >= FREE_CHOICE

    def to_change(self, b: int, t: int) -> NDArray[np.int32]:
        """The mask [V/32] of a place, where tokens may be banned."""
        begin = self._begins.get(b)
        if begin is not None:
            return self._guided[begin + t]
        return self._banned.setdefault((b, t), np.full(self._words, ALL_ALLOWED, np.int32))

    def number(self, b: int, t: int) -> int:
        """Which of `all` is a place's; of those without a grammar the one that was changed last."""
        begin = self._begins.get(b)
        return len(self._guided) + len(self._banned) - 1 if begin is None else begin + t

    def all(self) -> NDArray[np.int32]:
        """The masks [M, V/32]."""
        if not self._banned:
            return self._guided
        return np.concatenate([self._guided, np.stack(list(self._banned.values()))])
