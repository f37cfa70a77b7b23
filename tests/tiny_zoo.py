"""Tiny random checkpoints of mlx-lm's other architectures: what a user may bring.

A config is filled in by the names of the fields that a model asks for; what differs is told here.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes

from tests.tiny import write_tokenizer

VOCABULARY, WINDOW = 512, 8
SIZES = {
    64: ("hidden_size", "d_model", "n_embd"),
    4: (
        "num_hidden_layers", "n_layer", "n_layers", "num_attention_heads", "n_head", "n_heads",
        "num_experts", "n_routed_experts", "num_local_experts",
    ),
    2: ("num_key_value_heads", "n_kv_heads"),
    128: ("intermediate_size", "n_inner"),
    1024: ("max_position_embeddings", "n_positions", "n_ctx", "block_size"),
    WINDOW: ("sliding_window", "sliding_window_size"),
}  # fmt: skip
FIELDS: dict[str, Any] = {
    **{name: size for size, names in SIZES.items() for name in names},
    "head_dim": 16,
    "vocab_size": VOCABULARY,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
    "layer_norm_eps": 1e-5,
    "layer_norm_epsilon": 1e-5,
    "norm_eps": 1e-5,
    "norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "mlp_bias": False,
    "use_bias": False,
    "use_qkv_bias": False,
    "qkv_bias": False,
    "hidden_act": "silu",
    "partial_rotary_factor": 0.5,
    "rotary_pct": 0.5,
    "sliding_window_pattern": 2,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "n_shared_experts": 1,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 1.0,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "query_pre_attn_scalar": 16,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "logits_scaling": 1.0,
    "attention_multiplier": 0.25,
    "embedding_multiplier": 1.0,
    "residual_multiplier": 1.0,
    "logit_scale": 1.0,
    "dim_model_base": 64,
    "scale_depth": 1.0,
    "scale_emb": 1.0,
    "use_qk_norm": True,
}
MIXED = ["sliding_attention", "full_attention"] * 2
YARN = {
    "type": "yarn",
    "factor": 2.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 1024,
    "beta_fast": 32,
    "beta_slow": 1,
}
LONG = {
    "type": "longrope",
    "short_factor": [1.0] * 4,
    "long_factor": [1.0] * 4,
    "original_max_position_embeddings": 1024,
}
ALPHA = {"rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0}}
ERNIE_EXPERTS = {
    "moe_num_experts": 4,
    "moe_layer_start_index": 1,
    "moe_layer_end_index": 3,
    "moe_intermediate_size": 32,
    "moe_capacity": [4, 4, 4],
    "moe_k": 2,
    "moe_layer_interval": 1,
    "moe_use_aux_free": False,
    "moe_num_shared_experts": 1,
    "moe_gate_act": "softmax",
}
NOT_TIED = {"tie_word_embeddings": False}
ZOO: dict[str, dict[str, Any]] = {
    "apertus": {"post_norm": False, "qk_norm": True}, "cohere": {}, "cohere2": {}, "deepseek": {},
    "deepseek_v2": {"rope_scaling": YARN}, "deepseek_v3": {"rope_scaling": YARN}, "dots1": {},
    "ernie4_5": {}, "ernie4_5_moe": ERNIE_EXPERTS, "exaone": {"num_layers": 4},
    "exaone4": {"sliding_window_pattern": "LLLG", "rope_scaling": None}, "gemma": {}, "gemma2": {},
    "gemma4_text": {
        "layer_types": MIXED, "global_head_dim": 32, "num_kv_shared_layers": 2,
        "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY,
    },
    "glm": {}, "glm4": {}, "glm4_moe": {"rope_scaling": None}, "gpt2": {},
    "gpt_neox": {"rotary_emb_base": 10000}, "granite": {}, "granitemoe": {}, "helium": NOT_TIED,
    "hunyuan": ALPHA | {
        "use_cla": True, "cla_share_factor": 2, "num_shared_expert": 1, "moe_topk": 2,
        "use_mixed_mlp_moe": True,
    },
    "hunyuan_v1_dense": ALPHA, "internlm2": {}, "internlm3": {}, "mimo": {},
    "minicpm": NOT_TIED, "minicpm3": {"rope_scaling": LONG}, "ministral3": {
        "rope_parameters": {
            "rope_theta": 10000.0, "llama_4_scaling_beta": 0.1, "rope_type": "default",
            "type": "default", "original_max_position_embeddings": 16,
        },
        "layer_types": MIXED,
    },
    "mistral": {}, "mixtral": {}, "nanochat": {}, "nemotron": {}, "olmo2": {},
    "olmo3": {"layer_types": MIXED}, "olmoe": {}, "phi": {}, "phi3": {}, "phimoe": {},
    "qwen2": {}, "qwen2_moe": {}, "seed_oss": {}, "smollm3": {}, "stablelm": {}, "starcoder2": {},
}  # fmt: skip
"""By `model_type`: what else its config says."""
STREAMS: dict[str, dict[str, Any]] = {
    "gemma3n": {
        "text_config": {
            name: FIELDS[name]
            for name in (
                "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads",
                "num_key_value_heads", "head_dim", "rms_norm_eps", "vocab_size", "sliding_window",
                "max_position_embeddings", "rope_theta", "final_logit_softcapping",
                "query_pre_attn_scalar",
            )
        } | {
            "model_type": "gemma3n_text", "num_kv_shared_layers": 2, "rope_scaling": None,
            "vocab_size_per_layer_input": VOCABULARY, "rope_local_base_freq": 10000.0,
            "layer_types": MIXED, "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
            "hidden_size_per_layer_input": 8, "altup_num_inputs": 2, "altup_coef_clip": 120.0,
            "altup_correct_scale": True, "altup_active_idx": 0, "laurel_rank": 8,
        },
    },
}  # fmt: skip
"""Models whose layers have several streams: no drafter can look at them."""
UNFIT: dict[str, dict[str, Any]] = {
    "gpt_bigcode": {},  # positions of one row
    "afm7": {  # positions by the number of columns
        "hidden_dim": 64, "num_layers": 4, "num_heads": 4, "num_kv_heads": 2,
        "num_kv_reuse_layers": 2, "hidden_dim_scale_factor": 2.0,
    },
}  # fmt: skip
"""Models that can't run rows of different lengths."""


def write_zoo(folder: Path, kind: str, seed: int = 0, dtype: mx.Dtype = mx.float32) -> Path:
    """A random model of mlx-lm's `model_type` kind."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, VOCABULARY)
    classes: Any = _get_classes({"model_type": kind})
    asked = {field.name for field in dataclasses.fields(classes[1])}
    config = {name: value for name, value in FIELDS.items() if name in asked}
    config |= {"model_type": kind, "eos_token_id": 2} | (ZOO | STREAMS | UNFIT)[kind]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model = classes[0](classes[1].from_dict(json.loads(json.dumps(config))))
    mx.random.seed(seed)
    leaves: Any = tree_flatten(model.parameters())
    weights: dict[str, mx.array] = {name: _weight(value).astype(dtype) for name, value in leaves}
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    return folder


def _weight(value: mx.array) -> mx.array:
    if value.ndim < 2:
        return value
    return mx.random.normal(value.shape, scale=2 / value.shape[-1] ** 0.5)
