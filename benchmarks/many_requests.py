"""Ten thousand requests through one engine core: each ends exactly once, and memory stays flat.

    uv run python benchmarks/many_requests.py [--requests 10000] [--rows 32] [--drafter FOLDER]

Requests of four tasks, with schemas among them, always twice as many waiting as running; one in
fifty is cancelled. Every thousandth end, the memory of the process and what MLX holds are noted.
Writes benchmarks/many_requests-DEVICE.json.
"""

import argparse
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import mlx.core as mx
import psutil
from engine import device_name
from engine_prompts import TASKS, Prompt, make_prompts
from machine import describe_surroundings

from pipeline.engine.core import Core
from pipeline.engine.interface import CoreOptions, Done, Event, Request, TextDelta
from pipeline.engine.loader import bound_cache
from pipeline.engine.loading.models import resolve_model
from pipeline.settings import EMBEDDED_MODEL

KV_BYTES = 8 << 30
CANCELLED = 0.02
PROMPTS = 64


class Run:
    """Feeds a core, and counts what comes back."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._info = resolve_model(EMBEDDED_MODEL)
        core_options = CoreOptions(
            max_rows=options.rows, kv_bytes=KV_BYTES, drafter=options.drafter, speculate=True
        )
        self._core = Core(self._info, core_options)
        bound_cache()  # as the engine does
        self._options = options
        self._left = options.requests
        self._open: set[str] = set()
        self._chance = random.Random(1)
        found = make_prompts(options.passages, PROMPTS, samples=options.passages is None)
        self._prompts = [prompt for task in TASKS for prompt in found[task]]
        self.ends: Counter[str] = Counter()
        self.tokens = 0
        self.memory: list[dict[str, int]] = []

    def go(self) -> None:
        """Runs until every request has ended."""
        every = max(1, self._options.requests // 10)
        while self._left or self._open:
            while self._left and len(self._open) < 3 * self._options.rows:
                self._submit()
            self._core.step()
            ended = len(self.ends)
            if ended // every > len(self.memory):
                self.memory.append({"ended": ended} | memory_mb())
                print(self.memory[-1], flush=True)

    def _submit(self) -> None:
        number = self._options.requests - self._left
        self._left -= 1
        prompt: Prompt = self._chance.choice(self._prompts)
        request = Request(
            f"r{number}",
            self._info.name,
            prompt.messages(str(number)),
            schema=prompt.schema,
            max_tokens=self._chance.randint(1, self._options.tokens),
            sampling=prompt.sampling,
        )
        self._open.add(request.id)
        self._core.submit(request, self._see)
        if self._chance.random() < CANCELLED:
            self._core.cancel(request.id)

    def _see(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            return
        done = isinstance(event, Done)
        name = event.completion.id if done else event.id
        self.ends[name] += 1
        self._open.discard(name)
        self.tokens += event.completion.completion_tokens if done else 0


def main() -> None:
    options = read_options()
    began = time.perf_counter()
    run = Run(options)
    run.go()
    report: dict[str, Any] = describe_surroundings("mlx", "mlx-lm") | {
        "device": options.device,
        "requests": options.requests,
        "rows": options.rows,
        "ended": len(run.ends),
        "ended_more_than_once": sum(count > 1 for count in run.ends.values()),
        "tokens": run.tokens,
        "seconds": round(time.perf_counter() - began),
        "memory": run.memory,
    }
    print({key: value for key, value in report.items() if key != "memory"})
    options.out.write_text(json.dumps(report, indent=1) + "\n")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=48, help="the most of an answer")
    parser.add_argument("--drafter", default="", help="folder of a DFlash checkpoint")
    parser.add_argument("--passages", type=Path, help='lines of {"text": ...}; else sample_docs')
    parser.add_argument("--device", default=device_name(), help="names the machine in the report")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.out = options.out or Path(__file__).with_name(f"many_requests-{options.device}.json")
    return options


def memory_mb() -> dict[str, int]:
    """Of the process, and what MLX holds and keeps for later."""
    return {
        "process_mb": psutil.Process().memory_info().rss >> 20,
        "mlx_mb": mx.get_active_memory() >> 20,
        "mlx_cache_mb": mx.get_cache_memory() >> 20,
    }


if __name__ == "__main__":
    main()
