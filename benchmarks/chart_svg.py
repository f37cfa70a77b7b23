"""Small charts as SVG that needs nothing else: lines over numbers, bars over words.

In: a `Chart`. Out: SVG text, readable in a light and a dark browser.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

WIDTH, PANEL_HEIGHT = 860, 270
LEFT, RIGHT, TOP, BOTTOM, GAP = 58, 18, 34, 44, 26
LINE_HEIGHT, HEAD = 20, 34
CHAR = 6.6
"""Width of a letter of 12 px, so that the legend knows when to begin another line."""
LOG_SPAN = 12.0
"""With a largest value over so many times the smallest, an axis is logarithmic."""
FEWEST_TICKS = 4
STYLE = """\
svg { font: 12px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
.back { fill: #ffffff; } .text { fill: #1f2328; } .soft { fill: #59636e; }
.title { font-size: 15px; font-weight: 600; } .panel { font-weight: 600; }
.mid { text-anchor: middle; } .right { text-anchor: end; }
.grid { stroke: #d1d9e0; } .axis { stroke: #818b98; } .one { stroke: #59636e; }
.line { fill: none; stroke-width: 2; } .alone { stroke-dasharray: 6 4; stroke-width: 1.5; }
.value { font-size: 11px; text-anchor: middle; } .part { fill-opacity: 0.45; }
@media (prefers-color-scheme: dark) {
.back { fill: #0d1117; } .text { fill: #f0f6fc; } .soft { fill: #9198a1; }
.grid { stroke: #2a313a; } .axis { stroke: #656c76; } .one { stroke: #9198a1; }
}"""


@dataclass(frozen=True, slots=True)
class Look:
    """How a series is drawn.

    Attributes:
        name: In the legend.
        light, dark: Colours for the two kinds of browser.
        alone: A broken line; with one point, across the panel, as it holds for all x.
    """

    name: str
    light: str
    dark: str
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A point: its place on the x axis, its value, and whether all is in it (else it is hollow)."""

    x: str
    y: float
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Panel:
    """A part of a chart with axes of its own.

    Attributes:
        title: Above it.
        x_name: Under it.
        xs: The places on the x axis, evenly spaced.
        series: Points by the key of a look.
        bars: Bars side by side in the place of lines.
        one: Whether to draw a line at 1.
    """

    title: str
    x_name: str
    xs: Sequence[str]
    series: dict[str, list[Mark]]
    bars: bool = False
    one: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture.

    Attributes:
        title, note: Above and below the panels.
        panels: Side by side, so many in a row as `columns`.
        looks: By key; the legend has those that are drawn, in this order.
    """

    title: str
    note: str
    panels: Sequence[Panel]
    looks: dict[str, Look] = field(default_factory=dict[str, Look])
    columns: int = 2


def draw(chart: Chart) -> str:
    """The SVG of a chart."""
    used = [key for key in chart.looks if any(key in panel.series for panel in chart.panels)]
    as_bars = all(panel.bars for panel in chart.panels)
    legend, legend_height = draw_legend([(key, chart.looks[key]) for key in used], as_bars=as_bars)
    columns = min(chart.columns, len(chart.panels))
    width = (WIDTH - GAP * (columns - 1)) / columns
    body: list[str] = []
    for number, panel in enumerate(chart.panels):
        row, column = divmod(number, columns)
        x, y = column * (width + GAP), HEAD + legend_height + row * PANEL_HEIGHT
        body.append(f'<g transform="translate({x:.0f} {y:.0f})">')
        body += draw_panel(panel, chart.looks, width)
        body.append("</g>")
    rows = math.ceil(len(chart.panels) / columns)
    bottom = HEAD + legend_height + rows * PANEL_HEIGHT
    notes = wrap(chart.note, int((WIDTH - 24) / CHAR))
    height = bottom + LINE_HEIGHT * len(notes) + 8
    body += [
        label("soft", 12, bottom + 12 + LINE_HEIGHT * i, words) for i, words in enumerate(notes)
    ]
    rules = "".join(colours(key, chart.looks[key]) for key in used)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" aria-label="{escape(chart.title)}">'
    )
    back = f'<rect class="back" width="{WIDTH}" height="{height}" rx="6"/>'
    title = label("text title", 12, 24, chart.title)
    parts = [head, f"<style>{STYLE}{rules}</style>", back, title, *legend, *body, "</svg>\n"]
    return "\n".join(parts)


def colours(key: str, look: Look) -> str:
    """The rules of a series' colour."""
    return (
        f"\n.s-{key} {{ stroke: {look.light}; }} .f-{key} {{ fill: {look.light}; }}"
        f"\n@media (prefers-color-scheme: dark) {{ .s-{key} {{ stroke: {look.dark}; }} "
        f".f-{key} {{ fill: {look.dark}; }} }}"
    )


def draw_legend(looks: Sequence[tuple[str, Look]], *, as_bars: bool) -> tuple[list[str], int]:
    """The legend under the title, and its height."""
    x, y, parts = 12.0, HEAD + 10, list[str]()
    for key, look in looks:
        width = 34 + CHAR * len(look.name) + 12
        if x + width > WIDTH:
            x, y = 12.0, y + LINE_HEIGHT
        kind = "line alone" if look.alone else "line"
        across = line(f"{kind} s-{key}", x, y, x + 26, y)
        parts.append(box(f"f-{key}", x + 6, y - 6, 14, 12) if as_bars else across)
        parts.append(label("text", x + 32, y + 4, look.name))
        x += width
    return parts, y - HEAD + 12


def draw_panel(panel: Panel, looks: dict[str, Look], width: float) -> list[str]:
    """Axes and series of one panel, from its upper left corner."""
    values = [mark.y for marks in panel.series.values() for mark in marks]
    scale, ticks = make_axis([*values, 1.0] if panel.one else values, from_zero=panel.bars)
    x_from, x_to, y_to = LEFT, width - RIGHT, PANEL_HEIGHT - BOTTOM
    step = (x_to - x_from) / max(1, len(panel.xs))
    places = {x: x_from + step * (i + 0.5) for i, x in enumerate(panel.xs)}

    def height(value: float) -> float:
        return y_to - scale(value) * (y_to - TOP)

    parts = [label("text panel", 12, 18, panel.title)]
    for tick in ticks:
        y = height(tick)
        parts.append(line("grid", x_from, y, x_to, y))
        parts.append(label("soft right", x_from - 8, y + 4, number(tick)))
    parts += [label("soft mid", place, y_to + 18, x) for x, place in places.items()]
    parts.append(label("soft mid", (x_from + x_to) / 2, y_to + 36, panel.x_name))
    if panel.one:
        parts.append(line("one", x_from, height(1.0), x_to, height(1.0)))
    drawn = draw_bars if panel.bars else draw_lines
    parts += drawn(panel, looks, places, height)
    parts.append(line("axis", x_from, y_to, x_to, y_to))
    return parts


def draw_lines(
    panel: Panel,
    looks: dict[str, Look],
    places: dict[str, float],
    height: Callable[[float], float],
) -> Iterator[str]:
    """Each series as a line with points; what answers alone as a broken line across."""
    first, last = min(places.values()), max(places.values())
    for key in reversed([key for key in looks if key in panel.series]):
        marks = [mark for mark in panel.series[key] if mark.x in places]
        kind = f"line alone s-{key}" if looks[key].alone else f"line s-{key}"
        if looks[key].alone and len(marks) == 1:
            y = height(marks[0].y)
            yield line(kind, first, y, last, y)
            continue
        points = [(places[mark.x], height(mark.y)) for mark in marks]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline class="{kind}" points="{path}"/>'
        for mark, (x, y) in zip(marks, points, strict=True):
            fill = f"f-{key}" if mark.whole else "back"
            yield f'<circle class="{fill} s-{key}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'


def draw_bars(
    panel: Panel,
    looks: dict[str, Look],
    places: dict[str, float],
    height: Callable[[float], float],
) -> Iterator[str]:
    """The series side by side at each place, with their values."""
    there = {
        x: [(key, mark) for key in looks for mark in panel.series.get(key, ()) if mark.x == x]
        for x in places
    }
    xs = [*places.values()]
    step = min((b - a for a, b in pairwise(xs)), default=200.0)
    width = min(34.0, 0.8 * step / max(1, *map(len, there.values())))
    for x_name, marks in there.items():
        left = places[x_name] - width * len(marks) / 2
        for place, (key, mark) in enumerate(marks):
            x, y = left + place * width, height(mark.y)
            kind = f"f-{key}" if mark.whole else f"f-{key} part"
            yield box(kind, x + 1, y, width - 2, height(0.0) - y)
            yield label("value text", x + width / 2, y - 4, f"{mark.y:.2f}")


def make_axis(
    values: Sequence[float], *, from_zero: bool
) -> tuple[Callable[[float], float], list[float]]:
    """An axis for these values: where a value lies, from 0 to 1, and the ticks."""
    least, most = min(values, default=0.0), max(values, default=1.0)
    if not from_zero and least > 0 and most / least > LOG_SPAN:
        low, high = math.log10(least / 1.25), math.log10(most * 1.25)
        tens = range(math.floor(low), math.ceil(high) + 1)
        steps = [m * 10.0**ten for ten in tens for m in (1, 2, 5)]
        return (
            lambda value: (math.log10(value) - low) / (high - low),
            [step for step in steps if low <= math.log10(step) <= high],
        )
    top = most * 1.1 or 1.0
    unit = 10.0 ** math.floor(math.log10(top))
    step = next(u for u in (unit, unit / 2, unit / 5, unit / 10) if top / u >= FEWEST_TICKS)
    return (lambda value: value / top), [step * i for i in range(int(top / step) + 1)]


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight line."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def box(kind: str, x: float, y: float, width: float, height: float) -> str:
    """A filled rectangle."""
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
    )


def label(kind: str, x: float, y: float, words: str) -> str:
    """A line of text."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def number(value: float) -> str:
    """A tick as people write it."""
    return f"{value:,.0f}" if value >= FEWEST_TICKS or value == int(value) else f"{value:g}"


def wrap(text: str, columns: int) -> list[str]:
    """Lines of so many letters."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + len(word) < columns:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
