"""What the cells of the engine's benchmark say over all tasks: one figure by rows and system.

In: the `cells` and `contexts` of an engine-DEVICE.json. Out: points to draw and figures to tell.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

OURS = ("drafter", "copies", "plain")
BATCHED = (*OURS, "mlx_lm_batch")
FIGURES = (
    "tokens_per_s",
    "decode_tokens_per_s",
    "per_verify",
    "first_token_ms",
    "from_row_ms",
    "own_peak_mb",
)
Cells = dict[str, dict[str, dict[str, dict[str, float]]]]
"""By rows, task, system and figure."""


@dataclass(frozen=True, slots=True)
class Point:
    """A figure of one system.

    Attributes:
        x: Rows, or tokens of context.
        y: The figure, over the tasks.
        whole: Whether all tasks of the report are in it.
    """

    x: int
    y: float
    whole: bool = True


Series = dict[str, list[Point]]
"""Points by system."""


def by_rows(cells: Cells, figure: str) -> Series:
    """A figure of every system by rows."""
    return gather((rows, name, task, cell.get(figure)) for rows, name, task, cell in fair(cells))


def ratios_by_rows(cells: Cells, peer: str, figure: str = "tokens_per_s") -> Series:
    """Ours over a peer's by rows, each task against the same task."""
    found: list[tuple[int, str, str, float | None]] = []
    for rows, name, task, cell in fair(cells):
        other = cells[str(rows)][task].get(peer, {})
        if name in OURS and name != peer and figure in other:
            found.append((rows, name, task, cell[figure] / other[figure]))
    return gather(iter(found))


def by_task(cells: Cells, rows: int, figure: str) -> dict[str, dict[str, float]]:
    """A figure by task and system, at so many rows."""
    return {
        task: {name: cell[figure] for name, cell in systems.items() if figure in cell}
        for task, systems in cells.get(str(rows), {}).items()
    }


def by_context(contexts: Cells, rows: int, figure: str) -> Series:
    """A figure of every system by tokens of context, at so many rows; `contexts` has no tasks."""
    found: Series = {}
    for context, by_number in in_order(contexts):
        for name, cell in by_number.get(str(rows), {}).items():
            if cell.get(figure):
                found.setdefault(name, []).append(Point(context, cell[figure]))
    return found


def context_ratios(contexts: Cells, rows: int, peer: str, figure: str = "tokens_per_s") -> Series:
    """Ours over a peer's by tokens of context."""
    values = {name: dict_of(points) for name, points in by_context(contexts, rows, figure).items()}
    other = values.get(peer, {})
    return {
        name: [Point(x, y / other[x]) for x, y in values[name].items() if x in other]
        for name in OURS
        if name != peer and other.keys() & values.get(name, {}).keys()
    }


def summarise(cells: Cells) -> dict[str, dict[str, dict[str, float]]]:
    """All figures by rows and system, each the geometric mean of the tasks."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for figure in FIGURES:
        for name, points in by_rows(cells, figure).items():
            for point in points:
                place = found.setdefault(str(point.x), {}).setdefault(name, {})
                place[figure] = round(point.y, 2)
    return found


def fair(cells: Cells) -> Iterator[tuple[int, str, str, dict[str, float]]]:
    """Rows, system, task and cell, without tasks that another batched system lacks at those rows.

    So where a run ended early, every system is judged by the same tasks. Those that answer one
    request at a time are not asked to be there.
    """
    for rows, tasks in in_order(cells):
        there = {name for systems in tasks.values() for name in systems if name in BATCHED}
        for task, systems in tasks.items():
            if there <= systems.keys():
                for name, cell in systems.items():
                    yield rows, name, task, cell


def gather(found: Iterator[tuple[int, str, str, float | None]]) -> Series:
    """The geometric mean of the tasks, by system and number of rows."""
    values: dict[str, dict[int, dict[str, float]]] = {}
    for rows, name, task, value in found:
        if value is not None and value > 0:
            values.setdefault(name, {}).setdefault(rows, {})[task] = value
    tasks = {task for by_x in values.values() for some in by_x.values() for task in some}
    return {
        name: [
            Point(x, geometric_mean(some.values()), some.keys() == tasks)
            for x, some in by_x.items()
        ]
        for name, by_x in values.items()
    }


def in_order(by_number: dict[str, Any]) -> list[tuple[int, Any]]:
    """What is kept under numbers, by number."""
    return sorted((int(number), value) for number, value in by_number.items())


def dict_of(points: list[Point]) -> dict[int, float]:
    """Figures by x."""
    return {point.x: point.y for point in points}
