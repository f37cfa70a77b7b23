"""Which forwards are worth measuring, and how they are timed.

In: a callable that runs one forward of a given shape and blocks until the device is done. Out:
milliseconds by shape, for `cost`. Knows nothing of mlx.
"""

from collections.abc import Callable, Iterable, Mapping

from pipeline.engine.planning.cost import CONTEXTS, ROWS, LatencyTable, Shape
from pipeline.engine.planning.widths import CHAIN_WIDTHS

REPEATS = 5
ENOUGH_S = 0.1
"""Repeated measurements of a point end after this long."""
WIDE_ROWS = 8
"""Widths that are for trees alone are run with so many rows at most."""


def plan_shapes(
    most_rows: int, most_context: int, widths: Iterable[int] = CHAIN_WIDTHS
) -> list[Shape]:
    """The points worth measuring, the most telling first.

    One context, every second row count at both ends of the widths; then the widths between; then
    the corners at the other contexts.
    """
    rows, contexts = _rows(most_rows), _contexts(most_context)
    usual = _usual(contexts)
    ordered = sorted(widths, key=(1, 16, 4, 8, 2).index)
    ends = ordered[:2]
    plan = [Shape(r, w, usual) for r in rows for w in ends]
    plan += [Shape(r, w, usual) for w in ordered[2:] for r in rows]
    others = [context for context in reversed(contexts) if context != usual]
    return plan + [
        Shape(r, w, c) for c in others for r in sorted({rows[0], rows[-1]}) for w in ends
    ]


def wide_shapes(most_rows: int, most_context: int, widths: Iterable[int]) -> list[Shape]:
    """Those of the widths that are for trees alone: their other points follow from these."""
    usual = _usual(_contexts(most_context))
    rows = [rows for rows in _rows(most_rows) if rows <= WIDE_ROWS]
    return [Shape(r, w, usual) for w in widths if w > CHAIN_WIDTHS[-1] for r in rows]


def _rows(most_rows: int) -> list[int]:
    every = [rows for rows in ROWS if rows <= most_rows]
    return sorted({*every[::2], every[-1]})


def _contexts(most_context: int) -> list[int]:
    return [context for context in CONTEXTS if context <= most_context] or [CONTEXTS[0]]


def _usual(contexts: list[int]) -> int:
    return contexts[min(1, len(contexts) - 1)]


def measure(
    run: Callable[[int, int, int], None],
    shapes: Iterable[Shape],
    budget_s: float,
    clock: Callable[[], float],
    known: Mapping[Shape, float] | None = None,
) -> dict[Shape, float]:
    """Times forwards, each after a warm-up call, as the least of a few.

    A point that by the others' times would not fit the rest of the budget is left out; the first
    is always measured, if nothing is known.

    Args:
        run: Runs a forward of (rows, width, context) and blocks until it is done.
        shapes: The points, the most telling first.
        budget_s: How long it may take, from the end of the first call, which
            compiles kernels: half a minute on some machines.
        clock: Seconds, rising.
        known: What was measured before, in milliseconds.

    Returns:
        Milliseconds by shape, those that were known included.
    """
    found = dict(known or {})
    began = clock()
    for shape in shapes:
        foretold_s = LatencyTable(found).predict(*shape) / 1e3 if found else 0.0
        if found and clock() - began + 3 * foretold_s > budget_s:
            continue
        run(*shape)
        started = clock()
        began = began if found else started
        best_s = float("inf")
        for i in range(REPEATS):
            before = clock()
            run(*shape)
            now = clock()
            best_s = min(best_s, now - before)
            if (i and now - started > ENOUGH_S) or now - began > budget_s:
                break
        found[shape] = max(best_s * 1e3, 1e-3)
    return found
