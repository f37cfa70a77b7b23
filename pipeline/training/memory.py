"""How much memory a training takes, told before it starts, and what to lower if it is too much.

An estimate from shapes, on the high side: weights, the optimiser's state, the hidden states of a
batch, what the layers keep for the gradient, and one piece of logits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import InputError
from pipeline.training.recipe import Recipe

GIB = 1 << 30
LOGITS_BYTES = 512 << 20  # as in `loss`, which imports mlx
LOGITS_COPIES = 5
KEPT = 14
"""Arrays of a layer's width that are kept for the gradient, per slot."""
SCORES_KEPT = 3
RESERVE = 0.85
"""Part of the free memory that may be used."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes, by what takes them."""

    target: int
    state: int
    features: int
    layers: int
    logits: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.target + self.state + self.features + self.layers + self.logits


def estimate_memory(
    shape: Mapping[str, Any], recipe: Recipe, target_bytes: int, item_bytes: int, *, fused: bool
) -> Need:
    """What a training takes.

    Args:
        shape: The drafter's config.
        recipe: Rows, anchors, length, block.
        target_bytes: Of the target's weights.
        item_bytes: Of a number as it is computed: 4, or 2 in half precision.
        fused: Whether attention keeps no scores.
    """
    hidden, inner, layers = (
        shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"],
    )  # fmt: skip
    heads, groups, size = (
        shape["num_attention_heads"], shape["num_key_value_heads"], shape["head_dim"],
    )  # fmt: skip
    taps = len(shape["dflash_config"]["target_layer_ids"]) + (recipe.soft > 0)
    slots = recipe.rows * recipe.anchors * recipe.block
    context = recipe.rows * recipe.length
    matrices = (2 * heads + 2 * groups) * size * hidden + 3 * hidden * inner
    count = layers * matrices + taps * hidden * hidden
    scores = slots * heads * (recipe.length + recipe.block) * (0 if fused else SCORES_KEPT)
    kept = slots * (KEPT * hidden + 4 * inner + 4 * heads * size) + scores
    return Need(
        target=target_bytes,
        # float32: parameters, gradients, two means, and a step's new ones beside the old
        state=count * (4 * 7 + item_bytes),
        features=context * (taps + 3) * hidden * item_bytes,
        layers=layers * item_bytes * (kept + 4 * context * groups * size),
        logits=LOGITS_COPIES * LOGITS_BYTES,
    )


def check_memory(need: Need, free_bytes: int, recipe: Recipe) -> None:
    """Refuses to start what can't fit.

    Raises:
        InputError: There is too little; says how much of what, and what to lower.
    """
    if need.total <= RESERVE * free_bytes:
        return
    parts = ", ".join(
        f"{name} {getattr(need, field) / GIB:.1f}"
        for name, field in (
            ("the target", "target"), ("weights and optimiser", "state"),
            ("hidden states", "features"), ("layers", "layers"), ("logits", "logits"),
        )
    )  # fmt: skip
    fixed = need.target + need.state + need.logits
    room = RESERVE * free_bytes - fixed
    per_row = (need.features + need.layers) / recipe.rows
    if room >= per_row:
        advice = f"lower --rows to {int(room / per_row)} (now {recipe.rows})"
    else:
        advice = (
            f"lower --rows to 1 and --anchors (now {recipe.anchors}) or --length (now "
            f"{recipe.length}), use fewer --layers, or a smaller or more quantised model"
        )
    raise InputError(
        f"training needs about {need.total / GIB:.1f} GiB ({parts}) and {free_bytes / GIB:.1f} GiB "
        f"are free; {advice}"
    )
