"""The frame of a PDF page: what of its coordinates is seen, and how it is turned.

In: what a parser says of a page, or a process that may have been taken over by what it read. Out: a
`PageFrame`, or None where the figures make no page.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

MOST_POINTS = 1_000_000.0
"""A larger page, 350 m, is a mistake."""


@dataclass(frozen=True, slots=True)
class PageFrame:
    """The part of a page that is shown, in the coordinates that boxes have.

    Attributes:
        x0, y0: Its lower left corner in points, before the page is turned.
        x1, y1: Its upper right corner.
        rotation: Degrees by which the page is turned clockwise to be read: 0, 90, 180 or 270.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    rotation: int = 0

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in points, as the page is read."""
        width, height = self.x1 - self.x0, self.y1 - self.y0
        return (height, width) if self.rotation % 180 else (width, height)

    def turn(self, x: float, y: float) -> tuple[float, float]:
        """A point as the page is read: from its upper left corner to the right and down."""
        return {
            0: (x - self.x0, self.y1 - y),
            90: (y - self.y0, x - self.x0),
            180: (self.x1 - x, y - self.y0),
            270: (self.y1 - y, self.x1 - x),
        }[self.rotation]


def make_frame(corners: Sequence[Any], rotation: Any = 0) -> PageFrame | None:
    """A frame of any two corners that lie across, x before y; None if it is less than a point."""
    try:
        a, b, c, d = (float(side) for side in corners)
        turned = int(rotation) % 360
    except (TypeError, ValueError, OverflowError):
        return None
    x0, x1, y0, y1 = min(a, c), max(a, c), min(b, d), max(b, d)
    if not all(map(math.isfinite, (a, b, c, d))) or turned % 90:
        return None
    width, height = x1 - x0, y1 - y0
    if min(width, height) < 1 or max(width, height, abs(x0), abs(y0)) > MOST_POINTS:
        return None
    return PageFrame(round(x0, 2), round(y0, 2), round(x1, 2), round(y1, 2), turned)


def encode_frame(frame: PageFrame | None) -> list[float] | None:
    """A frame as JSON takes it."""
    return frame and list(astuple(frame))


def decode_frame(given: list[Any] | None) -> PageFrame | None:
    """The frame that `encode_frame` encoded.

    Raises:
        TypeError, IndexError: It is nothing like one.
    """
    return make_frame(given[:4], given[4]) if given else None
