"""The loss: cross entropy over the vocabulary, at the drafted slots only.

The head is frozen, so all that the drafter needs of it is the gradient of its hidden states. It is
made in the forward, some slots at a time, and the logits are dropped: they never exist at once, and
are not computed twice.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

LOGITS_BYTES = 512 << 20
"""Logits that exist at once, in float32, about."""

Head = Callable[[mx.array], mx.array]
"""Hidden states [N, D] to logits [N, V]."""


def slots_at_once(vocabulary: int) -> int:
    """How many slots' logits are made at once."""
    return max(64, LOGITS_BYTES // (4 * vocabulary))


def weighted_loss(
    head: Head,
    hidden: mx.array,
    labels: mx.array,
    weights: mx.array,
    teacher: tuple[mx.array, float] | None = None,
) -> mx.array:
    """The mean cross entropy over slots, by their weights.

    Args:
        head: Frozen.
        hidden: [N, D].
        labels: [N] the right tokens.
        weights: [N]; slots of weight 0 cost and teach nothing.
        teacher: The target's hidden states [N, D] where it chose the labels, and the part of the
            loss that follows its probabilities instead of the label.

    Returns:
        A number, in nats.
    """
    total = mx.maximum(weights.sum(), 1e-9)
    step = slots_at_once(head(hidden[:1]).shape[-1])
    parts: list[mx.array] = []
    for start in range(0, hidden.shape[0], step):
        piece = slice(start, start + step)
        others = [labels[piece], weights[piece]]
        if teacher is not None:
            others += [teacher[0][piece], mx.array(teacher[1])]
        parts.append(_piece(head, hidden[piece], others))
    return mx.stack(parts).sum() / total


def _piece(head: Head, hidden: mx.array, others: Sequence[mx.array]) -> mx.array:
    def loss_and_gradient(hidden: mx.array) -> tuple[mx.array, mx.array]:
        labels, weights = others[0], others[1]
        raw, pull = head(hidden), head
        logits = raw.astype(mx.float32)
        scores = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        right = mx.take_along_axis(scores, labels[:, None], axis=-1)[:, 0]
        loss = -(weights * right).sum()
        wanted = mx.exp(scores)
        hard = 1.0
        if len(others) > 2:  # noqa: PLR2004  with a teacher
            soft = others[3]
            taught = mx.softmax(head(others[2]).astype(mx.float32), axis=-1)
            loss = (1 - soft) * loss - soft * (weights * (taught * scores).sum(axis=-1)).sum()
            wanted = wanted - soft * taught
            hard = 1 - soft
        minus = mx.broadcast_to(mx.array(-1.0) * hard, (labels.shape[0], 1))
        change = mx.put_along_axis(
            wanted,
            labels[:, None],
            mx.take_along_axis(wanted, labels[:, None], axis=-1) + minus,
            axis=-1,
        )
        change = (change * weights[:, None]).astype(raw.dtype)
        _, (gradient,) = mx.vjp(pull, [hidden], [change])
        return loss, gradient

    def pull_back(_primals: Any, cotangents: Any, outputs: Any) -> mx.array:
        return outputs[1] * cotangents[0].astype(outputs[1].dtype)

    function: Any = mx.custom_function(loss_and_gradient)
    function.vjp(pull_back)
    return function(hidden)[0]
