"""A step of `docflash train-drafter`: where its time goes, and the same step in PyTorch.

    uv run python benchmarks/training.py [--rows 64] [--anchors 32] [--length 640]

The target is the embedded model (or --model), the sequences are random tokens: what they say costs
nothing. Timed are the target's forward (once for `reuse` steps), a whole step (forward, loss,
backward, clipping, AdamW), and its forward alone. Where torch is installed the same step is timed
in it, straightforward: one masked attention over context and blocks, cross entropy at the drafted
slots, AdamW. (PyTorch gets the target's hidden states for nothing, in both.) Writes
benchmarks/training-DEVICE.json.
"""

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from machine import describe_surroundings

from pipeline.engine.loading.models import resolve_model
from pipeline.engine.machine.blas import engine_environment
from pipeline.engine.targets.target import Target
from pipeline.settings import EMBEDDED_MODEL
from pipeline.training.examples import Batches, Example, stack
from pipeline.training.features import Teacher
from pipeline.training.model import Draft, TrainableDrafter, new_parameters
from pipeline.training.recipe import Recipe
from pipeline.training.shape import new_shape, write_shape
from pipeline.training.trainer import begin, take_step

BEGUN = "DOCFLASH_BENCHMARK"


def main() -> None:
    options = read_options()
    recipe = Recipe(rows=options.rows, anchors=options.anchors, length=options.length)
    info = resolve_model(options.model)
    config_json = json.loads(Path(info.folder, "config.json").read_text("utf-8"))
    shape = new_shape(config_json, info, recipe, mask_token=0)
    config = write_shape(options.scratch, shape)
    teacher = Teacher(Target(info), config.target_layer_ids)
    drafter = TrainableDrafter(config, teacher)
    examples = make_examples(options.rows, options.length, options.answer, config.vocab_size)
    batches, batch = Batches(examples, options.rows, 1), stack(examples)
    tokens = mx.array(batch.tokens)
    features = teacher.look(tokens)
    mx.eval(features)
    blocks = batches.blocks(batch, 0, options.anchors, config.block_size, recipe.decay)
    draft = Draft(features, blocks)
    state = begin(new_parameters(config, 1))
    labels = int((blocks.weights > 0).sum())
    times = {
        "target_ms": clock(lambda: mx.eval(teacher.look(tokens)), options.repeats),
        "forward_ms": clock(
            lambda: mx.eval(drafter.loss(state.parameters, draft)), options.repeats
        ),
        "step_ms": clock(lambda: take_step(drafter, recipe, state, draft, 1000), options.repeats),
    }
    ours = rates(times, options, labels, recipe.reuse)
    report = {
        **describe_surroundings("mlx", "mlx-lm"),
        "device": str(mx.default_device()),
        "rows": options.rows,
        "anchors": options.anchors,
        "length": int(batch.tokens.shape[1]),
        "labels_of_a_step": labels,
        "mlx": ours,
    }
    if importlib.util.find_spec("torch"):
        from training_torch import time_step

        found = time_step(config, np.array(features.astype(mx.float32)), blocks, options.repeats)
        report["torch"] = found
        report["mlx_over_torch"] = round(found["step_ms"] / times["step_ms"], 3)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default=EMBEDDED_MODEL)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--anchors", type=int, default=32)
    parser.add_argument("--length", type=int, default=640, help="tokens of every sequence")
    parser.add_argument("--answer", type=int, default=160, help="of which so many are its answer")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/docflash-benchmark"))  # noqa: S108
    parser.add_argument("--device", default="cpu" if on_cpu() else "gpu", help="names the report")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.out = options.out or Path(__file__).with_name(f"training-{options.device}.json")
    return options


def on_cpu() -> bool:
    return mx.default_device() == mx.Device(mx.cpu)


def make_examples(rows: int, length: int, answer: int, vocabulary: int) -> list[Example]:
    chance = np.random.default_rng(0)
    return [
        Example(
            str(row), "", "", chance.integers(3, vocabulary, length).astype(np.int32),
            length - answer,
        )
        for row in range(rows)
    ]  # fmt: skip


def clock(run: Callable[[], Any], repeats: int) -> float:
    """The median of some runs, in milliseconds; the first two are not counted."""
    times: list[float] = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return round(float(np.median(times[2:])) * 1e3, 2)


def rates(
    times: dict[str, float], options: argparse.Namespace, labels: int, reuse: int
) -> dict[str, float]:
    """Labels and sequences' tokens per second of a training, the target's forward shared out."""
    step_s = (times["step_ms"] + times["target_ms"] / reuse) / 1e3
    return times | {
        "labels_per_s": round(labels / step_s),
        "context_tokens_per_s": round(options.rows * options.length / step_s),
        "peak_gib": round(mx.get_peak_memory() / (1 << 30), 2),
    }


if __name__ == "__main__":
    if BEGUN not in os.environ and (added := engine_environment()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | added | {BEGUN: "1"})  # noqa: S606
    main()
