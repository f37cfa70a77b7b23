"""What a published DFlash checkpoint says of itself, and whether it fits a target.

In: `config.json` in the format of the `z-lab/*-DFlash*` checkpoints. Out: a `DrafterConfig`, or an
`InputError` that says what is wrong or what differs.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

SECOND_KIND = "DFlash2DraftModel"
LAYER_TYPES = {"full_attention", "sliding_attention"}


@dataclass(frozen=True, slots=True)
class DrafterConfig:
    """The shape of a drafter, in the published names.

    Attributes:
        block_size: Slots of a block: the anchor and the tokens drafted at once.
        mask_token_id: Stands in every slot but the anchor's.
        target_layer_ids: Layers of the target, from 0, whose outputs the drafter sees.
        num_target_layers: Layers that its target has.
        layer_types: Per layer "full_attention" or "sliding_attention".
        sliding_window: Tokens that a sliding layer sees.
        is_causal: Whether a slot sees only the slots before it; None for sliding layers only.
        rope_scaling: As transformers writes it.
        input_embedding_scale: Factor of the embedding's rows.
        output_multiplier: Factor of the logits.
        final_logit_softcapping: Soft bound of the logits.
        markov_rank: Rank of the Markov head, see `pipeline.engine.drafters.markov`; 0 without one.
        quantization: As mlx-lm writes it, if the weights are quantised.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int
    block_size: int
    mask_token_id: int
    target_layer_ids: tuple[int, ...]
    num_target_layers: int
    layer_types: tuple[str, ...]
    sliding_window: int | None
    is_causal: bool | None
    attention_bias: bool
    rope_scaling: dict[str, Any] | None
    input_embedding_scale: float
    output_multiplier: float
    final_logit_softcapping: float | None
    markov_rank: int
    quantization: dict[str, Any] | None

    def window_of(self, layer: int) -> int | None:
        """A layer's sliding window, in tokens."""
        return self.sliding_window if self.layer_types[layer] == "sliding_attention" else None

    def causal_in(self, layer: int) -> bool:
        """Whether a slot of the block sees only the slots before it."""
        return self.window_of(layer) is not None if self.is_causal is None else self.is_causal


def read_config(folder: Path) -> DrafterConfig:
    """Reads the `config.json` of a drafter's folder.

    Raises:
        InputError: There is none, or it is not a DFlash drafter's.
    """
    path = folder / "config.json"
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        config = _parse(values)
    except KeyError as error:
        raise InputError(
            f"the drafter's config={str(path)!r} has no {error}, so it is not a DFlash drafter's; "
            "give the folder of a DFlash checkpoint"
        ) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"the drafter's config={str(path)!r} can't be read ({_one_line(error)}); give the "
            "folder of a DFlash checkpoint"
        ) from error
    return config


def _parse(values: dict[str, Any]) -> DrafterConfig:
    own: dict[str, Any] = values["dflash_config"]
    architectures = list(values.get("architectures") or [])
    if SECOND_KIND in architectures:
        raise InputError(
            f"architectures={architectures!r}: drafters of the second kind (with convolutions "
            "and a candidate selector) are not supported; choose a DFlashDraftModel"
        )
    rope = values.get("rope_parameters") or values.get("rope_scaling")
    layers, heads = int(values["num_hidden_layers"]), int(values["num_attention_heads"])
    soft_cap = own.get("final_logit_softcapping", values.get("final_logit_softcapping"))
    config = DrafterConfig(
        hidden_size=int(values["hidden_size"]),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=int(values["num_key_value_heads"]),
        head_dim=int(values.get("head_dim") or values["hidden_size"] // heads),
        intermediate_size=int(values["intermediate_size"]),
        vocab_size=int(values["vocab_size"]),
        rms_norm_eps=float(values["rms_norm_eps"]),
        rope_theta=float(values.get("rope_theta") or (rope or {}).get("rope_theta", 10_000.0)),
        max_position_embeddings=int(values["max_position_embeddings"]),
        block_size=int(own.get("block_size", values.get("block_size", 16))),
        mask_token_id=int(own["mask_token_id"]),
        target_layer_ids=tuple(map(int, own["target_layer_ids"])),
        num_target_layers=int(values["num_target_layers"]),
        layer_types=tuple(values.get("layer_types") or ["full_attention"] * layers),
        sliding_window=values.get("sliding_window"),
        is_causal=values.get("is_causal"),
        attention_bias=bool(values.get("attention_bias", False)),
        rope_scaling=rope,
        input_embedding_scale=float(own.get("input_embedding_scale", 1.0)),
        output_multiplier=float(own.get("output_multiplier", 1.0)),
        final_logit_softcapping=float(soft_cap) if soft_cap else None,
        markov_rank=int(own.get("markov_rank", 0)),
        quantization=values.get("quantization"),
    )
    _check(config)
    return config


def _check(config: DrafterConfig) -> None:
    """Raises ValueError if the config contradicts itself."""
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    sizes = (config.hidden_size, config.num_hidden_layers, heads, kv_heads, config.head_dim,
             config.intermediate_size)  # fmt: skip
    if min(sizes) < 1 or heads % kv_heads or config.markov_rank < 0:
        raise ValueError(f"sizes that no model has: {sizes}")
    if len(config.layer_types) != config.num_hidden_layers:
        raise ValueError(
            f"layer_types={config.layer_types!r} for num_hidden_layers={config.num_hidden_layers!r}"
        )
    if unknown := set(config.layer_types) - LAYER_TYPES:
        raise ValueError(f"unknown layer_types {sorted(unknown)}")
    if "sliding_attention" in config.layer_types and not config.sliding_window:
        raise ValueError("sliding_attention without a sliding_window")
    if config.markov_rank and config.final_logit_softcapping:
        raise ValueError("markov_rank together with final_logit_softcapping")


def check_fit(config: DrafterConfig, *, vocabulary: int, hidden_size: int, layers: int) -> None:
    """Compares a drafter with its target.

    Args:
        config: The drafter.
        vocabulary: V of the target.
        hidden_size: D of the target.
        layers: How many the target has.

    Raises:
        InputError: It was made for another model; says all that differs.
    """
    taps = config.target_layer_ids
    wrong = [
        f"{what}={ours!r}, the target's is {theirs!r}"
        for what, ours, theirs in (
            ("vocab_size", config.vocab_size, vocabulary),
            ("hidden_size", config.hidden_size, hidden_size),
            ("num_target_layers", config.num_target_layers, layers),
        )
        if ours != theirs
    ]
    if not taps or not all(0 <= layer < layers for layer in taps):
        wrong.append(f"target_layer_ids={list(taps)!r}, the target's layers are 0 to {layers - 1}")
    if not 0 <= config.mask_token_id < vocabulary:
        wrong.append(f"mask_token_id={config.mask_token_id!r} is not in the vocabulary")
    if config.block_size < 2:  # noqa: PLR2004 (an anchor and a token)
        wrong.append(f"block_size={config.block_size!r} leaves nothing to draft")
    if wrong:
        raise InputError(
            f"the drafter does not fit the target: {'; '.join(wrong)}; give the drafter that was "
            "trained for this model, or none"
        )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
