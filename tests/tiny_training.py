"""A target that can be learnt in seconds: each token has one that follows it, whatever was before.

Its answers are long, do not loop, and are easy to foretell for whoever has seen some of them.
"""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from pipeline.engine.interface import ModelInfo
from pipeline.engine.loading.models import resolve_model
from pipeline.engine.targets.target import Target
from pipeline.prompts import load_tasks
from pipeline.training.examples import Example
from pipeline.training.features import Teacher
from pipeline.training.recipe import Recipe
from pipeline.training.variants import ASKED, WORDS
from tests.tiny import write_tokenizer
from tests.tiny_hybrid import VOCABULARY, write_model

CONTEXT = 4096
FIRST, END = 3, 2  # what is below are control tokens
CHAIN = list(range(40, 500, 20))
"""What answers are made of."""
TEXT = (
    "the invoice total amount is due within thirty days of receipt and payment may be made by "
    "transfer to account number please quote our reference in all letters meeting minutes were "
    "taken agreed that next review takes place on Monday budget approved without changes"
)
RECIPE = Recipe(
    layers=1,
    block=4,
    taps=2,
    rows=4,
    anchors=8,
    reuse=2,
    length=2048,
    steps=60,
    learning_rate=3e-3,
    markov_rank=16,
)


def follower(token: int) -> int:
    """The token that comes after a token: all lead into one chain, which ends."""
    place = CHAIN.index(token) + 1 if token in CHAIN else token % (len(CHAIN) - 3)
    return END if place == len(CHAIN) else CHAIN[place]


def write_followers(folder: Path, kind: str = "llama", *, layers: int = 2) -> Path:
    """Such a model, of mlx-lm's `model_type` kind; its layers add nothing."""
    write_model(folder, kind)
    tasks = [f"{task.system} {task.instructions}" for task in load_tasks()]
    # It knows the words that it is asked in: prompts of single bytes would be three times as long.
    write_tokenizer(folder, VOCABULARY, [f"{TEXT} {TEXT.title()}", *ASKED, *WORDS, *tasks])
    path = folder / "model.safetensors"
    tensors: Any = mx.load(str(path))
    mx.eval(tensors)
    kept = {n: v for n, v in tensors.items() if _layer(n) < layers}
    for name, value in kept.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            kept[name] = mx.zeros(value.shape)
    # Tokens with the same follower look alike, and its row of the head is what they look like.
    chance = np.random.default_rng(5)
    looks = chance.standard_normal((VOCABULARY, kept["lm_head.weight"].shape[1]))
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    embedding = looks[[follower(token) for token in range(VOCABULARY)]]
    embedding += 0.02 * chance.standard_normal(looks.shape)
    head = np.zeros_like(looks)
    followers = sorted({follower(token) for token in range(VOCABULARY)})
    head[followers] = looks[followers]
    kept["model.embed_tokens.weight"] = mx.array(embedding.astype(np.float32))
    kept["model.norm.weight"] = mx.ones(kept["model.norm.weight"].shape)
    kept["lm_head.weight"] = mx.array((head * 2).astype(np.float32))
    mx.save_safetensors(str(path), kept)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    changed = config | {"num_hidden_layers": layers, "max_position_embeddings": CONTEXT}
    (folder / "config.json").write_text(json.dumps(changed), encoding="utf-8")
    return folder


def _layer(name: str) -> int:
    parts = name.split(".")
    return int(parts[2]) if parts[1] == "layers" else -1


def info_of(folder: Path) -> ModelInfo:
    return resolve_model(str(folder))


def teacher_of(folder: Path, layer_ids: tuple[int, ...] = (0, 1), *, soft: bool = False) -> Teacher:
    return Teacher(Target(info_of(folder)), layer_ids, soft=soft)


def make_examples(count: int, *, seed: int = 0, kind: str = "summary") -> list[Example]:
    """Sequences as that target would write them."""
    chance = np.random.default_rng(seed)
    found: list[Example] = []
    for number in range(count):
        prompt = chance.integers(FIRST, VOCABULARY, int(chance.integers(5, 30))).tolist()
        tokens = list(prompt)
        while len(tokens) < len(prompt) + 40 and tokens[-1] != END:
            tokens.append(follower(tokens[-1]))
        array = np.array(tokens, np.int32)
        if len(tokens) > len(prompt):
            found.append(Example(f"{seed}-{number}", kind, f"s{number}", array, len(prompt)))
    return found


def write_documents(folder: Path, count: int = 6, *, words: int = 120) -> Path:
    """Small text files, all different."""
    chance = np.random.default_rng(7)
    folder.mkdir(parents=True)
    for number in range(count):
        lines = [
            " ".join(chance.choice(TEXT.split(), 10)).capitalize() + "." for _ in range(words // 10)
        ]
        (folder / f"{number}.txt").write_text(f"Letter {number}\n\n" + "\n".join(lines), "utf-8")
    return folder
