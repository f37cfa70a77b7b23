"""A million files in one folder: what a search, a first and a second night take in time and memory.

    uv run python benchmarks/many_files.py [--files 1000000] [--out FILE.json]

Writes small text files, each with another text, into one folder; then searches it, reads and
plans all of them as `docflash run` does before its first question, takes them for answered,
publishes, and does the same again with nothing changed. Each is a process of its own, whose peak of
memory is told, and by how much it is more than with a tenth of the files.
Writes benchmarks/many_files.json, after each step anew.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from machine import describe_surroundings

from pipeline.documents import find_documents
from pipeline.engine.loading.models import resolve_model
from pipeline.folder_run import FolderRun
from pipeline.ingest import Search
from pipeline.progress import Progress
from pipeline.run_order import RunOrder
from pipeline.settings import EMBEDDED_MODEL

Figures = dict[str, float | int]
Report = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    resolve_model(EMBEDDED_MODEL, lambda _doing, _done: None)
    report: Report = {**describe_surroundings("duckdb", "pyarrow"), "files": options.files}
    few = dict(measure(options.files // 10))
    for step, figures in measure(options.files):
        grown = (figures["peak_mib"] - few[step]["peak_mib"]) * 2**20 / (options.files * 0.9)
        report[step] = {**figures, "bytes_a_file": round(grown)}
        if step == "second_night":
            report |= compare_nights(report)
        # After each step: what was measured stays, should the next be cut off.
        options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def measure(count: int) -> Iterator[tuple[str, Figures]]:
    """What each step takes with so many files."""
    with tempfile.TemporaryDirectory() as name:
        folder, library = Path(name) / "documents", Path(name) / "library"
        write_files(folder, count)
        for step, work in (("search", search), ("first_night", night), ("second_night", night)):
            figures = in_a_process(work, folder, library)
            print(f"{count} files: {step}: {figures}", flush=True)
            yield step, figures


def compare_nights(report: Report) -> Report:
    """How often a night in which nothing changed goes into the first; and their first steps."""
    first, second = report["first_night"], report["second_night"]
    parts = ("begin_s", "ingest_s", "plan_s", "publish_s")
    whole = [sum(night[part] for part in parts) for night in (first, second)]
    return {
        "first_night_in_second": {
            "whole": round(whole[0] / whole[1], 1),
            "ingest": round(first["ingest_s"] / second["ingest_s"], 1),
        }
    }


def write_files(folder: Path, count: int) -> None:
    """Writes text files, older than the run, into one folder."""
    folder.mkdir()
    old = time.time() - 3600
    for number in range(count):
        path = f"{folder}/letter {number}.txt"
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 (a million times)
            file.write(f"Letter {number}: the amount of {number} euros is due in thirty days.\n")
        os.utime(path, (old, old))


def in_a_process(work: Callable[[Path, Path], Figures], folder: Path, library: Path) -> Figures:
    """What a step gives, and the most memory that it had, its page readers not counted."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(with_peak, work, folder, library).result()


def with_peak(work: Callable[[Path, Path], Figures], folder: Path, library: Path) -> Figures:
    figures = work(folder, library)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**figures, "peak_mib": round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))}


def search(folder: Path, _library: Path) -> Figures:
    began = time.perf_counter()
    found = sum(1 for _ in find_documents(folder))
    return {"search_s": round(time.perf_counter() - began, 1), "found": found}


def night(folder: Path, library: Path) -> Figures:
    """What a run does but for the answers."""
    marks = [time.perf_counter()]

    def mark(_result: Any) -> None:
        marks.append(time.perf_counter())

    run = FolderRun(RunOrder(Search(folder, library), tasks=("summary",)), Progress())
    try:
        mark(run)
        ingest = run.ingest()
        mark(ingest)
        works = run.plan()
        mark(works)
        take_for_answered(run)
        mark(run)
        run.publish("stopped")
        mark(run)
    finally:
        run.close()
    begin, read, plan, _, publish = (round(end - start, 1) for start, end in pairwise(marks))
    return {
        "begin_s": begin,
        "ingest_s": read,
        "plan_s": plan,
        "publish_s": publish,
        "documents_read": ingest.documents_read,
        "documents_to_ask_about": len(works),
    }


def take_for_answered(run: FolderRun) -> None:
    with run._store._database.transaction() as session:  # noqa: SLF001
        session.run("UPDATE jobs SET state = 'done' WHERE state <> 'done'")
        session.run("UPDATE assignments SET done_key = job_key WHERE done_key IS NULL")


if __name__ == "__main__":
    main()
