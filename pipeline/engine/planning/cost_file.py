"""Measured step costs on disk, so that an engine's second start does not measure again.

One small JSON file per machine and model (the caller names it), readable by its user alone.
A file that is damaged, foreign or of another format is as good as none.
"""

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from pipeline.engine.planning.cost import Shape, StepCosts

FORMAT = 2


def to_json(costs: StepCosts) -> str:
    """The measured points; what was learnt while running is of that hour and is not kept."""
    tables = {"verify": costs.verify, "draft": costs.draft}
    points = {
        name: [[*shape, round(ms, 4)] for shape, ms in table.measured.items()]
        for name, table in tables.items()
    }
    return json.dumps({"format": FORMAT, **points})


def from_json(text: str) -> StepCosts:
    """The costs that `to_json` wrote.

    Raises:
        ValueError: It did not write this.
    """
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ValueError(f"format={data['format']!r} is not {FORMAT}")
        tables = [
            {Shape(rows, width, context): float(ms) for rows, width, context, ms in data[name]}
            for name in ("verify", "draft")
        ]
        if not tables[0]:
            raise ValueError("no step was measured")
        return StepCosts(*tables)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"these are no step costs: {error!r}") from error


def load_costs(path: Path) -> StepCosts | None:
    """The costs in a file, or None if they have to be measured."""
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def save_costs(costs: StepCosts, path: Path) -> None:
    """Writes the file whole or not at all.

    Raises:
        OSError: The folder can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # private from the start
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(to_json(costs))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
