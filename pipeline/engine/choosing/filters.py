"""Sampling: temperature, top-k, top-p and min-p, then one seeded draw; for drafted positions, too.

In: penalised logits and the settings of their rows. Out: a token per position.

Why a drafted answer has exactly the plain distribution. Let z be the logits at a position after
mask, penalties and bias, T the temperature, and F the tokens that the filters keep of z / T.

1. With g_i = -log(-log u_i) for independent uniform u_i, P(argmax over F of z_i / T + g_i = j) is
   exp(z_j / T) / sum over F of exp(z_i / T): the softmax of what was kept. (Gumbel 1954; Maddison
   et al. 2014, "A* sampling", section 2.) So the argmax is a sample of the filtered softmax.
2. z and F are functions of the tokens before the position; u is a function of (seed, position)
   alone, another stream for each position. So the token x_n is one function f(seed, n, x_<n),
   which asks neither how many positions are verified at once nor who else is in the batch.
3. Verify computes f at each drafted position, given the draft before it, and accepts a drafted
   token iff it is f's value; the first that is not is replaced by f's value. By induction over n
   the accepted text is x_1, x_2, ..., the one that decoding a token at a time writes with the same
   seed: not only the same distribution but the same tokens. What a draft is, and how it was found,
   does not enter.

The draws have float32's grain: probabilities below about 1e-7 are not told from 0.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence

import mlx.core as mx

from pipeline.engine.interface import Sampling

COLDEST = 1e-5
"""A lower temperature counts as this one, where the likeliest token always comes."""


def draw_tokens(
    chosen: mx.array, logits: mx.array, settings: Sequence[Sampling], positions: Sequence[int]
) -> mx.array:
    """Puts a seeded draw in the place of the best token, in the rows with a temperature.

    Args:
        chosen: [B, T], the best tokens.
        logits: [B, T, V] after mask, penalties and bias.
        settings: [B].
        positions: [B] how many tokens each answer has before its first position.

    Returns:
        Tokens [B, T].
    """
    alike: defaultdict[tuple[float, int, float, float], list[int]] = defaultdict(list)
    for b, row in enumerate(settings):
        if row.temperature > 0:
            alike[row.temperature, row.top_k, row.top_p, row.min_p].append(b)
    for rows in alike.values():
        index = mx.array(rows)
        streams = [(settings[b].seed, positions[b]) for b in rows]
        scores = draw_scores(logits[index], settings[rows[0]], streams)
        chosen[index] = mx.argmax(scores, axis=-1)
    return chosen


def draw_scores(
    logits: mx.array, settings: Sampling, streams: Sequence[tuple[int, int]]
) -> mx.array:
    """The scores whose best is the drawn token, of rows with the same temperature and filters.

    Args:
        logits: [B, T, V].
        settings: Of all rows but for their seeds.
        streams: [B] the seed, and the tokens before the first position.
    """
    scores = logits.astype(mx.float32)
    # From the best one down, so that next to no temperature makes no infinity.
    scores = scores - mx.max(scores, axis=-1, keepdims=True)
    scores = keep_likely(scores / max(settings.temperature, COLDEST), settings)
    return scores + _gumbel_noise(streams, scores)


def keep_likely(scores: mx.array, settings: Sampling) -> mx.array:
    """Sets what the filters drop to minus infinity: first top-k, of the rest top-p, then min-p.

    Tokens exactly as likely as the last one kept stay, too. The likeliest always stays, whatever
    the settings, so that something can be drawn.

    Args:
        scores: [..., V] logits over the temperature, in float32.
        settings: Whose filters are applied.
    """
    if settings.top_k or settings.top_p < 1:
        scores = mx.where(scores >= _lowest_kept(scores, settings), scores, -mx.inf)
    if settings.min_p:
        best = mx.max(scores, axis=-1, keepdims=True)
        scores = mx.where(scores >= best + math.log(settings.min_p), scores, -mx.inf)
    return scores


def _lowest_kept(scores: mx.array, settings: Sampling) -> mx.array:
    """The lowest score [..., 1] that top-k and top-p keep."""
    vocabulary = scores.shape[-1]
    kept = min(settings.top_k or vocabulary, vocabulary)
    best = scores if kept == vocabulary else mx.topk(scores, kept, axis=-1)
    if settings.top_p >= 1:
        return mx.min(best, axis=-1, keepdims=True)
    best = -mx.sort(-best, axis=-1)  # [..., kept], the likeliest first
    likelier = mx.cumsum(mx.softmax(best, axis=-1, precise=True), axis=-1, inclusive=False)
    count = mx.sum(likelier < settings.top_p, axis=-1, keepdims=True)
    return mx.take_along_axis(best, mx.maximum(count, 1) - 1, axis=-1)


def _gumbel_noise(streams: Sequence[tuple[int, int]], scores: mx.array) -> mx.array:
    """Noise [B, T, V] like the scores, each position's from its row's (seed, position) alone."""
    _, width, vocabulary = scores.shape
    keys = mx.stack([_key(seed, first + t) for seed, first in streams for t in range(width)])
    noise: mx.array = mx.vmap(lambda key: mx.random.gumbel((vocabulary,), key=key))(keys)
    return noise.reshape(scores.shape)


def _key(seed: int, position: int) -> mx.array:
    digest = hashlib.blake2b(f"{seed}:{position}".encode(), digest_size=8).digest()
    return mx.random.key(int.from_bytes(digest, "little"))
