"""What the engine process needs of a core, how one is loaded, and the sum of their figures.

MLX is imported by the first load, in the engine's thread: its streams belong to a thread.
"""

import gc
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from pipeline.engine.interface import CoreOptions, EngineStats, Event, Request
from pipeline.engine.loading.models import resolve_model
from pipeline.engine.loading.shipped import drafter_of
from pipeline.engine.machine.heap import keep_for_good

NO_STATS = EngineStats(0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0, 0.0, 0, 0)
LIBRARY_SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "critical",
    "DO_NOT_TRACK": "1",
    "USE_TORCH": "0",
    "USE_TF": "0",
    "USE_FLAX": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
"""For mlx-lm's own imports: no network, no advice on standard error, no other framework loaded."""
CACHE_BYTES = 2 << 30
"""MLX's own limit is all memory that a GPU may use, and on a Mac that is everybody's: in 10,000
requests the cache came to 17.8 GB on a GPU of 140."""


class Core(Protocol):
    """What the thread needs of `pipeline.engine.core.Core`."""

    def submit(self, request: Request, on_event: Callable[[Event], None]) -> object:
        """Takes a request, or raises RequestError."""
        ...

    def cancel(self, request_id: str) -> None:
        """Ends a request with `Failed`."""
        ...

    def step(self) -> bool:
        """Does one round of work; False if there was none."""
        ...

    def stats(self) -> EngineStats:
        """What it is doing and has done."""
        ...


class CoreLoader(Protocol):
    """Makes cores; called in the engine thread."""

    def load(self, model: str, progress: Callable[[str, float], None]) -> Core:
        """Loads a model, or raises InputError."""
        ...

    def free(self) -> None:
        """Gives memory back after a core was dropped."""
        ...


class MlxLoader:
    """Loads mlx-lm model folders.

    Args:
        options: Bounds of each core; its drafter as for `drafter_of`.
    """

    def __init__(self, options: CoreOptions) -> None:
        self._options = options

    def load(self, model: str, progress: Callable[[str, float], None]) -> Core:
        """Loads a model.

        Raises:
            InputError: The model is missing, damaged, or of a kind that can't be served.
        """
        os.environ.update(LIBRARY_SETTINGS)
        info = resolve_model(model, progress)
        progress("loading the weights", 0.0)
        from pipeline.engine.core import Core as MlxCore

        drafter = drafter_of(info.name, self._options.drafter)
        core = MlxCore(info, replace(self._options, drafter=drafter), progress)
        bound_cache()
        keep_for_good()
        return core

    def free(self) -> None:
        """Gives MLX's unused buffers back to the system."""
        gc.unfreeze()  # the core may be part of a cycle
        gc.collect()
        if "mlx.core" in sys.modules:
            import mlx.core as mx

            mx.clear_cache()


def bound_cache() -> None:
    """Keeps MLX from holding more freed memory than `CACHE_BYTES` for later."""
    import mlx.core as mx

    before = mx.set_cache_limit(CACHE_BYTES)
    if before < CACHE_BYTES:  # as on a CPU
        mx.set_cache_limit(before)


def added_stats(past: EngineStats, now: EngineStats, waiting: int) -> EngineStats:
    """The present of `now` with the totals of both."""
    return replace(
        now,
        waiting=now.waiting + waiting,
        finished=past.finished + now.finished,
        failed=past.failed + now.failed,
        prompt_tokens=past.prompt_tokens + now.prompt_tokens,
        cached_tokens=past.cached_tokens + now.cached_tokens,
        completion_tokens=past.completion_tokens + now.completion_tokens,
        prefill_s=past.prefill_s + now.prefill_s,
        decode_s=past.decode_s + now.decode_s,
        steps=past.steps + now.steps,
    )


def totals_only(stats: EngineStats) -> EngineStats:
    """What stays of a core's figures once it is dropped."""
    return replace(stats, running=0, waiting=0, step_ms=0.0, kv_bytes=0, weights_bytes=0)
