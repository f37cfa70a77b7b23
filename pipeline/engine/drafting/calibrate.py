"""What a step costs on this machine: measured once per model, then read from the cache folder.

In: a loaded target and its drafter, with no rows. Out: tables of milliseconds by rows, width and
context, from which `Speculation` chooses drafts.
"""

import hashlib
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import mlx.core as mx

from pipeline.engine.choosing.sampling import likeliest_tokens
from pipeline.engine.drafters.drafter import Drafter
from pipeline.engine.drafters.growing import Beginning
from pipeline.engine.interface import CoreOptions, ModelInfo
from pipeline.engine.memory.cache import RaggedCache
from pipeline.engine.planning.cost import CONTEXTS, Shape, StepCosts
from pipeline.engine.planning.cost_file import load_costs, save_costs
from pipeline.engine.planning.cost_points import measure, plan_shapes, wide_shapes
from pipeline.engine.planning.widths import CHAIN_WIDTHS, WIDTHS
from pipeline.engine.targets.target import Target
from pipeline.engine.tree import branches_of, make_tree
from pipeline.settings import cache_folder

VERIFY_S, WIDE_S, DRAFT_S = 6.0, 1.0, 2.0
"""How long measuring may take: of verifies, of those that are for trees alone, of drafts."""
LONGEST_CONTEXT = 4096
BLOCK = WIDTHS[-1]
TOKEN = 0


def known_costs(
    model: ModelInfo,
    options: CoreOptions,
    target: Target,
    drafter: Drafter | None,
    progress: Callable[[str, float], None],
) -> StepCosts:
    """The costs of a model's steps: those of an earlier start, or measured now, in seconds.

    Args:
        model: The model, for its fingerprint.
        options: Bounds of the batch.
        target: The loaded model; it must hold no rows.
        drafter: The loaded drafter.
        progress: Told what is being done.
    """
    widths = _widths(drafter)
    parts = (
        model.fingerprint,
        options.drafter,
        str(options.max_rows),
        str(mx.default_device()),
        platform.machine(),
        platform.processor(),
        version("mlx"),
        _own_version(),  # an upgrade may make steps cheaper
        str(widths),
    )
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    path = cache_folder() / "costs" / f"{name}.json"
    costs = load_costs(path)
    if costs is None:
        progress("measuring how fast this machine is", 0.0)
        costs = _measure(model, options, target, drafter, widths)
        with suppress(OSError):  # then the next start measures again
            save_costs(costs, path)
    return costs


def _widths(drafter: Drafter | None) -> tuple[int, ...]:
    """The widths of a verify that may be run: the widest are for large trees alone."""
    most = max(CHAIN_WIDTHS[-1], 1 + drafter.largest_tree if drafter else 0)
    return tuple(width for width in WIDTHS if width <= most)


def _own_version() -> str:
    try:
        return version("docflash")
    except PackageNotFoundError:  # a folder of sources that is not installed
        return ""


def _measure(
    model: ModelInfo,
    options: CoreOptions,
    target: Target,
    drafter: Drafter | None,
    widths: tuple[int, ...],
) -> StepCosts:
    def fits(shape: Shape) -> bool:
        room = target.reserved_bytes(shape.rows, shape.context + BLOCK)
        return 2 * room <= options.kv_bytes or shape == Shape(1, 1, CONTEXTS[0])

    def verify(rows: int, width: int, context: int) -> None:
        pretend(target.cache, rows, context)
        likeliest_tokens(target.forward([[TOKEN] * width] * rows))

    longest = min(model.context_tokens - BLOCK, LONGEST_CONTEXT)
    shapes = filter(fits, plan_shapes(options.max_rows, longest))
    wide = filter(fits, wide_shapes(options.max_rows, longest, widths))
    narrow = filter(fits, plan_shapes(options.max_rows, longest, widths=(1,)))
    draft_ms: dict[Shape, float] = {}
    try:
        verify_ms = measure(verify, shapes, VERIFY_S, time.perf_counter)
        verify_ms = measure(verify, wide, WIDE_S, time.perf_counter, verify_ms)
        if drafter is not None:
            draft = partial(_draft, drafter, target.cache)
            draft_ms = measure(draft, narrow, DRAFT_S, time.perf_counter)
            _run_tree(target, drafter)
            _run_untapped(target)
    finally:
        target.cache.release()
        mx.clear_cache()
    return StepCosts(verify_ms, draft_ms)


def _draft(drafter: Drafter, cache: RaggedCache, rows: int, _width: int, context: int) -> None:
    pretend(cache, rows, context)
    drafter.draft([TOKEN] * rows)


def _run_tree(target: Target, drafter: Drafter) -> None:
    """Grows, runs and moves a tree: a GPU compiles what that needs, and nobody waits for it now."""
    if not drafter.largest_tree:
        return
    cache, context = target.cache, CONTEXTS[0]
    pretend(cache, 1, context)
    drafter.grow(drafter.begin([TOKEN], 3), [Beginning()], 3)
    tree = make_tree([TOKEN] * 3, (0, 0, 1))
    likeliest_tokens(target.forward([[TOKEN] * 4], branches_of([tree], 4)))
    cache.moves.copy_columns(cache.attention, [(0, context + 3, context + 2)])


def _run_untapped(target: Target) -> None:
    """Runs a step and a prompt that the drafter does not see: likewise."""
    target.tapping = False
    pretend(target.cache, 1, CONTEXTS[0])
    likeliest_tokens(target.forward([[TOKEN]]))
    target.prefill(0, [TOKEN] * 2)
    target.tapping = True


def pretend(cache: RaggedCache, rows: int, context: int) -> None:
    """Makes the cache hold so many rows of so many tokens, whatever they are."""
    if cache.rows != rows or cache.columns < context + BLOCK:
        cache.release()
        cache.resize(rows, context + BLOCK)
    cache.pretend(context)
