"""Tiny random checkpoints of every architecture that the engine must batch."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_lm.utils import _get_classes

from tests.tiny import write_tokenizer

VOCABULARY = 512
WINDOW = 8
PLAIN: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-6,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 1024,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "eos_token_id": 2,
}
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "decoder_sparse_step": 1,
    "moe_intermediate_size": 48,
    "norm_topk_prob": True,
    "mlp_only_layers": [],
}
DELTA: dict[str, Any] = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 24,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 4,
    "shared_expert_intermediate_size": 48,
    "partial_rotary_factor": 0.5,
}
GEMMA = PLAIN | {
    "sliding_window": WINDOW,
    "sliding_window_pattern": 2,
    "query_pre_attn_scalar": 16,
}
QWEN3_5 = PLAIN | DELTA | {"rope_parameters": {"type": "default", "partial_rotary_factor": 0.5}}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": PLAIN,
    "qwen3": PLAIN,
    "qwen3_moe": PLAIN | EXPERTS,
    "gpt_oss": PLAIN
    | {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "gemma3_text": GEMMA,
    "gemma3": {
        "text_config": GEMMA | {"model_type": "gemma3_text"},
        "vocab_size": VOCABULARY,
        "eos_token_id": 2,
    },
    "qwen3_next": PLAIN | DELTA | EXPERTS,
    "qwen3_5": {"text_config": QWEN3_5, "eos_token_id": 2},
    "qwen3_5_moe": {"text_config": QWEN3_5 | EXPERTS, "eos_token_id": 2},
}
REFUSED: dict[str, dict[str, Any]] = {
    "mamba2": PLAIN
    | {
        "num_heads": 4,
        "state_size": 16,
        "layer_norm_epsilon": 1e-6,
        "conv_kernel": 4,
        "n_groups": 1,
        "use_bias": False,
        "use_conv_bias": False,
        "time_step_limit": [0.0, 1.0],
        "time_step_rank": "auto",
        "intermediate_size": 64,
    },
}
"""Recurrent, but of a kind that the engine can't roll back."""
HYBRID = ("qwen3_next", "qwen3_5", "qwen3_5_moe")


def write_model(
    folder: Path,
    kind: str,
    *,
    seed: int = 0,
    scale: float = 2.0,
    dtype: mx.Dtype = mx.float32,
    **changes: Any,
) -> Path:
    """A random model with mlx-lm's `model_type` kind. `scale` spreads its logits."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, VOCABULARY)
    config: dict[str, Any] = {"model_type": kind} | (CONFIGS | REFUSED)[kind] | changes
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    classes: Any = _get_classes(config)
    model = classes[0](classes[1].from_dict(json.loads(json.dumps(config))))
    mx.random.seed(seed)
    parameters: Any = tree_map_with_path(
        lambda path, value: _weight(path, value, scale), model.parameters()
    )
    leaves: Any = tree_flatten(parameters)
    weights = {name: value.astype(dtype) for name, value in leaves}
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    return folder


def _weight(path: str, value: mx.array, scale: float) -> mx.array:
    if path.endswith("A_log"):  # slow decay, so that far tokens matter
        return mx.random.uniform(-6, -1, value.shape)
    if path.endswith(("sinks", "dt_bias", ".bias")):
        return mx.random.normal(value.shape)
    if value.ndim == 1:
        return mx.random.uniform(0.5, 1.5, value.shape)
    fan_in = value.shape[1] if path.endswith("conv1d.weight") else value.shape[-1]
    return mx.random.normal(value.shape, scale=scale / fan_in**0.5)
