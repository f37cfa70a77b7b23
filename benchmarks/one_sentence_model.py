"""A model that writes one sentence, whatever it is asked: a run's own costs, without the thinking.

It has the embedded model's tokenizer and context, and next to no weights: each word of the sentence
leads to the next. The grammar holds it to the form of an answer as it holds any model.
"""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
from tokenizers import Tokenizer

SENTENCE = "The keeper of each store counts the crates."
HIDDEN = 32
_START = "\n"  # ends the turn that opens the answer


def write_model(folder: Path, embedded: Path) -> Path:
    """Writes the model's folder.

    Args:
        folder: Where to; made.
        embedded: Folder of the embedded model, for its tokenizer.
    """
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(embedded / name, folder / name)
    given = json.loads((embedded / "config.json").read_text())
    config = {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "num_hidden_layers": 1,
        "intermediate_size": HIDDEN,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": HIDDEN // 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        **{key: given[key] for key in ("vocab_size", "max_position_embeddings", "eos_token_id")},
    }
    (folder / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "model.safetensors"), _chain(folder, int(given["vocab_size"])))
    return folder


def _chain(folder: Path, vocabulary: int) -> dict[str, mx.array]:
    """Weights in which nothing is added on the way, and each token points to the next one."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words = tokenizer.encode(SENTENCE, add_special_tokens=False).ids
    [start] = tokenizer.encode(_START, add_special_tokens=False).ids
    end = tokenizer.token_to_id("<|im_end|>")
    path = [start, *words, end]
    known = {token: place for place, token in enumerate(path[:-1])}
    if len(known) < len(path) - 1 or len(path) > HIDDEN:
        raise SystemExit(f"SENTENCE={SENTENCE!r} has a token twice, or more than {HIDDEN} tokens")
    embedding, head = mx.zeros((vocabulary, HIDDEN)), mx.zeros((vocabulary, HIDDEN))
    for token, following in pairwise(path):
        embedding[token, known[token]] = 1.0
        head[following, known[token]] = 1.0
    layer = "model.layers.0"
    square, half = (HIDDEN, HIDDEN), (HIDDEN // 2, HIDDEN)
    attention = {"q": square, "k": half, "v": half, "o": square}
    return {
        "model.embed_tokens.weight": embedding,
        "lm_head.weight": head,
        "model.norm.weight": mx.ones(HIDDEN),
        f"{layer}.input_layernorm.weight": mx.ones(HIDDEN),
        f"{layer}.post_attention_layernorm.weight": mx.ones(HIDDEN),
        **{f"{layer}.self_attn.{n}_proj.weight": mx.zeros(s) for n, s in attention.items()},
        **{f"{layer}.mlp.{n}_proj.weight": mx.zeros(square) for n in ("gate", "up", "down")},
    }
