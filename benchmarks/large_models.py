"""What a step of DFlash costs over a plain one at the dimensions of Qwen3-4B and Qwen3-8B.

    uv run python benchmarks/large_models.py [--models 4B 8B] [--bits 16 4] [--rows 1 4 8]

The weights are random: what a step costs does not depend on them, how much of a draft is accepted
does. So this measures, with the engine's own forward, draft and cache, the cost of (draft + verify
of 16) over a plain step; and divides the accepted tokens that the authors of DFlash publish for
Qwen3-4B (facts of other people, on other machines) by it: a projection, no measurement. The drafter
has its published dimensions: five layers of the target's own sizes, block 16. Writes
benchmarks/large_models-DEVICE.json.
"""

import argparse
import gc
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx
from engine import device_name
from machine import describe_surroundings
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.models import qwen3
from mlx_lm.utils import quantize_model, save_config, save_model

from pipeline.engine.drafters.drafter import Drafter
from pipeline.engine.drafters.drafter_config import read_config
from pipeline.engine.drafters.drafter_layers import Weights
from pipeline.engine.drafters.drafter_loader import load_drafter
from pipeline.engine.drafting.calibrate import pretend
from pipeline.engine.interface import ModelInfo
from pipeline.engine.targets.target import Target

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4,
             "num_key_value_heads": 2, "num_hidden_layers": 8, "tie_word_embeddings": True,
             "vocab_size": 4096, "head_dim": 64},
    "4B": {"hidden_size": 2560, "intermediate_size": 9728, "num_attention_heads": 32,
           "num_key_value_heads": 8, "num_hidden_layers": 36, "tie_word_embeddings": True},
    "8B": {"hidden_size": 4096, "intermediate_size": 12288, "num_attention_heads": 32,
           "num_key_value_heads": 8, "num_hidden_layers": 36, "tie_word_embeddings": False},
}  # fmt: skip
COMMON = {
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "rms_norm_eps": 1e-6,
    "vocab_size": 151936, "head_dim": 128, "rope_theta": 1e6, "max_position_embeddings": 40960,
}  # fmt: skip
PUBLISHED = {"GSM8K": 6.5, "MATH500": 7.8, "HumanEval": 6.6, "MT-Bench": 4.4, "Alpaca": 3.1}
"""Accepted tokens per verify of Qwen3-4B's drafter, greedy (DFlash, arXiv 2602.06036)."""
WIDTHS = (1, 2, 4, 8, 16, 32)
BLOCK, DRAFTER_LAYERS, GROUP = 16, 5, 64
TIMES, WARM = 15, 3
TOKEN = 100


def main() -> None:
    options = read_options()
    cells: list[dict[str, Any]] = []
    report = describe_surroundings("mlx", "mlx-lm") | {
        "device": options.device,
        "published_tokens_per_verify": PUBLISHED,
        "cells": cells,
    }
    if options.folder:
        Path(options.folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name in options.models:
            for bits in options.bits:
                made = Path(folder) / f"{name}-{bits}"
                write_models(made, COMMON | SIZES[name], bits)
                for cell in measure_model(made, options.rows, options.contexts):
                    cells.append({"model": name, "bits": bits} | cell)
                    print(json.dumps(cells[-1]), flush=True)
                    options.out.write_text(json.dumps(report, indent=1) + "\n")
                shutil.rmtree(made)
                gc.collect()
                mx.clear_cache()


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--models", nargs="+", choices=SIZES, default=["4B", "8B"])
    parser.add_argument("--bits", type=int, nargs="+", choices=(16, 8, 4), default=[16, 4])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--contexts", type=int, nargs="+", default=[512, 8000])
    parser.add_argument("--folder", help="for the weights: 16 GB for a 8B in 16 bits")
    parser.add_argument("--device", default=device_name(), help="names the machine in the report")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.out = options.out or Path(__file__).with_name(f"large_models-{options.device}.json")
    return options


def write_models(folder: Path, config: dict[str, Any], bits: int) -> None:
    """A target and a drafter with random weights, in the formats that are published."""
    started = time.perf_counter()
    target: Any = qwen3.Model(qwen3.ModelArgs.from_dict(config))
    target.set_dtype(mx.bfloat16)
    if bits < 16:
        target, config = quantize_model(target, config, GROUP, bits)
    save_model(folder / "target", target)
    save_config(dict(config), folder / "target" / "config.json")
    layers = int(config["num_hidden_layers"])
    drafter = config | {
        "architectures": ["DFlashDraftModel"],
        "num_hidden_layers": DRAFTER_LAYERS,
        "num_target_layers": layers,
        "block_size": BLOCK,
        "dflash_config": {
            "mask_token_id": TOKEN + 1,
            "target_layer_ids": [1 + i * (layers - 4) // 4 for i in range(5)],
        },
    }
    for name in ("quantization", "quantization_config"):
        drafter.pop(name, None)
    (folder / "drafter").mkdir()
    (folder / "drafter" / "config.json").write_text(json.dumps(drafter))
    weights: nn.Module = Weights(read_config(folder / "drafter"))
    weights.set_dtype(mx.bfloat16)
    found: Any = dict(tree_flatten(weights.parameters()))
    mx.save_safetensors(str(folder / "drafter" / "model.safetensors"), found)
    print(f"{folder.name} written in {time.perf_counter() - started:.0f} s", flush=True)


def measure_model(folder: Path, rows: list[int], contexts: list[int]) -> list[dict[str, Any]]:
    """The steps' milliseconds by rows and context."""
    info = ModelInfo(folder.name, str(folder / "target"), folder.name, 40960, "")
    plain = Target(info)
    plain_ms = {(r, c): time_verify(plain, r, 1, c) for r in rows for c in contexts}
    del plain
    gc.collect()
    target = Target(info)
    drafter = load_drafter(folder / "drafter", target)
    found: list[dict[str, Any]] = []
    for (r, c), alone in plain_ms.items():
        verify = {width: time_verify(target, r, width, c) for width in WIDTHS}
        draft = time_draft(target, drafter, r, c)
        ratio = (draft + verify[BLOCK]) / alone
        found.append({
            "rows": r,
            "context": c,
            "plain_ms": round(alone, 3),
            "draft_ms": round(draft, 3),
            "verify_ms": {str(width): round(ms, 3) for width, ms in verify.items()},
            "draft_and_verify_over_plain": round(ratio, 3),
            "projected_speed_up": {k: round(v / ratio, 2) for k, v in PUBLISHED.items()},
        })  # fmt: skip
    return found


def time_verify(target: Target, rows: int, width: int, context: int) -> float:
    """Milliseconds of a forward, with the choice of its tokens."""
    pretend(target.cache, rows, context)
    return median_ms(lambda: mx.eval(mx.argmax(target.forward([[TOKEN] * width] * rows), axis=-1)))


def time_draft(target: Target, drafter: Drafter, rows: int, context: int) -> float:
    """Milliseconds of a block of drafts."""
    pretend(target.cache, rows, context)
    # The drafter's context is laid out by the target's forward that it watches.
    mx.eval(target.forward([[TOKEN]] * rows))
    return median_ms(lambda: drafter.draft([TOKEN] * rows))


def median_ms(run: Callable[[], object]) -> float:
    times: list[float] = []
    for i in range(WARM + TIMES):
        before = time.perf_counter()
        run()
        times += [time.perf_counter() - before] if i >= WARM else []
    return 1e3 * median(times)


if __name__ == "__main__":
    main()
