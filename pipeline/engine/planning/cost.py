"""What a step costs: milliseconds of a forward by rows, width and context.

In: some measured forwards, then the time of every real step. Out: `StepCosts`, which foretells the
target's verify and the drafter's forward for any shape. Measured points are few (`cost_points`);
the others are filled in from their neighbours and corrected as steps are seen.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from math import log2
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.engine.planning.widths import WIDTHS

ROWS = (1, 2, 4, 8, 16, 32, 64)
CONTEXTS = (256, 1024, 4096, 8192)

RATE = 0.4
"""How much of a seen error is corrected at once."""
LARGEST_ERROR = 2.0
"""Errors are cut to a factor of four (log2): one wild step must not decide anything."""
RECENT = 5
"""Steps of a shape whose median counts, so that a pause of the machine does not."""
STALE = 1024
"""Observations after which a shape that was not run is no longer known well."""
FITS = 0.1
"""A prediction that is this near (log2) to what a shape took of late is known well."""
OWN = 0.5
"""A larger error (log2) of a shape that was well known is the machine's."""
CONFIRMING = 4
"""Steps of other shapes, the last ones, that show how busy the machine is."""
DOUBT = 0.2
"""When wide steps have moved the load by so much (log2), a plain step should say whether it is the
machine's, or their own: a schema's work on the host, for one. Plain decoding would else look slow.
"""
SETTLED = 0.1
"""Part of a correction that each observation makes lasting."""
AGEING = 256
"""Observations after which passing corrections that were not renewed are halved: what was slow
once, while the machine was busy, would else never be tried again."""


class Shape(NamedTuple):
    """A forward: tokens [rows, width] over `context` columns of keys and values."""

    rows: int
    width: int
    context: int


class LatencyTable:
    """Milliseconds by shape, in log-log coordinates, bilinear between the points of the grid.

    Args:
        measured: Milliseconds of points of the grid, any subset; with none, every shape costs
            1 ms until steps are seen.
        widths: The widths of the grid.

    Attributes:
        measured: As above.
        widest: The widest forward that was measured.

    Raises:
        ValueError: A point is not of the grid, or its time is not a positive number.
    """

    def __init__(self, measured: Mapping[Shape, float], widths: tuple[int, ...] = WIDTHS) -> None:
        grid = np.full((len(ROWS), len(widths), len(CONTEXTS)), np.nan)
        for (rows, width, context), ms in measured.items():
            if not 0 < ms < float("inf"):
                raise ValueError(f"a step can't take ms={ms!r}")
            place = ROWS.index(rows), widths.index(width), CONTEXTS.index(context)
            grid[place] = log2(ms)
        axes = [np.log2(np.array(axis, float)) for axis in (ROWS, widths, CONTEXTS)]
        filled = fill(grid, axes) if measured else np.zeros_like(grid)
        self.measured = dict(measured)
        self.widest = max((shape.width for shape in measured), default=1)
        self._widths = widths
        self._log: list[float] = filled.transpose(1, 0, 2).ravel().tolist()  # [W, R, C]
        self._shift = [0.0] * len(self._log)  # passing correction
        self._load = 0.0  # how much slower than when measured the machine is
        self._moved: dict[Shape, float] = {}  # the load, by wide steps since the last plain one
        self._fresh: set[int] = set()
        self._recent: dict[tuple[int, int], deque[float]] = {}
        self._last: dict[tuple[int, int], int] = {}
        self._known: set[tuple[int, int]] = set()
        self._seen: set[tuple[int, int]] = set()
        self._observed = 0
        self._latest: deque[tuple[tuple[int, int], bool]] = deque(maxlen=CONFIRMING)

    def predict(self, rows: int, width: int, context: int) -> float:
        """Milliseconds of a forward; a width between two of the grid costs the wider."""
        return self.predict_widths(rows, context)[self._width(width)]

    def predict_widths(self, rows: int, context: int) -> list[float]:
        """Milliseconds for every width of the grid, narrowest first."""
        corners, size = corners_of(rows, context), len(ROWS) * len(CONTEXTS)
        log, shift, load = self._log, self._shift, self._load
        return [
            2.0 ** (load + sum(part * (log[base + at] + shift[base + at]) for at, part in corners))
            for base in range(0, len(log), size)
        ]

    def knows(self, shape: Shape) -> bool:
        """Whether what a shape takes was foretold well of late."""
        return _place(shape, self._corners(shape)) in self._known

    def is_new(self, rows: int, width: int) -> bool:
        """Notes a shape; true the first time, when compiling is most of what is seen."""
        known = len(self._seen)
        self._seen.add((rows, width))
        return len(self._seen) > known

    def observe(self, shape: Shape, ms: float) -> None:
        """Corrects the table by what a real step took.

        The prediction moves to the lower median of what the shape took of late, by `RATE` of the
        way and of no more than `LARGEST_ERROR`. Where the shape was well known, it is the machine
        that is busier or hotter, and all shapes are corrected, unless the error is small and other
        shapes have just shown that it is not; else the corners that it came from share the
        correction (the delta rule). What wide steps correct so is in doubt until a plain one came.
        """
        corners = self._corners(shape)
        if shape.width == 1:
            self._ask_plain(log2(ms) - self._load - self._known_log(corners))
        place = _place(shape, corners)
        recent = self._recent_times(place)
        recent.append(log2(ms) - self._load)
        if len(recent) == 1:  # nothing to judge it by
            return
        middle = sorted(recent)[(len(recent) - 1) // 2]
        error = middle - self._known_log(corners)
        error = RATE * min(max(error, -LARGEST_ERROR), LARGEST_ERROR)
        own = abs(error) < RATE * OWN and self._is_confirmed(place)
        self._latest.append((place, abs(error) < RATE * FITS))
        if place in self._known and not own:
            self._load += error
            if shape.width > 1:
                self._moved[shape] = self._moved.get(shape, 0.0) + error
            self._recent[place] = deque((ms - error for ms in recent), maxlen=RECENT)
            error = 0.0
        elif len(recent) == RECENT and abs(error) < RATE * FITS:
            self._known.add(place)
        self._correct(corners, error)

    @property
    def doubts(self) -> bool:
        """Whether a plain step should be run to tell whose the slowness of wide ones is."""
        return sum(self._moved.values()) > DOUBT

    def _ask_plain(self, error: float) -> None:
        """Gives wide steps back what they have moved the load by, as far as it is not there.

        A plain step that is faster than foretold is no accident; one that is slower may be.
        """
        moved = sum(self._moved.values())
        back = min(-error, moved) if error < -DOUBT / 2 else 0.0
        if back > 0:
            self._load -= back
            for shape, part in self._moved.items():
                self._correct(self._corners(shape), back * part / moved)
        self._moved.clear()

    def _corners(self, shape: Shape) -> list[tuple[int, float]]:
        base = self._width(shape.width) * len(ROWS) * len(CONTEXTS)
        return [(base + at, part) for at, part in corners_of(shape.rows, shape.context)]

    def _known_log(self, corners: list[tuple[int, float]]) -> float:
        return sum(part * (self._log[at] + self._shift[at]) for at, part in corners)

    def _is_confirmed(self, place: tuple[int, int]) -> bool:
        """Whether the last steps were of other shapes and took what was foretold of them."""
        full = len(self._latest) == CONFIRMING
        return full and all(fits and other != place for other, fits in self._latest)

    def _recent_times(self, shape: tuple[int, int]) -> deque[float]:
        """What a shape took at its last steps without the load, if they are not long ago."""
        self._observed += 1
        if self._observed % AGEING == 0:
            self._age()
        if self._observed - self._last.get(shape, 0) > STALE:
            self._recent[shape] = deque(maxlen=RECENT)
            self._known.discard(shape)
        self._last[shape] = self._observed
        return self._recent.setdefault(shape, deque(maxlen=RECENT))

    def _correct(self, corners: list[tuple[int, float]], correction: float) -> None:
        norm = sum(part * part for _, part in corners)
        for at, part in corners:
            self._shift[at] += correction * part / norm
            lasting = SETTLED * self._shift[at]
            self._log[at] += lasting
            self._shift[at] -= lasting
            self._fresh.add(at)

    def _age(self) -> None:
        for at in range(len(self._shift)):
            if at not in self._fresh:
                self._shift[at] /= 2
        self._fresh.clear()

    def _width(self, width: int) -> int:
        wide_enough = [i for i, w in enumerate(self._widths) if w >= width]
        return wide_enough[0] if wide_enough else len(self._widths) - 1


class StepCosts:
    """The costs of one model on one machine.

    Args:
        verify: Measured forwards of the target.
        draft: Measured forwards of the drafter, by (rows, 1, context): its block has one width.
    """

    def __init__(
        self, verify: Mapping[Shape, float], draft: Mapping[Shape, float] | None = None
    ) -> None:
        self.verify = LatencyTable(verify)
        self.draft = LatencyTable(draft or {}, widths=(1,))

    def meet(self, shape: Shape, *, drafted: bool) -> bool:
        """Notes that a shape is run; true the first time."""
        new = self.verify.is_new(shape.rows, shape.width)
        return (drafted and self.draft.is_new(shape.rows, 1)) or new

    def observe(self, shape: Shape, ms: float, *, drafted: bool = False) -> None:
        """Keeps the tables current; the first step of a shape is left out (it compiles).

        Args:
            shape: Rows, width and context of the verify.
            ms: What the step took.
            drafted: Whether `ms` includes a forward of the drafter. Both run without a pause
                between them, so their sum is all that is known: the error is shared in proportion,
                once the verify is known well. Before, what is too much is the drafter's: its tokens
                take the host longer than copies, and those should not look dear.
        """
        if self.meet(shape, drafted=drafted) or not 0 < ms < float("inf"):
            return
        verify_ms = self.verify.predict(*shape)
        draft_ms = self.draft.predict(shape.rows, 1, shape.context) if drafted else 0.0
        ratio = ms / (verify_ms + draft_ms)
        if drafted and ratio > 1 and not self.verify.knows(shape):
            ratio = (ms - verify_ms) / draft_ms
        else:
            self.verify.observe(shape, verify_ms * ratio)
        if drafted:
            self.draft.observe(Shape(shape.rows, 1, shape.context), draft_ms * ratio)


def _place(shape: Shape, corners: list[tuple[int, float]]) -> tuple[int, int]:
    """What a shape's times are kept under: the nearest of its corners, and its rows."""
    return max(corners, key=lambda corner: corner[1])[0], shape.rows


def corners_of(rows: int, context: int) -> list[tuple[int, float]]:
    """The points of a [rows, context] plane around a place, flat, with their shares."""
    row, row_part = _between(ROWS, rows)
    column, column_part = _between(CONTEXTS, context)
    found: list[tuple[int, float]] = []
    for i, share in ((row, 1 - row_part), (row + 1, row_part)):
        for j, part in ((column, 1 - column_part), (column + 1, column_part)):
            if share * part > 0:
                found.append((i * len(CONTEXTS) + j, share * part))
    return found


def _between(axis: tuple[int, ...], value: int) -> tuple[int, float]:
    """The point of an axis at or below a value, and how far the value is on to the next, 0..1."""
    value = min(max(value, axis[0]), axis[-1])
    low = min(bisect_right(axis, value) - 1, len(axis) - 2)
    return low, log2(value / axis[low]) / log2(axis[low + 1] / axis[low])


def fill(grid: NDArray[np.float64], axes: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Fills the unknown (NaN) points of a grid of log times that has at least one known.

    The slice of the last axis that knows most is filled by itself; others that know something are
    filled as differences to it, so that a few points carry its whole form over; those that know
    nothing are interpolated between.
    """
    if grid.ndim == 1:
        return _fill_line(grid, axes[0])
    known = (~np.isnan(grid)).reshape(-1, grid.shape[-1]).sum(axis=0)
    most = int(known.argmax())
    filled = np.full_like(grid, np.nan)
    filled[..., most] = fill(grid[..., most], axes[:-1])
    for i in np.flatnonzero(known):
        if i != most:
            rest = fill(grid[..., i] - filled[..., most], axes[:-1])
            filled[..., i] = filled[..., most] + rest
    return np.apply_along_axis(_fill_line, -1, filled, axes[-1])


def _fill_line(values: NDArray[np.float64], axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Straight lines between known points; past the last, its slope, from flat to in proportion."""
    known = np.flatnonzero(~np.isnan(values))
    filled = np.interp(axis, axis[known], values[known])
    if len(known) > 1:
        before, last = known[-2:]
        slope = (values[last] - values[before]) / (axis[last] - axis[before])
        filled[last:] = values[last] + min(max(slope, 0.0), 1.0) * (axis[last:] - axis[last])
    return filled
