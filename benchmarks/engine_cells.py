"""The cells of the engine's benchmark, by rows and task or by context, and their prompts."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from engine_prompts import Prompt, make_long_prompts

SECTIONS = ("rates", "contexts", "lossless")
FEWEST = 4
"""Requests of a cell, at least."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cell stands in the report: `keys` lead there."""

    rows: int
    label: str
    keys: tuple[str, ...]


def cells_of(
    options: argparse.Namespace, prompts: dict[str, list[Prompt]]
) -> Iterator[tuple[Place, list[Prompt]]]:
    """The report's cells and the prompts to choose from."""
    if "rates" in options.sections:
        for rows in options.rows:
            for task in options.tasks:
                yield Place(rows, task, ("cells", str(rows), task)), prompts[task]
    if "contexts" in options.sections:
        count = wanted_prompts(max(options.rows), options.turns)
        for tokens in options.contexts:
            found = make_long_prompts(options.passages, tokens, count, samples=options.samples)
            for rows in options.rows:
                yield Place(rows, f"{tokens} tokens", ("contexts", str(tokens), str(rows))), found


def wanted_prompts(rows: int, turns: int) -> int:
    """Requests of a cell with so many rows: so many for each row.

    If they were few, rows that end sooner thanks to drafts would leave the longest answers alone.
    """
    return max(turns * rows, FEWEST)
