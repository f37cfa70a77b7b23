"""Tiny random checkpoints with a real tokenizer: every code path of the engine, no wheel."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models import llama
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pipeline.engine.interface import ModelInfo
from pipeline.engine.memory.window import Shapes
from pipeline.engine.targets.target import Target

SHAPES = (Shapes(), Shapes(column_step=64), Shapes(few=True, mask_dtype=mx.float32))
"""What devices like: a CPU, Metal, CUDA."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = (
    "The invoice number is A-1017 and the total amount is 1,234.50 euros, due on 2026-03-31.",
    'A JSON answer looks like {"name": "Ada Lovelace", "born": "1815-12-10", "notes": null}.',
    "Minutes of the meeting: the board approved the budget, and the chair closed the session.",
)


def target_of(folder: Path) -> Target:
    """A tiny model, loaded."""
    return Target(ModelInfo("tiny", str(folder), "f", 1024, str(folder / "tokenizer.json")))


def write_tokenizer(folder: Path, vocabulary: int = 512, corpus: Sequence[str] = CORPUS) -> None:
    """A byte-level BPE tokenizer in `folder`, with a chat template and an end token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    tokenizer.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def write_llama(
    folder: Path,
    *,
    seed: int = 0,
    vocabulary: int = 512,
    scale: float = 4.0,
    context_tokens: int = 1024,
) -> Path:
    """A random 2-layer Llama in float32. `scale` spreads the logits, so that ties are rare."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, vocabulary)
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 1e-5,
        "vocab_size": vocabulary,
        "max_position_embeddings": context_tokens,
        "tie_word_embeddings": True,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    mx.random.seed(seed)
    model = llama.Model(llama.ModelArgs.from_dict(config))
    parameters: Any = tree_flatten(model.parameters())
    weights: dict[str, mx.array] = {
        name: mx.random.normal(value.shape, scale=scale / value.shape[-1] ** 0.5)
        if value.ndim > 1
        else value
        for name, value in parameters
    }
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    return folder
