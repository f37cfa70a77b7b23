"""Choosing tokens, plain or drafted: masks, penalties, bias, then the best or a draw.

Everything a position needs is known before its logits are, given the draft before it, so the host
prepares it while the forward runs. The token chosen at a position is a function of the logits
there, the answer before it, the settings and the seed, however many positions are verified at
once: a drafted answer equals the plain one at any temperature (the proof is in `filters`).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pipeline.engine.filters import draw_tokens
from pipeline.engine.interface import Sampling
from pipeline.engine.shifts import Shifts, counts_tokens, shift_logits

ALL_ALLOWED = np.int32(-1)


@dataclass(slots=True)
class History:
    """The tokens of one answer, with what the penalties need to know of them.

    Attributes:
        sampling: The request's settings.
        prompt: What is asked, for `no_repeat_copied`.
        tokens: The answer so far.
        counts: How often each token stands in it, if a setting asks for that.
    """

    sampling: Sampling
    prompt: Sequence[int] = ()
    tokens: list[int] = field(default_factory=list[int])
    counts: Counter[int] = field(default_factory=Counter[int])
    _followers: defaultdict[tuple[int, ...], list[int]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _asked: str | None = None  # the prompt, a character per token: to find a run of tokens in

    def push(self, token: int) -> None:
        """Appends a token."""
        for begin in self._begins():
            self._followers[begin].append(token)
        self.tokens.append(token)
        if counts_tokens(self.sampling):
            self.counts[token] += 1

    def pop(self) -> None:
        """Takes the last token back."""
        token = self.tokens.pop()
        if counts_tokens(self.sampling):
            self.counts[token] -= 1
            if not self.counts[token]:
                del self.counts[token]
        for begin in self._begins():
            self._followers[begin].pop()

    def banned(self, ends_string: Callable[[int], bool] | None = None) -> list[int]:
        """Tokens that would complete an n-gram that already stands in the answer.

        Args:
            ends_string: Tells tokens with a quotation mark. If given, n-grams are looked for in
                the current string only (two values may well be the same), and these tokens stay
                free, or strings would run on.
        """
        size = self.sampling.no_repeat_ngram
        begins = self._begins()
        banned = self._followers.get(begins[0], []) if begins else []
        if not banned:
            return []
        if ends_string is None:
            return self._without_copied(banned, begins)
        string: list[int] = []
        for token in reversed(self.tokens):
            if ends_string(token):
                break
            string.insert(0, token)
        begin = string[len(string) - size + 1 :]
        ends = range(size - 1, len(string)) if len(string) >= size else ()
        found = [string[end] for end in ends if string[end - size + 1 : end] == begin]
        return [token for token in found if not ends_string(token)]

    def penalised(self) -> list[int]:
        """Tokens whose logits the repetition penalty lowers."""
        if self.sampling.repetition_penalty == 1.0:
            return []
        return list(dict.fromkeys(self.tokens[-self.sampling.repetition_window :]))

    def _begins(self) -> list[tuple[int, ...]]:
        """What the next token would complete an n-gram of: of each length that matters."""
        size, copied = self.sampling.no_repeat_ngram, self.sampling.no_repeat_copied
        if not size:
            return []
        sizes = (size, max(size, copied)) if copied else (size,)
        have = len(self.tokens)
        return [tuple(self.tokens[have - size + 1 :]) for size in sizes if size <= have + 1]

    def _without_copied(self, banned: list[int], begins: list[tuple[int, ...]]) -> list[int]:
        """Without those whose n-gram stands in the prompt, unless the longer one is there, too."""
        if not self.sampling.no_repeat_copied:
            return banned
        if self._asked is None:
            self._asked = "".join(map(chr, self.prompt))
        longer = self._followers.get(begins[1], []) if len(begins) > 1 else []
        start = "".join(map(chr, begins[0]))
        return [t for t in banned if t in longer or start + chr(t) not in self._asked]


@dataclass(slots=True)
class Constraints:
    """What shapes the choice at each of B x T positions.

    Attributes:
        masks: [B, T, ceil(V/32)] int32 words, a bit per allowed token.
        masked: Whether any bit is cleared.
        penalised: For each position the tokens that the repetition penalty lowers.
        shifts: [B] what other penalties and the bias add.
        settings: [B] the rows' settings.
        positions: [B] how many tokens each answer has before its first position.
    """

    masks: NDArray[np.int32]
    masked: bool
    penalised: list[list[list[int]]]
    shifts: list[Shifts | None]
    settings: list[Sampling]
    positions: list[int]


def ban_tokens(mask: NDArray[np.int32], tokens: Sequence[int], stop: Sequence[int]) -> None:
    """Clears the bits of banned tokens, unless that would leave nothing to choose.

    Args:
        mask: [ceil(V/32)] int32 words, changed in place.
        tokens: Tokens to forbid.
        stop: Tokens that end an answer: these are never forbidden.
    """
    words = mask.view(np.uint32)
    before = words.copy()
    for token in tokens:
        if token not in stop:
            words[token >> 5] &= np.uint32(~(1 << (token & 31)) & 0xFFFFFFFF)
    if not words.any():
        words[:] = before  # the grammar leaves one way only: it wins over the penalty


def choose_tokens(logits: mx.array, constraints: Constraints) -> tuple[mx.array, mx.array]:
    """Applies masks and penalties, then takes the best token or a seeded sample.

    Args:
        logits: [B, T, V].
        constraints: For the same positions.

    Returns:
        Chosen tokens [B, T], and the masked logits before all else [B, T, V] (for logprobs).
    """
    shaped, logits = shape_logits(logits, constraints)
    chosen = mx.argmax(shaped, axis=-1)
    if any(settings.temperature > 0 for settings in constraints.settings):
        chosen = draw_tokens(chosen, shaped, constraints.settings, constraints.positions)
    return chosen, logits


def shape_logits(logits: mx.array, constraints: Constraints) -> tuple[mx.array, mx.array]:
    """Applies masks, then penalties and bias.

    Returns:
        The logits [B, T, V] after all of it, and after the masks alone.
    """
    if constraints.masked:
        logits = apply_mask(logits, constraints.masks)
    shaped = logits
    if any(ids for row in constraints.penalised for ids in row):
        shaped = _penalise(shaped, constraints)
    if any(row is not None for row in constraints.shifts):
        shaped = shift_logits(shaped, constraints.shifts)
    return shaped, logits


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
    longest = max(len(ids) for row in constraints.penalised for ids in row)
    shape = (len(constraints.penalised), len(constraints.penalised[0]), longest)
    ids = np.zeros(shape, np.int32)
    penalties = np.ones(shape, np.float32)
    for b, row in enumerate(constraints.penalised):
        for t, tokens in enumerate(row):
            if tokens:
                # Padding repeats the first token with the same penalty, so writing it twice agrees.
                ids[b, t] = tokens[0]
                ids[b, t, : len(tokens)] = tokens
                penalties[b, t] = constraints.settings[b].repetition_penalty
    index = mx.array(ids)
    old = mx.take_along_axis(logits, index, axis=-1)
    factor = mx.array(penalties).astype(logits.dtype)
    new = mx.where(old > 0, old / factor, old * factor)
    return mx.put_along_axis(logits, index, new, axis=-1)
