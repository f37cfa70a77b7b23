"""The most memory that a run over one long PDF takes: one of 60 pages, and one of 600.

    uv run python benchmarks/long_document.py [--model embedded] [--seconds 600]

Makes a dense PDF of each length (975 tokens a page, in chapters and numbered sections), and runs
`docflash run` over it in folders of its own, looked at as in benchmarks/memory.py. The model writes
one sentence to everything (benchmarks/one_sentence_model.py), so that both runs come to their end
in minutes: all else, reading, cutting, the engine, the tree of merges, evidence and publishing, is
what it is with any model. Then the longer one is stopped after half its time, and run again: the
engine answers only what is left. With `--model embedded` a run that is not done after `--seconds`
is stopped as by Ctrl-C, and the report says so. Writes benchmarks/long_document.json.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from machine import describe_surroundings
from memory import cache_folder, watch
from one_sentence_model import write_model

from pipeline.engine.loading.embedded import ensure_embedded

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.home import Home, bare_environment, end_engine  # noqa: E402
from tests.pdfs import make_pdf  # noqa: E402

PAGES = (60, 600)
MOST_RATIO = 1.5
LINES_PER_PAGE = 45
HEADING_AT = 8  # lines before it
PAGES_PER_CHAPTER = 20
ONE_SENTENCE = "one sentence"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default=ONE_SENTENCE, help="or embedded, or a model's folder")
    parser.add_argument("--seconds", type=float, default=600.0, help="each run's, at most")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        model = options.model
        if model == ONE_SENTENCE:
            model = str(write_model(Path(name) / "one-sentence", ensure_embedded()))
        runs = {str(pages): measure(pages, model, options.seconds) for pages in PAGES}
        half_s = runs[str(PAGES[-1])]["seconds"] / 2
        resumed = measure_resuming(PAGES[-1], model, half_s, options.seconds)
    short, long = (runs[str(pages)]["peak_mib"] for pages in PAGES)
    report = {
        **describe_surroundings("mlx", "prefect", "duckdb"),
        "model": options.model,
        "by_pages": runs,
        "stopped_in_the_middle": resumed,
        "ratio": round(long / short, 3),
        "must_be_at_most": MOST_RATIO,
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def measure(pages: int, model: str, seconds: float) -> dict[str, Any]:
    """Peak of one run over a PDF of so many pages, in MiB, in all and by kind of process."""
    with make_home(pages) as home:
        began_s = time.monotonic()
        peak, run = watch(home, home.documents, seconds, model=model)
        took_s = time.monotonic() - began_s
    check(run)
    told = ("state", "jobs_done", "model_calls", "prompt_tokens", "completion_tokens")
    return {
        **{key: run["run"][key] for key in told},
        "seconds": round(took_s),
        "peak_mib": round(peak.total / (1 << 20)),
        "at_peak_mib": {k: round(v / (1 << 20)) for k, v in peak.at_peak.items()},
        "most_of_each_kind_mib": {k: round(v / (1 << 20)) for k, v in peak.alone.items()},
        "keys_and_values_mib": round(peak.kv_bytes / (1 << 20)),
    }


def measure_resuming(pages: int, model: str, stop_s: float, seconds: float) -> dict[str, Any]:
    """A run that is stopped as by Ctrl-C, and the next one: how much each has asked the engine."""
    with make_home(pages) as home:
        _, first = watch(home, home.documents, stop_s, model=model)
        before = home.answered()
        _, second = watch(home, home.documents, seconds, model=model)
        after = home.answered()
    check(second)
    return {
        "stopped": {"state": first["run"]["state"], "answered_by_the_engine": before},
        "next_run": {
            "state": second["run"]["state"],
            "answered_by_the_engine": after - before,
            "calls_of_its_answers": second["run"]["model_calls"],
        },
    }


@contextmanager
def make_home(pages: int) -> Generator[Home]:
    """Folders with one PDF of so many pages; no engine is left behind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = {key: value for key, value in bare_environment(folder).items() if "CACHE" not in key}
        home = Home(folder, folder, own | cache_folder())
        home.documents.mkdir()
        (home.documents / "long.pdf").write_bytes(make_pdf(*(_page(n) for n in range(pages))))
        try:
            yield home
        finally:
            end_engine(home)


def check(run: dict[str, Any]) -> None:
    """Ends here if there is nothing to report."""
    if run["failures"]:
        raise SystemExit(f"jobs failed, so that nothing was measured: {run['failures']}")


def _page(number: int) -> str:
    chapter, first = divmod(number, PAGES_PER_CHAPTER)
    opening = f"Chapter {chapter + 1}\n" if first == 0 else ""
    heading = f"{opening}{number + 1}. Duties of keeper {number + 1} of the stores"
    lines = [
        f"{number + 1}.{line} On day {line} the keeper counts {number * 7 + line} crates."
        for line in range(1, LINES_PER_PAGE)
    ]
    # At the top of each page it would be a running head.
    return "\n".join((*lines[:HEADING_AT], heading, *lines[HEADING_AT:]))


if __name__ == "__main__":
    main()
