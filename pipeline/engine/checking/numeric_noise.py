"""How near a miss was: the scores of two candidate tokens, and what rounding does to logits.

In: a model alone, without a batch or drafts. Out: margins at single positions, and the largest
difference of the same position's logits between steps of other widths and batches.
"""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pipeline.engine.checking.check import Noise
from pipeline.engine.choosing.history import History
from pipeline.engine.grammars.grammar import Grammars
from pipeline.engine.interface import ModelInfo, Request
from pipeline.engine.loading.tokenizer import ChatTokenizer
from pipeline.engine.row import Row
from pipeline.engine.targets.target import Target, stop_tokens
from pipeline.engine.tree import LARGEST
from pipeline.engine.verifying.verify import Verifier

POSITIONS = 16
WIDTHS = (1, 4, 16)
"""The widest of all, 32, is for trees alone: measured where a model takes such."""
PLAUSIBLE = {4: 128, 2: 16}
"""By the bytes of a logit: so many units in the last place of the largest one can come of adding
in another order, over all layers. (Of 16 bits fewer: sums are kept in 32.) A wrong mask or a leaked
token changes logits by far more."""
NEVER = 9999.0
"""The margin of a token that was forbidden."""

Logits = NDArray[np.float32]


class Judge:
    """Looks at single positions of answers.

    Args:
        info: The model.
    """

    def __init__(self, info: ModelInfo) -> None:
        self._target = Target(info)
        self.tokenizer = ChatTokenizer(info.folder)
        self._stop = stop_tokens(info.folder, self.tokenizer.stop_tokens)
        self._grammars = Grammars(info.tokenizer_json, self._target.vocabulary, sorted(self._stop))
        self._verifier = Verifier(self._target, self.tokenizer, self._grammars, self._stop)
        self._dtype = mx.float32

    def margin(
        self, request: Request, before: Sequence[int], one: int | None, other: int | None
    ) -> float:
        """The difference of two tokens' scores, in logits.

        Args:
            request: What was asked.
            before: The answer's tokens before them.
            one: A candidate; None for the end of the answer.
            other: Another one. If they are the same, the answers differ for another reason.
        """
        if one == other:
            return NEVER
        row = self._row(request, before)
        self._fill([row.tokens[:-1]])
        scores: Logits = np.array(self._verifier.score_next(row).astype(mx.float32))
        first, second = (self._score(scores, token) for token in (one, other))
        return abs(first - second) if np.isfinite(first) and np.isfinite(second) else NEVER

    def noise(self, answers: Sequence[tuple[Request, Sequence[int]]], rows: int) -> Noise:
        """Measures at the last positions of some answers.

        Args:
            answers: At least one, with its tokens.
            rows: Of the batch that is compared with single rows.
        """
        whole = [self._row(request, tokens).tokens for request, tokens in answers]
        count = min(POSITIONS, *(len(tokens) - 2 for tokens in whole))
        alone = [self._decode([tokens], count, 1)[0] for tokens in whole]
        largest = 0.0
        wide = 1 + self._target.largest_tree
        widths = (*WIDTHS, *[wide] * (wide > WIDTHS[-1]))
        for place, tokens in enumerate(whole):
            for width in widths[1:]:
                found = self._decode([tokens], count, width)[0]
                largest = max(largest, _difference(alone[place], found))
        batch = [whole[b % len(whole)] for b in range(rows)]
        for width in widths if rows > 1 else ():
            for b, found in enumerate(self._decode(batch, count, width)):
                largest = max(largest, _difference(alone[b % len(whole)], found))
        size = max(float(np.abs(logits[np.isfinite(logits)]).max()) for logits in alone)
        plausible = PLAUSIBLE[self._dtype.size] * float(mx.finfo(self._dtype).eps) * size
        return Noise(largest, plausible, count * len(whole))

    def _row(self, request: Request, answer: Sequence[int]) -> Row:
        matcher = None
        if request.schema is not None:
            matcher = self._grammars.matcher(request.schema, request.quotable)
        row = Row(
            request=request,
            prompt=self.tokenizer.render(request.messages),
            on_event=lambda _: None,
            detokenizer=self.tokenizer.detokenizer(),
            history=History(request.sampling),
            matcher=matcher,
            slot=0,
        )
        for token in answer:
            row.history.push(token)
        if matcher and answer:
            matcher.consume(answer)
        return row

    def _fill(self, prompts: Sequence[Sequence[int]]) -> None:
        """Runs prompts into a fresh cache, a row each."""
        cache = self._target.cache
        cache.release()
        longest = max(map(len, prompts))
        cache.resize(len(prompts), longest + POSITIONS + 1 + LARGEST)
        for slot, tokens in enumerate(prompts):
            cache.lengths[slot] = 0
            first = prompts.index(tokens)
            done = 0 if first == slot else cache.copy_row(first, slot, len(tokens))
            self._target.prefill(slot, tokens[done:])

    def _decode(self, rows: Sequence[Sequence[int]], count: int, width: int) -> list[Logits]:
        """Logits [count, V] of each row, after each of its last tokens but one, in such steps."""
        cache = self._target.cache
        self._fill([tokens[: -count - 1] for tokens in rows])
        parts: list[list[Logits]] = [[] for _ in rows]
        for start in range(0, count, width):
            stop = min(start + width, count)
            ends = [[*tokens[-count - 1 : -1]][start:stop] for tokens in rows]
            padded = [[*end, *[0] * (width - len(end))] for end in ends]
            logits = self._target.forward(padded)[:, : stop - start]
            self._dtype = logits.dtype
            values: Logits = np.array(logits.astype(mx.float32))
            for b in range(len(rows)):
                parts[b].append(values[b])
                cache.lengths[b] += stop - start
        return [np.concatenate(part) for part in parts]

    def _score(self, scores: Logits, token: int | None) -> float:
        return float(max(scores[t] for t in self._stop) if token is None else scores[token])


def _difference(one: Logits, other: Logits) -> float:
    return float(np.abs(one - other).max())
