"""Verify: one forward of the target over every row's last token and its draft; then accept.

The token at each position is the one that the target chooses there given the tokens before it.
A drafted token is accepted iff it is that token, so the accepted text is the plain answer; the
first position where they differ still gives one token, the target's own.
(Leviathan et al. 2023, section 2, for a deterministic draft.)
"""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pipeline.engine.filters import draw_scores
from pipeline.engine.grammar import Grammars
from pipeline.engine.interface import TokenLogprob
from pipeline.engine.row import Row
from pipeline.engine.sampling import (
    ALL_ALLOWED,
    Constraints,
    ban_tokens,
    choose_tokens,
    shape_logits,
)
from pipeline.engine.shifts import Shifts, row_shifts
from pipeline.engine.target import Target
from pipeline.engine.tokenizer import ChatTokenizer

FREE_CHOICE = 64
"""Where the grammar allows fewer tokens than this, penalties stay off: it is structure."""


class Verifier:
    """Verifies drafts of running rows.

    Args:
        target: The model.
        tokenizer: Its tokenizer.
        grammars: Those that the rows' matchers are of.
        stop_tokens: Tokens that end an answer.
    """

    def __init__(
        self,
        target: Target,
        tokenizer: ChatTokenizer,
        grammars: Grammars,
        stop_tokens: frozenset[int],
    ) -> None:
        self._target = target
        self._grammars = grammars
        self._tokenizer = tokenizer
        self._stop = stop_tokens
        self._words = (target.vocabulary + 31) // 32

    def verify_block(
        self, rows: Sequence[Row], drafts: Sequence[Sequence[int]], width: int
    ) -> list[list[int]]:
        """Runs the rows' drafts through the target.

        Args:
            rows: The running rows, in slot order.
            drafts: A proposal for each.
            width: T, at least 1 + the longest draft; few different ones, as each is compiled.

        Returns:
            For each row the tokens it gained: the accepted part of its draft and one more.
        """
        tokens = [
            [row.pending, *draft, *[0] * (width - 1 - len(draft))]
            for row, draft in zip(rows, drafts, strict=True)
        ]
        logits = self._target.forward(tokens)  # runs while the host prepares the constraints
        constraints, allowed = self._constrain(rows, drafts, width)
        chosen, masked = choose_tokens(logits, constraints)
        mx.eval(chosen)
        picked: NDArray[np.int64] = np.array(chosen)
        gained: list[list[int]] = []
        for b, (row, draft) in enumerate(zip(rows, drafts, strict=True)):
            accepted = accept_prefix(draft[: allowed[b]], picked[b].tolist())
            self._target.cache.lengths[row.slot] += len(accepted)
            if row.request.top_logprobs:
                row.logprobs.extend(self._logprobs(masked[b], accepted, row.request.top_logprobs))
            gained.append(accepted)
        return gained

    def score_next(self, row: Row) -> mx.array:
        """The scores [V] whose best is the next token of the row in slot 0, as logits."""
        logits = self._target.forward([[row.pending]])
        constraints, _ = self._constrain([row], [[]], 1)
        shaped, _ = shape_logits(logits, constraints)
        sampling = row.request.sampling
        if sampling.temperature > 0:
            stream = (sampling.seed, len(row.history.tokens))
            shaped = draw_scores(shaped, sampling, [stream]) * sampling.temperature
        return shaped[0, 0]

    def _constrain(
        self, rows: Sequence[Row], drafts: Sequence[Sequence[int]], width: int
    ) -> tuple[Constraints, list[int]]:
        """What shapes the choice at every position, and how much of each draft may be accepted."""
        masks = np.full((len(rows), width, self._words), ALL_ALLOWED, np.int32)
        penalised: list[list[list[int]]] = []
        shifts: list[Shifts | None] = []
        masked = False
        allowed = self._grammars.fill_masks(masks, [row.matcher for row in rows], drafts)
        for b, (row, draft) in enumerate(zip(rows, drafts, strict=True)):
            ids: list[list[int]] = [[] for _ in range(width)]
            free = [False] * width
            for t in range(allowed[b] + 1):
                if t:
                    row.history.push(draft[t - 1])
                free[t] = row.matcher is None or _choices(masks[b, t]) >= FREE_CHOICE
                if free[t]:
                    banned = row.history.banned(self._has_quote if row.matcher else None)
                    ban_tokens(masks[b, t], banned, tuple(self._stop))
                    masked = masked or bool(banned)
                    ids[t] = self._penalised(row)
            for _ in range(allowed[b]):
                row.history.pop()
            penalised.append(ids)
            shifts.append(self._shifts(row, draft[: allowed[b]], free))
            masked = masked or row.matcher is not None
        return (
            Constraints(
                masks=masks,
                masked=masked,
                penalised=penalised,
                shifts=shifts,
                settings=[row.request.sampling for row in rows],
                positions=[len(row.history.tokens) for row in rows],
            ),
            allowed,
        )

    def _penalised(self, row: Row) -> list[int]:
        """Under a grammar the tokens that close a string stay free: else strings would run on."""
        tokens = row.history.penalised()
        if row.matcher is None:
            return tokens
        return [token for token in tokens if not self._has_quote(token)]

    def _shifts(self, row: Row, draft: Sequence[int], free: Sequence[bool]) -> Shifts | None:
        def is_open(token: int) -> bool:
            return row.matcher is None or not self._has_quote(token)

        return row_shifts(row.request.sampling, row.history.counts, draft, free, is_open)

    def _has_quote(self, token: int) -> bool:
        return '"' in self._tokenizer.token_text(token)

    def _logprobs(self, logits: mx.array, tokens: Sequence[int], top: int) -> list[TokenLogprob]:
        """Log-probabilities among the allowed tokens, at the first len(tokens) positions [T, V]."""
        scores = logits[: len(tokens)].astype(mx.float32)
        scores = scores - mx.logsumexp(scores, axis=-1, keepdims=True)
        values: NDArray[np.float32] = np.array(scores)
        found: list[TokenLogprob] = []
        for token, row in zip(tokens, values, strict=True):
            some = np.argpartition(row, -top)[-top:]  # sorting all of V costs 4 ms a token
            best = some[np.argsort(-row[some], kind="stable")]
            pairs = tuple(
                (self._tokenizer.token_text(int(i)), float(row[i]))
                for i in best
                if np.isfinite(row[i])
            )
            found.append(TokenLogprob(self._tokenizer.token_text(token), float(row[token]), pairs))
        return found


def accept_prefix(draft: Sequence[int], chosen: Sequence[int]) -> list[int]:
    """The draft as far as the target agrees, and the target's own next token.

    Args:
        draft: Proposed tokens.
        chosen: What the target chooses at each position, one more than the draft at least.
    """
    agreed = 0
    while agreed < len(draft) and draft[agreed] == chosen[agreed]:
        agreed += 1
    return list(chosen[: agreed + 1])


def _choices(mask: NDArray[np.int32]) -> int:
    return int(np.bitwise_count(mask.view(np.uint32)).sum())
