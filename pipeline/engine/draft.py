"""Where drafts come from. The seam of speculation: draft -> verify -> accept.

A drafter proposes tokens for each running row; one forward of the target verifies them, and what
it would not have chosen itself is dropped, so a drafter changes the speed and never the answer.
"""

from collections.abc import Sequence
from typing import Protocol

from pipeline.engine.row import Row


class Drafter(Protocol):
    """Proposes the next tokens of each row."""

    def draft(self, rows: Sequence[Row]) -> list[list[int]]:
        """One proposal per row, each of any length, empty for plain decoding."""
        ...


class NoDrafter:
    """Plain decoding: every step verifies nothing and yields one token a row."""

    def draft(self, rows: Sequence[Row]) -> list[list[int]]:
        """An empty proposal for each row."""
        return [[] for _ in rows]
