"""The shape of a new drafter: that of its target, with fewer layers.

In: a target's config and a recipe. Out: the drafter's `config.json` in the published format, which
`pipeline.engine.drafters.drafter_config` and the authors' package `dflash` read.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from pipeline.engine.drafters.drafter_config import DrafterConfig, read_config
from pipeline.engine.interface import ModelInfo
from pipeline.errors import InputError
from pipeline.training.recipe import Recipe
from pipeline.training.shards import write_whole

FEWEST_LAYERS = 5  # a target with fewer is tapped everywhere
WANTED = ("hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size")


def tap_layers(layers: int, taps: int) -> list[int]:
    """Which layers of the target the drafter sees: spread from the second to the third last.

    (The authors' choice, arXiv 2602.06036: round(1 + i (N - 4) / (n - 1)).)
    """
    if layers < FEWEST_LAYERS or taps >= layers:
        return list(range(layers))
    if taps == 1:
        return [layers - 3]
    return [round(1 + i * (layers - 4) / (taps - 1)) for i in range(taps)]


def target_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """The language model's part of a target's config, with what a drafter needs of it.

    Raises:
        InputError: Something that a drafter needs is not there; says what.
    """
    inner: Any = config.get("text_config") or config.get("llm_config") or {}
    values: dict[str, Any] = {**config, **inner}
    missing = [name for name in WANTED if not isinstance(values.get(name), int)]
    if missing:
        raise InputError(
            f"model_type={config.get('model_type')!r} has no {', '.join(missing)} in its "
            "config.json, which a drafter takes its shape from; choose a decoder-only model with "
            "attention"
        )
    return values


def new_shape(
    config: Mapping[str, Any], info: ModelInfo, recipe: Recipe, mask_token: int
) -> dict[str, Any]:
    """The `config.json` of a new drafter.

    Args:
        config: The target's.
        info: The target, for its context.
        recipe: Layers, block and taps.
        mask_token: See `pick_mask_token`.

    Raises:
        InputError: The target lacks something.
    """
    values = target_values(config)
    hidden, heads = values["hidden_size"], values["num_attention_heads"]
    layers = values["num_hidden_layers"]
    rope: Any = values.get("rope_parameters") or {}
    return {
        "architectures": ["DFlashDraftModel"],
        "model_type": "qwen3",
        "hidden_size": hidden,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": values.get("num_key_value_heads") or heads,
        "head_dim": values.get("head_dim") or hidden // heads,
        "intermediate_size": max(values.get("intermediate_size") or 0, 2 * hidden),
        "vocab_size": values["vocab_size"],
        "rms_norm_eps": values.get("rms_norm_eps") or 1e-6,
        "rope_theta": float(values.get("rope_theta") or rope.get("rope_theta") or 10_000.0),
        "rope_scaling": None,
        "max_position_embeddings": info.context_tokens,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "layer_types": ["full_attention"] * recipe.layers,
        "block_size": recipe.block,
        "num_target_layers": layers,
        "dflash_config": {
            "target_layer_ids": tap_layers(layers, recipe.taps),
            "mask_token_id": mask_token,
            "markov_rank": recipe.markov_rank,
        },
        "torch_dtype": "float16",
    }


def pick_mask_token(
    tokenizer_json: str, vocabulary: int, used: Collection[int], template: str
) -> int:
    """A token that stands for what is to be drafted: one that no text and no chat holds.

    Args:
        tokenizer_json: The target's tokenizer.
        vocabulary: V, rows of the embedding, often more than the tokenizer has.
        used: Tokens that end an answer.
        template: The chat template: what it names is used.
    """
    tokenizer = Tokenizer.from_file(tokenizer_json)
    known = tokenizer.get_vocab_size(with_added_tokens=True)
    if known < vocabulary:
        return known
    added = tokenizer.get_added_tokens_decoder()
    free = [
        token
        for token, text in added.items()
        if text.special and token not in used and text.content not in template
    ]
    return max(free, default=0)


def write_shape(folder: Path, values: Mapping[str, Any]) -> DrafterConfig:
    """Writes `config.json` and reads it back as the engine does."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "config.json", (json.dumps(values, indent=1) + "\n").encode())
    return read_config(folder)
