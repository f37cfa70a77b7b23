"""Draws what `engine.py` measured, and says it as rows of a table.

    uv run python benchmarks/engine_chart.py [engine-DEVICE.json ...] [--out docs] [--table]

Each report of benchmarks/ (or those named) becomes docs/engine-DEVICE-*.svg: tokens per second,
ratios, accepted per verify, time to first token and memory, by rows and, where they were measured,
by context. --table draws nothing, and prints rows for "Figures" in the README.
"""

import argparse
import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from chart_svg import Chart, Look, Mark, Panel, draw
from engine_summary import (
    BATCHED,
    OURS,
    Series,
    by_context,
    by_rows,
    by_task,
    context_ratios,
    in_order,
    ratios_by_rows,
)

HERE = Path(__file__).parent
LOOKS = {
    "drafter": Look("docflash, drafter", "#0969da", "#58a6ff"),
    "copies": Look("docflash, free drafts", "#1a7f5a", "#3fb88a"),
    "plain": Look("docflash, no drafts", "#7a4fc0", "#b794f4"),
    "mlx_lm_batch": Look("mlx-lm batch_generate", "#bc4c00", "#f0883e"),
    "mlx_lm_serial": Look("mlx-lm generate", "#a0720a", "#d9ab3c", alone=True),
    "dflash": Look("dflash", "#cf222e", "#ff7b72", alone=True),
    "dflash_mlx": Look("dflash-mlx", "#8a5a44", "#c99a80", alone=True),
    "mlx_dspark": Look("mlx-dspark", "#bf3989", "#f778ba", alone=True),
    "llama_cpp": Look("llama.cpp", "#59636e", "#9aa4af", alone=True),
}
RATED = {"mlx_lm_serial": "mlx-lm's `generate`", "mlx_lm_batch": "mlx-lm's `batch_generate`",
         "plain": "our plain decoding", "dflash": "`dflash`", "dflash_mlx": "`dflash-mlx`",
         "mlx_dspark": "`mlx-dspark`", "llama_cpp": "llama.cpp"}  # fmt: skip
DRAFTING = ("drafter", "copies", "dflash", "dflash_mlx", "mlx_dspark")
TOLD = {
    "tokens_per_s": ("tokens/s", 1),
    "per_verify": ("tokens a verify", 2),
    "first_token_ms": ("first token with the wait, ms", 0),
    "from_row_ms": ("first token from a free row, ms", 0),
    "own_peak_mb": ("memory, MB", 0),
}
ONE_BY_ONE = tuple(name for name, look in LOOKS.items() if look.alone)
ROWS, CONTEXT = "rows", "tokens of context"


@dataclass(frozen=True, slots=True)
class Kind:
    """A figure that has a chart of its own.

    Attributes:
        name: In the chart's file name.
        figure: Its key in a cell.
        title: What is drawn, and in what.
        note: What to know of it.
        systems: Whose it is; if none of ours has it, nothing is drawn.
    """

    name: str
    figure: str
    title: str
    note: str
    systems: Sequence[str] = tuple(LOOKS)

    def among(self, series: Series) -> Series:
        """The series that are drawn."""
        if not any(name in series for name in OURS):
            return {}
        return {name: points for name, points in series.items() if name in self.systems}


KINDS = (
    Kind("speed", "tokens_per_s", "Tokens per second, prompts included",
         "All requests come at once."),
    Kind("first-token", "first_token_ms", "Time to the first token with the wait, in ms",
         "All requests come at once, so most wait for a free row.", BATCHED),
    Kind("first-token-alone", "from_row_ms", "Time from a free row to the first token, in ms",
         "batch_generate does not tell when it takes a request up.", (*OURS, *ONE_BY_ONE)),
    Kind("memory", "own_peak_mb", "Peak memory, in MB",
         "What MLX held for the system: weights, keys, values, work; llama.cpp: its process."),
)  # fmt: skip
PART = "Hollow or pale: not all tasks were measured there."
FREE = "Free drafts: forced by the schema, or copied from the prompt."
MEAN = "The geometric mean of the tasks."
BROKEN = "Broken lines: one request at a time."
ALONE = "Broken lines, and bars at 1 row only: one request at a time, whatever the rows."


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("reports", type=Path, nargs="*", default=sorted(HERE.glob("engine-*.json")))
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs")
    parser.add_argument("--table", action="store_true", help="print rows for the README instead")
    options = parser.parse_args()
    if not options.reports:
        parser.error(f"there is no engine-*.json in {str(HERE)!r}; run benchmarks/engine.py first")
    for report in options.reports:
        data: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        if options.table:
            print("\n".join(make_table(report.name, data)))
            continue
        options.out.mkdir(parents=True, exist_ok=True)
        for name, drawn in draw_report(data):
            file = options.out / f"{report.stem}-{name}.svg"
            file.write_text(drawn, encoding="utf-8")
            print(f"{file}: {file.stat().st_size / 1000:.0f} KB")


def draw_report(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The SVG of every chart with a name for its file; what the report notes stands in each."""
    for name, chart in make_charts(data):
        note = f"{chart.note} {data.get('note', '')}"
        yield name, draw(dataclasses.replace(chart, note=note))


def make_charts(data: dict[str, Any]) -> Iterator[tuple[str, Chart]]:
    """Every chart that the report has figures for, with a name for its file."""
    cells, contexts = data.get("cells", {}), data.get("contexts", {})
    where = f"{data['device']}, at most {data['most_answer_tokens']} tokens an answer"
    for kind in KINDS:
        series = kind.among(by_rows(cells, kind.figure))
        if series:
            title, note = f"{kind.title}: {where}", notes(f"{kind.note} {MEAN}", [series])
            yield kind.name, Chart(title, note, [panel("", ROWS, series)], LOOKS)
        found = [kind.among(by_context(contexts, n, kind.figure)) for n in context_rows(contexts)]
        if any(found):
            panels = [
                panel(rows_title(n), CONTEXT, some)
                for n, some in zip(context_rows(contexts), found, strict=True)
            ]
            note = f"{kind.note} {BROKEN}"
            yield f"context-{kind.name}", Chart(f"{kind.title}: {where}", note, panels, LOOKS)
    yield from ratio_charts(cells, contexts, where)
    yield from accepted_charts(cells, contexts, where)


def ratio_charts(
    cells: dict[str, Any], contexts: dict[str, Any], where: str
) -> Iterator[tuple[str, Chart]]:
    """How many times faster than plain decoding and than the best of mlx-lm."""
    peers = {"mlx_lm_batch": "over mlx-lm batch_generate", "plain": "over docflash without drafts"}
    title = f"Tokens per second, how many times as many: {where}"
    found = {peer: ratios_by_rows(cells, peer) for peer in peers}
    if any(found.values()):
        panels = [panel(peers[peer], ROWS, some, bars=True) for peer, some in found.items() if some]
        note = notes(f"{FREE} Each task against the same task, then the mean.", [*found.values()])
        yield "ratio", Chart(title, note, panels, LOOKS, columns=1)
    panels = [
        panel(f"{word}, {rows_title(n)}", CONTEXT, series, bars=True)
        for n in context_rows(contexts)
        for peer, word in peers.items()
        if (series := context_ratios(contexts, n, peer))
    ]
    if panels:
        yield "context-ratio", Chart(title, FREE, panels, LOOKS, columns=1)


def accepted_charts(
    cells: dict[str, Any], contexts: dict[str, Any], where: str
) -> Iterator[tuple[str, Chart]]:
    """What a forward of the target gives to a row: 1 without drafts."""
    title = f"Tokens per row and verify: {where}"
    note = "Tokens that a row gains by one forward of the target; 1 is decoding without drafts."
    first = min((rows for rows, _ in in_order(cells)), default=1)
    tasks = task_bars(rows_title(first), by_task(cells, first, "per_verify"))
    series = drafting(by_rows(cells, "per_verify"))
    if tasks.series:
        panels = [tasks, panel("mean of the tasks", ROWS, series, bars=True)]
        yield "accepted", Chart(title, notes(note, [series]), panels, LOOKS, columns=1)
    found = [(n, drafting(by_context(contexts, n, "per_verify"))) for n in context_rows(contexts)]
    panels = [panel(rows_title(n), CONTEXT, series, bars=True) for n, series in found if series]
    if panels:
        yield "context-accepted", Chart(title, note, panels, LOOKS, columns=1)


def drafting(series: Series) -> Series:
    """Those that draft."""
    return {name: points for name, points in series.items() if name in DRAFTING}


def panel(title: str, x_name: str, series: Series, *, bars: bool = False) -> Panel:
    """Lines over numbers, or bars with a line at 1."""
    xs = sorted({point.x for points in series.values() for point in points})
    marks = {
        name: [Mark(f"{point.x:,}", point.y, point.whole) for point in points]
        for name, points in series.items()
    }
    if x_name == ROWS:  # theirs don't depend on it
        marks = {n: some[:1] if LOOKS[n].alone else some for n, some in marks.items()}
    return Panel(title, x_name, [f"{x:,}" for x in xs], marks, bars=bars, one=bars)


def task_bars(title: str, tasks: dict[str, dict[str, float]]) -> Panel:
    """Bars over tasks, of those that draft."""
    series: dict[str, list[Mark]] = {}
    for task, systems in tasks.items():
        for name in DRAFTING:
            if name in systems:
                series.setdefault(name, []).append(Mark(task, systems[name]))
    drawn = {mark.x for marks in series.values() for mark in marks}
    xs = [task for task in tasks if task in drawn]
    return Panel(title, "task", xs, series, bars=True, one=True)


def notes(first: str, drawn: Sequence[Series]) -> str:
    """What stands under a chart."""
    points = [point for series in drawn for some in series.values() for point in some]
    alone = any(LOOKS[name].alone for series in drawn for name in series)
    more = [PART] * any(not point.whole for point in points) + [ALONE] * alone
    return " ".join([first, *more])


def context_rows(contexts: dict[str, Any]) -> list[int]:
    """The numbers of rows that were measured by context."""
    return sorted({int(rows) for by_number in contexts.values() for rows in by_number})


def rows_title(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows} rows"


def make_table(file: str, data: dict[str, Any]) -> Iterator[str]:
    """Rows for the README, each with the figure's place in the report; then what did not run."""
    yield "| what | measured |"
    yield "| --- | --- |"
    device = data["device"]
    for rows, _ in in_order(data.get("ratios", {})):
        for peer, word in RATED.items():
            if rows > 1 and LOOKS[peer].alone:
                continue
            key = f"ratios.{rows}.drafter_over_{peer}_tokens_per_s"
            yield from table_row(f"{device}, {rows_title(rows)}: over {word}", file, data, key, 2)
    for rows, systems in in_order(data.get("summary", {})):
        for name in (name for name in LOOKS if name in systems):
            if rows > 1 and LOOKS[name].alone:
                continue
            for figure, (word, digits) in TOLD.items():
                if figure == "per_verify" and name not in DRAFTING:
                    continue
                what = f"{device}, {rows_title(rows)}, {LOOKS[name].name}: {word}"
                yield from table_row(what, file, data, f"summary.{rows}.{name}.{figure}", digits)
    for name, refusal in data.get("peers_not_run", {}).items():
        told = f"{RATED[name]} {refusal.get('version', '')}".strip()
        yield f"\nNot compared on {device}: {told} ({refusal['at']}: {refusal['error']})."


def table_row(what: str, file: str, data: dict[str, Any], key: str, digits: int) -> Iterator[str]:
    """One row, if the report has the figure."""
    value: Any = data
    for part in key.split("."):
        value = value.get(part, {})
    if isinstance(value, (int, float)):
        told = round(Decimal(str(value)), digits)  # as the README's test does
        yield f"| {what} | **{told:,}** <!-- {file}: {key} --> |"


if __name__ == "__main__":
    main()
