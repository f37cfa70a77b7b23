"""The charts and the table of the engine's benchmark say what its report says."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from chart_svg import Chart, Look, Mark, Panel, draw, make_axis
from engine_chart import draw_report, make_table
from engine_summary import Point, by_context, by_rows, context_ratios, ratios_by_rows, summarise

from tests.test_readme import FIGURE

ROOT = Path(__file__).parents[1]
REPORTS = sorted((ROOT / "benchmarks").glob("engine-*.json"))
LOOKS = {
    "a": Look("first", "#000001", "#00000a"),
    "b": Look("second", "#000002", "#00000b", alone=True),
}


def cell(speed: float, **more: float) -> dict[str, float]:
    return {"tokens_per_s": speed, "per_verify": 1.5, "first_token_ms": 20.0, **more}


@pytest.fixture
def cells() -> dict[str, Any]:
    one = {
        "summary": {
            "plain": cell(10),
            "drafter": cell(40),
            "mlx_lm_batch": cell(5),
            "dflash": cell(8),
        },
        "question": {"plain": cell(10), "drafter": cell(10), "mlx_lm_batch": cell(20)},
    }
    cut = {"summary": one["summary"], "question": {"plain": cell(1000)}}
    return {"8": cut, "1": one}


def rounded(points: list[Point]) -> list[Point]:
    return [replace(point, y=round(point.y, 6)) for point in points]


def test_a_system_is_judged_by_the_tasks_that_all_of_them_did(cells: dict[str, Any]) -> None:
    found = by_rows(cells, "tokens_per_s")
    assert rounded(found["plain"]) == [Point(1, 10), Point(8, 10, whole=False)]
    assert rounded(found["drafter"]) == [Point(1, 20), Point(8, 40, whole=False)]
    assert [point.x for point in found["dflash"]] == [1, 8]


def test_ratios_are_of_the_same_task(cells: dict[str, Any]) -> None:
    found = ratios_by_rows(cells, "mlx_lm_batch")
    assert rounded(found["drafter"]) == [Point(1, 2), Point(8, 8, whole=False)]
    assert "mlx_lm_batch" not in found
    assert "dflash" not in found


def test_contexts_have_lines_of_their_own() -> None:
    contexts = {
        "2048": {"1": {"drafter": cell(30), "plain": cell(10)}},
        "512": {"1": {"drafter": cell(30), "plain": cell(20)}, "8": {"drafter": cell(90)}},
    }
    assert by_context(contexts, 1, "tokens_per_s")["plain"] == [Point(512, 20), Point(2048, 10)]
    assert context_ratios(contexts, 1, "plain") == {"drafter": [Point(512, 1.5), Point(2048, 3)]}
    assert context_ratios(contexts, 8, "plain") == {}


def test_the_summary_is_what_is_drawn(cells: dict[str, Any]) -> None:
    found = summarise(cells)
    assert found["1"]["drafter"]["tokens_per_s"] == 20
    assert found["8"]["drafter"]["per_verify"] == 1.5
    assert "own_peak_mb" not in found["1"]["drafter"]


def elements(svg: str, name: str) -> list[Any]:
    return ET.fromstring(svg).findall(f".//{{*}}{name}")  # noqa: S314 (our own)


def test_more_is_drawn_higher_and_what_is_not_whole_hollow() -> None:
    marks = {"a": [Mark("1", 10), Mark("4", 30, whole=False)], "b": [Mark("1", 20)]}
    svg = draw(Chart("Title & more", "a note", [Panel("", "rows", ["1", "4"], marks)], LOOKS))
    low, high = elements(svg, "circle")
    (across,) = [
        e
        for e in elements(svg, "line")
        if e.get("class") == "line alone s-b" and float(e.get("x2")) > 500
    ]
    assert float(low.get("cy")) > float(across.get("y1")) > float(high.get("cy"))
    assert (low.get("class"), high.get("class")) == ("f-a s-a", "back s-a")
    words = [element.text for element in elements(svg, "text")]
    assert {"Title & more", "a note", "first", "second", "rows", "1", "4"} <= set(words)
    assert "#000001" in svg
    assert svg.count("prefers-color-scheme: dark") == 1 + len(LOOKS)


def test_bars_stand_side_by_side_as_high_as_their_values() -> None:
    marks = {"a": [Mark("x", 2.0), Mark("y", 1.0)], "b": [Mark("x", 4.0)]}
    svg = draw(Chart("t", "", [Panel("", "task", ["x", "y"], marks, bars=True)], LOOKS))
    drawn = [
        e
        for e in elements(svg, "rect")
        if e.get("class") in {"f-a", "f-b"} and e.get("height") != "12.0"
    ]
    first, second, third = sorted(drawn, key=lambda e: float(e.get("x")))
    heights = [float(bar.get("height")) for bar in (first, second, third)]
    assert heights == pytest.approx([heights[2] * 2, heights[2] * 4, heights[2]], abs=0.2)
    assert float(first.get("x")) + float(first.get("width")) <= float(second.get("x"))


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.4, 4.2], [0, 1, 2, 3, 4]),
        ([20, 900], [20, 50, 100, 200, 500, 1000]),
        ([600, 1500], [0, 200, 400, 600, 800, 1000, 1200, 1400, 1600]),
    ],
)
def test_an_axis_has_round_ticks_that_lie_within_it(
    values: list[float], ticks: list[float]
) -> None:
    place, found = make_axis(values, from_zero=False)
    assert found == pytest.approx(ticks)
    assert [0 <= place(tick) <= 1 for tick in found] == [True] * len(ticks)
    assert sorted(values, key=place) == sorted(values)


def test_the_table_has_figures_that_can_be_checked(cells: dict[str, Any]) -> None:
    refused = {"dflash_mlx": {"version": "0.1.8", "at": "load", "error": "no such target"}}
    ratios = {"8": {"drafter_over_mlx_lm_batch_tokens_per_s": 8.0}}
    data = {
        "device": "h1", "ratios": ratios, "summary": summarise(cells), "peers_not_run": refused,
    }  # fmt: skip
    rows = list(make_table("engine-h1.json", data))
    told = {found[3]: found[1] for row in rows if (found := FIGURE.search(row))}
    assert told["ratios.8.drafter_over_mlx_lm_batch_tokens_per_s"] == "8.00"
    assert told["summary.1.drafter.tokens_per_s"] == "20.0"
    assert "summary.1.drafter.per_verify" in told
    assert "summary.1.plain.per_verify" not in told
    assert "summary.8.dflash.tokens_per_s" not in told
    assert len(told) == len(rows) - 3
    assert rows[-1].endswith("`dflash-mlx` 0.1.8 (load: no such target).")


@pytest.mark.parametrize("report", REPORTS, ids=lambda path: path.stem)
def test_the_charts_of_the_docs_are_those_of_the_reports(report: Path) -> None:
    drawn = dict(draw_report(json.loads(report.read_text("utf-8"))))
    assert drawn
    shown = re.findall(r"\]\((\S+\.svg)\)", (ROOT / "docs/engine-benchmark.md").read_text("utf-8"))
    for name, svg in drawn.items():
        file = ROOT / "docs" / f"{report.stem}-{name}.svg"
        kept = file.read_text("utf-8") if file.is_file() else ""
        assert kept == svg, f"{file.name} is old: run `python benchmarks/engine_chart.py`"
        assert file.name in shown, f"{file.name} is not in docs/engine-benchmark.md"
        assert file.stat().st_size < 60_000
