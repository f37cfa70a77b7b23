"""Choosing tokens, plain or drafted: masks, penalties, bias, then the best or a draw.

Everything a position needs is known before its logits are, given the draft before it, so the host
prepares it while the forward runs. The token chosen at a position is a function of the logits
there, the answer before it, the settings and the seed, however many positions are verified at
once: a drafted answer equals the plain one at any temperature (the proof is in `filters`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pipeline.engine.choosing.constraints import ALL_ALLOWED, Constraints
from pipeline.engine.choosing.filters import draw_tokens
from pipeline.engine.choosing.fused_choice import (
    can_choose_at_once,
    choose_at_once,
    likeliest_at_once,
)
from pipeline.engine.choosing.shifts import shift_logits


@dataclass(frozen=True, slots=True)
class Choice:
    """Tokens that are being chosen.

    Attributes:
        wait: Gives them, [B, T].
        array: They, for a forward that begins before; None if more has to be done to have them.
    """

    wait: Callable[[], NDArray[np.int32]]
    array: mx.array | None


def choose_tokens(
    logits: mx.array, constraints: Constraints, lines: Sequence[int] | None = None
) -> NDArray[np.int32]:
    """As `begin_choice`: chosen tokens [B, T], computed."""
    return begin_choice(logits, constraints, lines).wait()


def begin_choice(
    logits: mx.array, constraints: Constraints, lines: Sequence[int] | None = None
) -> Choice:
    """Applies masks, penalties and bias, then takes the best token or a seeded sample.

    Args:
        logits: [R, T, V].
        constraints: Of B rows: for the same positions, or of one position each.
        lines: Where those stand among the R x T.

    Returns:
        Chosen tokens [B, T]; [B, 1] at lines.
    """

    def scores_of(rows: Sequence[int]) -> mx.array:
        if lines is None:
            return logits[mx.array(list(rows))]
        return logits.reshape(-1, 1, logits.shape[-1])[mx.array([lines[b] for b in rows])]

    if not can_choose_at_once(logits):
        scores = logits if lines is None else scores_of(range(len(lines)))
        chosen = _choose(scores, constraints)
        mx.async_eval(chosen)
        return Choice(lambda: _computed(chosen), chosen)
    begun = choose_at_once(logits, constraints, lines)
    # How a row's tokens are chosen is its own affair, whoever else is in the batch.
    others = [b for b in range(len(constraints.settings)) if constraints.is_special(b)]
    if not others:
        return Choice(begun.wait, begun.array)

    def wait() -> NDArray[np.int32]:
        tokens = begun.wait()
        tokens[others] = _computed(_choose(scores_of(others), constraints.of_rows(others)))
        return tokens

    return Choice(wait, None)


def _choose(logits: mx.array, constraints: Constraints) -> mx.array:
    shaped = shape_logits(logits, constraints)
    chosen = mx.argmax(shaped, axis=-1)
    if any(settings.temperature > 0 for settings in constraints.settings):
        chosen = draw_tokens(chosen, shaped, constraints.settings, constraints.positions)
    return chosen


def likeliest_tokens(logits: mx.array) -> NDArray[np.int32]:
    """The best token at each position [B, T], computed."""
    if can_choose_at_once(logits):
        return likeliest_at_once(logits)
    return _computed(mx.argmax(logits, axis=-1))


def _computed(tokens: mx.array) -> NDArray[np.int32]:
    mx.eval(tokens)
    return np.array(tokens).astype(np.int32)


def shape_logits(logits: mx.array, constraints: Constraints) -> mx.array:
    """The logits [B, T, V] after masks, penalties and bias."""
    shaped = mask_logits(logits, constraints)
    if constraints.penalised:
        shaped = _penalise(shaped, constraints)
    if any(row is not None for row in constraints.shifts):
        shaped = shift_logits(shaped, constraints.shifts)
    return shaped


def mask_logits(logits: mx.array, constraints: Constraints) -> mx.array:
    """The logits [B, T, V], those of forbidden tokens minus infinity."""
    if not constraints.masked:
        return logits
    width = logits.shape[1]
    deep = 1 + int(np.flatnonzero((constraints.mask_of >= 0).any(axis=0))[-1])
    mask_of = constraints.mask_of[:, :deep]
    masks = np.where(mask_of[..., None] < 0, ALL_ALLOWED, constraints.masks[mask_of])  # [B, D, W]
    if deep == width:
        return apply_mask(logits, masks)
    return mx.concatenate([apply_mask(logits[:, :deep], masks), logits[:, deep:]], axis=1)


def apply_mask(logits: mx.array, masks: NDArray[np.int32]) -> mx.array:
    """Sets the logits of forbidden tokens to minus infinity.

    Args:
        logits: [B, T, V].
        masks: [B, T, ceil(V/32)] int32 words; bit i of word w is token 32 w + i.
    """
    # Octets, not words: what is computed here is as large as the logits times the size of its type.
    octets = mx.array(masks.view(np.uint8))[..., None]
    bits = (octets >> mx.arange(8, dtype=mx.uint8)) & 1  # [B, T, V/8, 8], the lowest bit first
    allowed = bits.reshape(*masks.shape[:2], -1)[..., : logits.shape[-1]]
    return mx.where(allowed.astype(mx.bool_), logits, mx.array(-mx.inf, logits.dtype))


def _penalise(logits: mx.array, constraints: Constraints) -> mx.array:
    """The penalty of CTRL (Keskar et al. 2019, section 4.1): divide if positive, else multiply."""
    width, recent = logits.shape[1], constraints.recent
    longest = recent.shape[1] - width + 1
    ids = np.lib.stride_tricks.sliding_window_view(recent, longest, axis=1)  # [B, T, N]
    begins = longest - np.array(constraints.windows)
    ids = np.where(np.arange(longest) < begins[:, None, None], -1, ids)
    # In a gap stands another of the tokens, so that writing it twice agrees; or none is lowered.
    other = ids.max(axis=-1, keepdims=True)
    factors = np.where(other < 0, 1.0, constraints.penalties[..., None])
    index = mx.array(np.where(ids < 0, np.maximum(other, 0), ids))
    old = mx.take_along_axis(logits, index, axis=-1)
    factor = mx.array(factors.astype(np.float32)).astype(logits.dtype)
    new = mx.where(old > 0, old / factor, old * factor)
    return mx.put_along_axis(logits, index, new, axis=-1)
