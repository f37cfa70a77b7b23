"""How long a report takes to write, to open, to search: 1,000 documents in a real browser.

    uv run python benchmarks/report.py [--documents 1000] [--pages 4] [--out FILE.json]

Makes a library whose documents have pages of running text, a summary and an invoice with evidence
and its places on the pages, writes its report, and opens that in a headless Chromium, a new process
each time. Opening lasts from the start of the navigation until the list is there and can be used.
Writes benchmarks/report.json.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machine import describe_surroundings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.evidence import Evidence, page_spans
from pipeline.page_frames import PageFrame
from pipeline.parquet import publish
from pipeline.quote_places import Box, Query
from pipeline.records import Document, Field
from pipeline.report import write_report
from pipeline.store import Store
from tests.browser import MISSING, find_browser, open_browser
from tests.library import (
    READER,
    make_document,
    make_file,
    make_result,
    make_run,
    make_task,
    plan,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

TARGET_S = 2.0
_TIMES = 5
_AT_ONCE = 200
_SUMMARY = make_task("summary")
_FIELDS = tuple(Field(f"amount_{number}", "decimal") for number in range(12))
_INVOICE = make_task("invoice", "fields", fields=_FIELDS)
_TEXT = (
    "the invoice total amount is due within thirty days of receipt and payment may be made by "
    "transfer to account number please quote our reference in all letters meeting minutes were "
    "taken agreed that next review takes place on Monday budget approved without changes"
)

# Until the browser has drawn what was just done.
_DRAWN = "new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
_OPEN_DOCUMENT = f"""async (number) => {{
  const start = performance.now();
  location.hash = address(number);
  while (opened !== number) await {_DRAWN};
  await {_DRAWN};
  return performance.now() - start;
}}"""
_SEARCH = f"""async (words) => {{
  const start = performance.now();
  byId("words").value = words;
  await refresh();
  await {_DRAWN};
  return [performance.now() - start, shown.length];
}}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--pages", type=int, default=4, help="of a document")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    if find_browser() is None:
        parser.error(MISSING)
    with tempfile.TemporaryDirectory() as name:
        library = Path(name) / "library"
        chars = make_library(library, options.documents, options.pages)
        start = time.perf_counter()
        written = write_report(library, library / "report.html")
        report: dict[str, Any] = {
            **describe_surroundings("pyarrow", "playwright"),
            "target_s": TARGET_S,
            "documents": options.documents,
            "pages_each": options.pages,
            "text_mb": round(chars / 1e6, 1),
            "report_mb": round(written.size_bytes / 1e6, 1),
            "written_s": round(time.perf_counter() - start, 2),
            **measure(written.file, options.documents // 2),
        }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def make_library(out: Path, documents: int, pages: int) -> int:
    """Publishes the library; gives the characters of its texts."""
    chance = random.Random(3)
    chars = 0
    with Store.open(out) as store:
        store.runs.save(make_run("run1", documents=documents))
        made = {f"{n // 100}/{n:05}.pdf": make_text(chance, n, pages) for n in range(documents)}
        texts = {document.sha256: document.text for document in made.values()}
        files = list(made.items())
        for first in range(0, documents, _AT_ONCE):
            batch = [(make_file(name), doc) for name, doc in files[first : first + _AT_ONCE]]
            store.documents.save("run1", READER, batch)
        for job in plan(store, "run1", _SUMMARY, _INVOICE).pending:
            text = texts[job.document_sha256]
            chars += len(text) if job.task == "summary" else 0
            value, evidence = answer(job.task, text)
            store.jobs.finish("run1", job, make_result(job, value, evidence=evidence))
        for unmeasured in store.boxes.list_unmeasured("run1"):
            quotes = store.boxes.load_quotes(unmeasured)
            store.boxes.save(unmeasured, [(q, (place_line(q.query),)) for q in quotes])
        publish(store, (_SUMMARY, _INVOICE), "run1")
    return chars


def make_text(chance: random.Random, number: int, pages: int) -> Document:
    known = _TEXT.split()
    lines = [
        " ".join(chance.choices(known, k=14)).capitalize() + f" {chance.randrange(10**6)}.50."
        for _ in range(28 * pages)
    ]
    texts = ("\n".join([f"Document {number}", *lines[28 * p : 28 * p + 28]]) for p in range(pages))
    document = make_document(*texts, media_type="application/pdf")
    framed = (replace(p, source="pypdf", frame=PageFrame(0, 0, 612, 792)) for p in document.pages)
    return replace(document, pages=tuple(framed))


def place_line(query: Query) -> Box:
    """A box of the words' width on a line of the page, as one is found in a PDF."""
    y = 720 - 14 * (sum(map(ord, query.words)) % 48)
    return Box(query.page, 72, y, 72 + 5.5 * len(query.words), y + 10)


def answer(task: str, text: str) -> tuple[Any, tuple[Evidence, ...]]:
    """A summary of three lines, or twelve amounts, each with the words that it is from."""
    lines = [(start, line) for start, line in _lines(text) if line.endswith(".50.")]
    if task == "summary":
        evidence = tuple(
            Evidence("text", n, line, "derived", page_spans(text, at, at + len(line)), score=1.0)
            for n, (at, line) in enumerate(lines[:3])
        )
        return " ".join(line for _, line in lines[:3]), evidence
    values: dict[str, Decimal] = {}
    proofs: list[Evidence] = []
    for field, (at, line) in zip(_FIELDS, lines[:: len(lines) // len(_FIELDS)], strict=False):
        words = line.split()[-1].rstrip(".")
        start = at + line.index(words)
        values[field.name] = Decimal(words)
        spans = page_spans(text, start, start + len(words))
        proofs.append(Evidence(field.name, 0, words, "verbatim", spans, probability=0.9))
    return values, tuple(proofs)


def _lines(text: str) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    at = 0
    for line in text.replace("\f", "\n").split("\n"):
        found.append((at, line))
        at += len(line) + 1
    return found


def measure(file: Path, number: int) -> dict[str, Any]:
    """Seconds in the browser, medians of some runs; of opening the worst, too."""
    runs = [measure_once(file, number) for _ in range(_TIMES)]
    middle = {
        name: round(statistics.median(run[name] for run in runs), 3)
        for name in runs[0]
        if name.endswith("_s")
    }
    return {
        **middle,
        "opened_worst_s": round(max(run["opened_s"] for run in runs), 3),
        "browser": runs[0]["browser"],
    }


def measure_once(file: Path, number: int) -> dict[str, Any]:
    start = time.perf_counter()
    with open_browser() as browser:
        page: Page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(file.as_uri(), wait_until="commit")
        page.wait_for_selector("html[data-ready]")
        opened = page.evaluate("performance.getEntriesByName('ready')[0].startTime")
        with_browser = time.perf_counter() - start
        document = page.evaluate(_OPEN_DOCUMENT, number)
        page.evaluate("location.hash = '#/'")
        first, found = page.evaluate(_SEARCH, f"document {number}")
        second, _ = page.evaluate(_SEARCH, "account 7")
        if not found:
            raise RuntimeError("the search found nothing")
        return {
            "opened_s": opened / 1000,
            "browser_started_and_opened_s": with_browser,
            "document_shown_s": document / 1000,
            "first_search_s": first / 1000,
            "next_search_s": second / 1000,
            "browser": f"Chromium {browser.version}, headless",
        }


if __name__ == "__main__":
    main()
