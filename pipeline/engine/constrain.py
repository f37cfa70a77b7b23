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
from pipeline.engine.shifts import Shifts, counts_tokens, row_shifts
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
            whole: Whether every mask is wanted; else only those of rows that `needs_masks`, and of
                the first position.

        Returns:
            The constraints, and how many leading tokens of each draft may be accepted.
        """
        masked = [whole or needs_masks(row) for row in rows]
        under = [draft if some else [] for draft, some in zip(drafts, masked, strict=True)]
        allowed = [
            len(draft) if row.matcher is None else row.matcher.count_allowed(draft)
            for row, draft in zip(rows, drafts, strict=True)
        ]
        deep = 1 + max(map(len, under))
        masks = np.full((len(rows), deep, self._words), ALL_ALLOWED, np.int32)
        self._grammars.fill_masks(masks, [row.matcher for row in rows], under)
        choices = np.bitwise_count(masks.view(np.uint32)).sum(axis=-1).tolist()
        mask_of = np.full((len(rows), width), -1, np.int32)
        penalties = np.ones((len(rows), width), np.float32)
        shifts: list[Shifts | None] = []
        for b, (row, draft) in enumerate(zip(rows, drafts, strict=True)):
            free = [row.matcher is None] * width
            for t in range(1 + min(allowed[b], len(under[b]))):
                if t:
                    row.history.push(draft[t - 1])
                free[t] = row.matcher is None or choices[b][t] >= FREE_CHOICE
                banned = self.banned(row) if free[t] else []
                ban_tokens(masks[b, t], banned, self._stop)
                mask_of[b, t] = b * deep + t if banned or row.matcher else -1
            for _ in range(min(allowed[b], len(under[b]))):
                row.history.pop()
            penalties[b, free] = row.request.sampling.repetition_penalty
            shifts.append(self._shifts(row, draft[: allowed[b]], free))
        histories = [row.history for row in rows]
        recent, windows = recent_tokens(histories, drafts, width, self._exempt(rows, penalties))
        return (
            Constraints(
                masks=masks.reshape(-1, self._words),
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


def needs_masks(row: Row) -> bool:
    """Whether the likeliest tokens alone don't tell what a row would choose."""
    sampling = row.request.sampling
    penalised = sampling.repetition_penalty != 1 or counts_tokens(sampling)
    grammar = row.matcher is not None and penalised
    return sampling.temperature > 0 or row.request.top_logprobs > 0 or grammar
