"""Verify: one forward of the target over every row's last token and its draft; then accept.

The token at each position is the one that the target chooses there given the tokens before it.
A drafted token is accepted iff it is that token, so the accepted text is the plain answer; the
first position where they differ still gives one token, the target's own.
(Leviathan et al. 2023, section 2, for a deterministic draft.)

Where no mask was made (see `constrain`) the likeliest of all tokens was picked. It is the target's
choice if the grammar allows it and it is not banned; else the choice is made again, under a mask.
Where the next forward has begun with it, that row sits this one out and then runs its last token
again: the others go on.
"""

import time
from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np

from pipeline.engine.choosing.constraints import Constraints
from pipeline.engine.choosing.filters import draw_scores
from pipeline.engine.choosing.sampling import (
    Choice,
    begin_choice,
    choose_tokens,
    mask_logits,
    shape_logits,
)
from pipeline.engine.grammars.grammar import Grammars
from pipeline.engine.interface import TokenLogprob
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.engine.row import Row
from pipeline.engine.targets.target import Target
from pipeline.engine.tree import Branches, Tree, branches_of, follower, main_path
from pipeline.engine.verifying.constrain import Constrainer, Prepared
from pipeline.engine.verifying.walk import Place, Walk

AHEAD = 4
"""Places of a draft that are looked at while the forward runs; few get further."""


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
        self._tokenizer = tokenizer
        self._constrainer = Constrainer(tokenizer, grammars, stop_tokens, target.vocabulary)
        self._begun: mx.array | None = None  # logits [B, 1, V] that are being computed
        self._again: list[Row] = []  # rows that the forward which has begun runs a wrong token of

    def verify_block(
        self,
        rows: Sequence[Row],
        drafts: Sequence[Sequence[int]],
        width: int,
        meanwhile: Callable[[], None] = lambda: None,
        *,
        goes_on: bool = False,
    ) -> list[list[int]]:
        """Runs the rows' drafts through the target.

        Args:
            rows: The running rows, in slot order.
            drafts: A proposal for each.
            width: T, at least 1 + the longest draft; few different ones, as each is compiled.
            meanwhile: Work for the host while the forward runs, that leaves the rows as they are.
            goes_on: Whether the same rows' next forward may begin as soon as their tokens are
                chosen, before the host has seen them: this one and that are plain. Where it has
                (see `begun`), the next call is for it.

        Returns:
            For each row the tokens it gained: the accepted part of its draft and one more. None
            for rows that have ended, which a forward that had begun ran as well; and for those
            whose choice without a mask did not stand, in this step or in the one before.
        """
        branches = branches_of(drafts, width)
        # They run while the host prepares the choice.
        logits = self._logits(rows, drafts, width, branches)
        again, self._again = self._again, []
        alive = [b for b, row in enumerate(rows) if not row.finish_reason]
        gained: list[list[int]] = [[] for _ in rows]
        if not alive:
            return gained
        if len(alive) < len(rows):
            logits = logits[mx.array(alive)]
        running, drafted = [rows[b] for b in alive], [drafts[b] for b in alive]
        chains = [() if isinstance(draft, Tree) else draft for draft in drafted]
        prepared = self._constrainer.prepare(running, chains, width, whole=False, again=again)
        choice = begin_choice(logits, prepared.constraints)
        if goes_on and choice.array is not None and self._target.goes_ahead:
            ahead = [int(row not in again) for row in rows]
            self._begun = self._target.forward_chosen(choice.array, ahead)
        meanwhile()
        walks = _walks(running, drafted, prepared, width, again)
        try:
            for walk in walks:
                self._look_ahead(walk)
            picked = self._wait(choice)
            for walk in walks:
                walk.picked = picked[walk.place]
            self._walk_on(walks, logits)
            self._note_logprobs(walks, logits, prepared.constraints)
        except BaseException:
            for walk in walks:  # they may start over from what they have
                walk.go_back(0)
            raise
        self._settle(walks)
        walked = {walk.place: walk.gained for walk in walks}
        for b, row in enumerate(running):
            tokens = walked.get(b, () if row in again else picked[b])
            self._target.cache.lengths[row.slot] += len(tokens)
            gained[alive[b]] = list(tokens)
        return gained

    def _settle(self, walks: Sequence[Walk]) -> None:
        """Moves what was accepted off the likeliest paths to its place, and the rows along."""
        cache = self._target.cache
        if moves := [move for walk in walks for move in walk.moves(cache.lengths[walk.row.slot])]:
            cache.moves.copy_columns(cache.attention, moves)
        for walk in walks:
            walk.settle()

    @property
    def begun(self) -> int:
        """For how many rows the next forward has begun; 0 if it has not."""
        return 0 if self._begun is None else self._begun.shape[0]

    def forget(self) -> None:
        """Forgets a forward that has begun: the cache is lost."""
        self._begun, self._again = None, []

    def _wait(self, choice: Choice) -> list[list[int]]:
        self._target.reading.finish()
        began_s = time.perf_counter()
        picked: list[list[int]] = choice.wait().tolist()
        if self._begun is not None:
            self._constrainer.masking.waited(time.perf_counter() - began_s)
        return picked

    def _logits(
        self,
        rows: Sequence[Row],
        drafts: Sequence[Sequence[int]],
        width: int,
        branches: Branches | None,
    ) -> mx.array:
        if (begun := self._begun) is not None:
            self._begun = None
            return begun
        tokens = [
            [row.pending, *draft, *[0] * (width - 1 - len(draft))]
            for row, draft in zip(rows, drafts, strict=True)
        ]
        return self._target.forward(tokens, branches)

    def score_next(self, row: Row) -> mx.array:
        """The scores [V] whose best is the next token of the row in slot 0, as logits."""
        logits = self._target.forward([[row.pending]])
        constraints = self._constrainer.prepare([row], [[]], 1, whole=True).constraints
        shaped = shape_logits(logits, constraints)
        sampling = row.request.sampling
        if sampling.temperature > 0:
            stream = (sampling.seed, len(row.history.tokens))
            shaped = draw_scores(shaped, sampling, [stream]) * sampling.temperature
        return shaped[0, 0]

    def _walk_on(self, walks: Sequence[Walk], logits: mx.array) -> None:
        """Lets all rows go as far as they get; where one can't be sure, it chooses again."""
        left = list(walks)
        while left := [walk for walk in left if not self._walk(walk)]:
            if self._begun is not None:  # what is chosen now comes too late
                self._again = [walk.row for walk in left]
                for row in self._again:
                    row.wary = True
                self._target.cache.late.unsay([row.slot for row in self._again])
                return
            lines = [walk.place * logits.shape[1] + walk.path[-1] for walk in left]
            rows = [walk.row for walk in left]
            here = self._constrainer.prepare(rows, [[]] * len(rows), 1, whole=True)
            picked = choose_tokens(logits, here.constraints, lines).tolist()
            for walk, (token,) in zip(left, picked, strict=True):
                walk.picked[walk.path[-1]] = token
                walk.sure = len(walk.gained) + 1

    def _look_ahead(self, walk: Walk) -> None:
        """Sees what holds after the first tokens of a draft, and leaves the row there."""
        if walk.row.matcher is None or walk.row.needs_masks:  # takes nothing, or the masks tell
            return
        walk.places.append(None if walk.sure else self._place_of(walk.row))
        for token in main_path(walk.draft)[:AHEAD]:
            if not walk.go_on([token]):
                break
            walk.places.append(self._place_of(walk.row))

    def _place_of(self, row: Row) -> Place:
        forced = row.matcher.forced()[:1] if row.matcher and row.matcher.forces else []
        return Place(
            complete=row.matcher is not None and row.matcher.complete,
            forced=forced[0] if forced else None,
            banned=self._constrainer.banned(row),
        )

    def _walk(self, walk: Walk) -> bool:
        """Goes along a draft; False if it stops at a choice that does not stand."""
        while True:
            here = len(walk.gained)
            if here >= walk.sure:
                stands = self._choose(walk)
                if stands is None:
                    return True  # the row fails of it by itself, when it takes the token
                if not stands:
                    return False
            if walk.over or not walk.take():
                return True

    def _choose(self, walk: Walk) -> bool | None:
        """Makes sure of what was picked where the row stands.

        Returns:
            Whether it stands; None if the row's grammar has failed on the way.
        """
        row, here = walk.row, len(walk.gained)
        place = walk.places[here] if here < len(walk.places) and walk.on_main_path else None
        if place is None and not walk.catch_up():
            return None
        place = place or self._place_of(row)
        if place.complete:
            walk.over = True
            return True
        if place.forced is not None:  # then its mask allows this one alone
            walk.picked[walk.path[-1]] = place.forced
            return True
        token = walk.picked[walk.path[-1]]
        stands = token not in place.banned
        drafted = not isinstance(walk.draft, Tree) and follower(walk.draft, here, token)
        if stands and (row.matcher is None or drafted):
            return True  # what is drafted in a chain is allowed
        if not walk.catch_up():
            return None
        if row.matcher is not None:
            stands = stands and row.matcher.count_taken([token]) > 0
            if not walk.draft:  # of a draft's tokens only the wrong ones come here
                row.matcher.saw(row.pending, right=stands)
        return stands

    def _note_logprobs(
        self, walks: Sequence[Walk], logits: mx.array, constraints: Constraints
    ) -> None:
        wanted = [walk for walk in walks if walk.row.request.top_logprobs]
        if not wanted:
            return
        masked = mask_logits(logits, constraints)
        for walk in wanted:
            top = walk.row.request.top_logprobs
            walk.row.logprobs.extend(self._logprobs(masked[walk.place], walk.gained, top))

    def _logprobs(self, logits: mx.array, tokens: Sequence[int], top: int) -> list[TokenLogprob]:
        """Log-probabilities among the allowed tokens, at the first len(tokens) positions [T, V]."""
        scores = logits[: len(tokens)].astype(mx.float32)
        scores = scores - mx.logsumexp(scores, axis=-1, keepdims=True)
        values = np.array(scores)
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


def _walks(
    rows: Sequence[Row],
    drafts: Sequence[Sequence[int]],
    prepared: Prepared,
    width: int,
    again: Sequence[Row],
) -> list[Walk]:
    """The rows' ways: along so many tokens of their chains, or anywhere in their trees.

    A plain step goes nowhere, but for rows whose choice is to be checked or told more of.
    """
    return [
        Walk(
            row=row,
            place=place,
            draft=draft if isinstance(draft, Tree) else draft[: prepared.allowed[place]],
            sure=width if row.needs_masks else 0 if prepared.bare[place] else 1,
        )
        for place, (row, draft) in enumerate(zip(rows, drafts, strict=True))
        if row not in again and (width > 1 or prepared.bare[place] or row.request.top_logprobs)
    ]
