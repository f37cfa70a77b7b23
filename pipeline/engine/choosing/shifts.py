"""What is added to single tokens' logits: presence and frequency penalties, and the bias.

In: an answer's tokens so far and its draft. Out: amounts per position, ready before the logits
are. With c the times that a token stands in the answer (the prompt does not count), its logit
becomes, as OpenAI's API has it: logit - c * frequency - (c > 0) * presence + bias.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pipeline.engine.interface import Sampling


@dataclass(frozen=True, slots=True)
class Shifts:
    """What is added at the positions of one row.

    Attributes:
        tokens: [N] the tokens, each once.
        amounts: [T, N].
    """

    tokens: NDArray[np.int32]
    amounts: NDArray[np.float32]


def counts_tokens(settings: Sampling) -> bool:
    """Whether it matters how often a token stands in the answer."""
    return settings.presence_penalty != 0 or settings.frequency_penalty != 0


def row_shifts(
    settings: Sampling,
    counts: Counter[int],
    draft: Sequence[int],
    free: Sequence[bool],
    is_open: Callable[[int], bool],
) -> Shifts | None:
    """What is added in a row.

    Args:
        settings: The row's.
        counts: How often each token stands in the answer.
        draft: The tokens that come after it, one before each position but the first.
        free: [T] whether penalties hold at a position; the bias always does.
        is_open: False for tokens that no penalty may touch.

    Returns:
        None if nothing is.
    """
    counted = counts_tokens(settings)
    bias = dict(settings.logit_bias)
    seen = [t for t in (dict.fromkeys([*counts, *draft]) if counted else ()) if is_open(t)]
    tokens = list(dict.fromkeys([*seen, *bias]))
    if not tokens:
        return None
    place = {token: n for n, token in enumerate(tokens)}
    times = np.zeros((len(free), len(tokens)), np.float32)
    for token in seen:
        times[:, place[token]] = counts[token]
    for t, token in enumerate(draft if counted else (), start=1):
        if token in place and is_open(token):
            times[t:, place[token]] += 1
    penalty = settings.frequency_penalty * times + settings.presence_penalty * (times > 0)
    amounts = np.array([bias.get(token, 0.0) for token in tokens], np.float32)
    amounts = amounts - np.where(np.array(free)[:, None], penalty, 0)
    return Shifts(np.array(tokens, np.int32), amounts.astype(np.float32))


def shift_logits(logits: mx.array, shifts: Sequence[Shifts | None]) -> mx.array:
    """Adds the rows' shifts.

    Args:
        logits: [B, T, V].
        shifts: [B].

    Returns:
        Logits [B, T, V] in float32: in fewer bits a small penalty would be rounded away.
    """
    longest = max(row.tokens.size for row in shifts if row is not None)
    index = np.zeros((len(shifts), logits.shape[1], longest), np.int32)
    amounts = np.zeros(index.shape, np.float32)
    for b, row in enumerate(shifts):
        if row is not None:
            # Padding repeats the first token with its amount, so writing it twice agrees.
            index[b], amounts[b] = row.tokens[0], row.amounts[:, :1]
            index[b, :, : row.tokens.size] = row.tokens
            amounts[b, :, : row.tokens.size] = row.amounts
    scores = logits.astype(mx.float32)
    places = mx.array(index)
    moved = mx.take_along_axis(scores, places, axis=-1) + mx.array(amounts)
    return mx.put_along_axis(scores, places, moved, axis=-1)
