"""Tiny random drafters in the published DFlash format, and targets that they can guess."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx

from tests.tiny_hybrid import VOCABULARY, write_model

FEW = 4
"""Tokens of a target that even a random drafter is often right about."""


def write_target(folder: Path, kind: str, *, seed: int = 0) -> Path:
    """A random model of mlx-lm's `model_type` kind with so few tokens."""
    write_model(folder, kind, seed=seed)
    path = folder / "model.safetensors"
    tensors: Any = mx.load(str(path))
    mx.eval(tensors)
    cut = {
        name: tensor[:FEW] if "embed_tokens" in name or "lm_head" in name else tensor
        for name, tensor in tensors.items()
    }
    mx.save_safetensors(str(path), cut)
    config = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(
        config.replace(f'"vocab_size": {VOCABULARY}', f'"vocab_size": {FEW}'), encoding="utf-8"
    )
    return folder


def drafter_config(**changes: Any) -> dict[str, Any]:
    """The `config.json` of a drafter for those targets: 2 layers, block 8, taps at 0, 1 and 2."""
    own = {"target_layer_ids": [0, 1, 2], "mask_token_id": 1}
    return {
        "architectures": ["DFlashDraftModel"],
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 96,
        "vocab_size": FEW,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": 1024,
        "block_size": 8,
        "num_target_layers": 4,
        "dflash_config": own | changes.pop("dflash_config", {}),
    } | changes


def drafter_tensors(config: dict[str, Any], *, seed: int = 0) -> dict[str, mx.array]:
    """Random tensors of such a drafter, under their published names."""
    mx.random.seed(seed)
    size, head = config["hidden_size"], config["head_dim"]
    heads, kv_heads = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    inner, taps = config["intermediate_size"], len(config["dflash_config"]["target_layer_ids"])
    shapes: dict[str, tuple[int, ...]] = {
        "fc.weight": (size, taps * size),
        "hidden_norm.weight": (size,),
        "norm.weight": (size,),
    }
    for layer in range(config["num_hidden_layers"]):
        shapes |= {
            f"layers.{layer}.{name}.weight": shape
            for name, shape in {
                "self_attn.q_proj": (heads, size),
                "self_attn.k_proj": (kv_heads, size),
                "self_attn.v_proj": (kv_heads, size),
                "self_attn.o_proj": (size, heads),
                "self_attn.q_norm": (head,),
                "self_attn.k_norm": (head,),
                "mlp.gate_proj": (inner, size),
                "mlp.up_proj": (inner, size),
                "mlp.down_proj": (size, inner),
                "input_layernorm": (size,),
                "post_attention_layernorm": (size,),
            }.items()
        }
    if rank := config["dflash_config"].get("markov_rank"):
        shapes |= {
            "markov.gate_proj.weight": (rank, size),
            "markov.previous_proj.weight": (rank, size),
            "markov.output_proj.weight": (size, rank),
        }
    return {
        name: mx.random.uniform(0.5, 1.5, shape)
        if len(shape) == 1
        else mx.random.normal(shape, scale=1.5 / shape[-1] ** 0.5)
        for name, shape in shapes.items()
    }


def write_drafter(
    folder: Path, config: dict[str, Any], tensors: dict[str, mx.array] | None = None
) -> Path:
    """A drafter's folder; its tensors are random unless they are given."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    mx.save_safetensors(
        str(folder / "model.safetensors"), drafter_tensors(config) if tensors is None else tensors
    )
    return folder


def write_llama_drafter(folder: Path) -> Path:
    """A drafter's folder for `tiny.write_llama`, with blocks of 16."""
    own = {"target_layer_ids": [0, 1], "mask_token_id": 1}
    config = drafter_config(vocab_size=512, block_size=16, num_target_layers=2, dflash_config=own)
    return write_drafter(folder, config)
