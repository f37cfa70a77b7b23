"""How much of a step is not hidden under the forward: scheduling, masks, choosing, Python.

    python benchmarks/host_share.py [--rows 1 8 32] [--passages FILE] [--out FILE]

The same answers are written twice. First every forward of a decoding step is run once more by
itself, from its launch to its logits: that is what a step can't do without. Then as always, where
the next plain forward begins before the host has seen the last one's tokens. What a step takes
longer than its bare forward is not hidden. Each task is asked with its schema and without, and what
the schema adds is the grammar's.
Our core without drafts, and with those that are copies or forced.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
from engine_prompts import Prompt, make_prompts
from engine_systems import KV_BYTES, Ours
from machine import describe_surroundings

from pipeline.engine.interface import CoreOptions
from pipeline.engine.loading.models import resolve_model
from pipeline.engine.machine.blas import serving_environment
from pipeline.engine.machine.heap import keep_for_good
from pipeline.engine.targets.target import Target
from pipeline.settings import EMBEDDED_MODEL

OUT = Path(__file__).with_suffix(".json")
TASKS = ("summary", "bullets", "entities")
BEGUN = "DOCFLASH_BENCHMARK_BEGUN"


class Bare:
    """Time of the forwards by themselves, and how many there were."""

    def __init__(self) -> None:
        self.seconds, self.count = 0.0, 0

    @contextmanager
    def watching(self) -> Generator[None]:
        """Runs every forward once more by itself, and times that."""
        original, goes_ahead = Target.forward, Target.goes_ahead

        def twice(target: Target, *given: Any) -> mx.array:
            began = time.perf_counter()
            mx.eval(original(target, *given))
            self.seconds += time.perf_counter() - began
            self.count += 1
            return original(target, *given)

        Target.forward = twice  # type: ignore[method-assign]
        Target.goes_ahead = False  # type: ignore[assignment]
        try:
            yield
        finally:
            Target.forward = original  # type: ignore[method-assign]
            Target.goes_ahead = goes_ahead  # type: ignore[method-assign]


def measure(system: Ours, prompts: list[Prompt], rows: int, tokens: int) -> dict[str, float]:
    """A step's times in ms: of the whole, of the bare forward, and what is not hidden."""
    system.answer(prompts, rows, tokens, nonce="warm")
    bare = Bare()
    with bare.watching():
        system.answer(prompts, rows, tokens, nonce="bare")
    answers = system.answer(prompts, rows, tokens, nonce="run")
    step = answers.decode_s / answers.steps * 1e3
    forward = bare.seconds / bare.count * 1e3
    return {
        "steps": answers.steps,
        "tokens": sum(answers.tokens),
        "step_ms": round(step, 3),
        "forward_ms": round(forward, 3),
        "not_hidden_ms": round(step - forward, 3),
        "not_hidden": round(1 - forward / step, 3),
    }


def main() -> None:
    """Measures, prints and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--passages", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    info = resolve_model(EMBEDDED_MODEL)
    most = max(options.rows)
    prompts = make_prompts(options.passages, most, samples=options.passages is None)
    report: dict[str, Any] = {**describe_surroundings("mlx", "llguidance"), "rows": {}}
    for name, speculate in (("plain", False), ("copies", True)):
        system = Ours(
            info, CoreOptions(max_rows=most, kv_bytes=KV_BYTES, speculate=speculate, drafter="")
        )
        keep_for_good()
        for rows in options.rows:
            for task in TASKS:
                asked = prompts[task][:rows]
                kinds = {"free": [dataclasses.replace(prompt, schema=None) for prompt in asked]}
                if asked[0].schema is not None:
                    kinds["schema"] = asked
                for kind, some in kinds.items():
                    found = measure(system, some, rows, options.tokens)
                    cells = report["rows"].setdefault(str(rows), {}).setdefault(name, {})
                    cells.setdefault(task, {})[kind] = found
                    print(rows, name, task, kind, found, flush=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    if BEGUN not in os.environ and (added := serving_environment(EMBEDDED_MODEL)):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | added | {BEGUN: "1"})  # noqa: S606
    main()
