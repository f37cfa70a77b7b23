"""How long a run takes before its first question: find, read, store, cut and plan, with no model.

    uv run python benchmarks/planning.py [--files 1000] [--out FILE.json]

Makes small text files, then runs `FolderRun.ingest`, `.plan` and `.publish` over them, as
`docflash run` does: with all files new, with nothing changed, with one file changed, and once more
with all files new and three tasks for every document (otherwise the class is asked first). The
model is only looked up, for its tokenizer. Writes benchmarks/planning.json.
"""

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from machine import describe_surroundings

from pipeline.engine.loading.models import resolve_model
from pipeline.folder_run import FolderRun
from pipeline.ingest import Search
from pipeline.progress import Progress
from pipeline.run_order import RunOrder
from pipeline.settings import EMBEDDED_MODEL

TARGET_S = 30.0
_TEXT = (
    "the invoice total amount is due within thirty days of receipt and payment may be made by "
    "transfer to account number please quote our reference in all letters meeting minutes were "
    "taken agreed that next review takes place on Monday budget approved without changes"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--words", type=int, default=300, help="of a file, about")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    resolve_model(EMBEDDED_MODEL, lambda _doing, _done: None)
    with tempfile.TemporaryDirectory() as name:
        folder, library = Path(name) / "documents", Path(name) / "library"
        size = write_files(folder, options.files, options.words)
        report = {
            **describe_surroundings("duckdb", "pyarrow"),
            "files": options.files,
            "bytes": size,
            "target_s": TARGET_S,
            "all_new": time_run(folder, library),
            "nothing_changed": time_run(folder, library),
        }
        # Every document is cut and planned for these at once, without its class being asked first.
        forced = time_run(folder, library.with_name("forced"), ("summary", "bullets", "entities"))
        report["all_new_three_tasks"] = forced
        (folder / "0" / "0.txt").write_text("Another text than before.\n")
        report["one_changed"] = time_run(folder, library)
        report["library_bytes"] = sum(
            path.stat().st_size for path in library.rglob("*") if path.is_file()
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report["peak_mib"] = round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def write_files(folder: Path, count: int, words: int) -> int:
    """Writes text files into folders of 100, older than the run; gives their bytes in all."""
    chance = random.Random(3)
    known = _TEXT.split()
    size = 0
    old = time.time() - 3600
    for number in range(count):
        path = folder / str(number // 100) / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            " ".join(chance.choices(known, k=12)).capitalize() + "." for _ in range(words // 12)
        ]
        size += path.write_text(f"Document {number}\n\n" + "\n".join(lines) + "\n")
        os.utime(path, (old, old))
    return size


def time_run(folder: Path, library: Path, tasks: tuple[str, ...] = ()) -> dict[str, float | int]:
    """Seconds of each step of one run, and what it came to."""
    marks = [time.perf_counter()]
    run = FolderRun(RunOrder(Search(folder, library), tasks=tasks), Progress())
    try:
        marks.append(time.perf_counter())
        ingest = run.ingest()
        marks.append(time.perf_counter())
        works = run.plan()
        run.cut(works)
        marks.append(time.perf_counter())
        run.publish("stopped")
        marks.append(time.perf_counter())
    finally:
        run.close()
    begin, read, cut, publish = (round(end - start, 3) for start, end in pairwise(marks))
    return {
        "begin_s": begin,
        "ingest_s": read,
        "cut_and_plan_s": cut,
        "publish_s": publish,
        "until_planned_s": round(begin + read + cut, 3),
        "documents_read": ingest.documents_read,
        "documents_to_ask_about": len(works),
        "jobs": sum(len(work.jobs) + (work.class_job is not None) for work in works),
    }


if __name__ == "__main__":
    main()
