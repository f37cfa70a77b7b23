"""The most memory that a run over one long PDF takes: one of 60 pages, and one of 600.

    uv run python benchmarks/long_document.py [--seconds 600]

Makes a PDF of numbered clauses of each length, and runs `docflash run` over it with the embedded
model in folders of its own, looked at as in benchmarks/memory.py. A run that is not done after
`--seconds` is stopped as by Ctrl-C, and the report says so. Writes benchmarks/long_document.json.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import describe_surroundings
from memory import cache_folder, watch

from pipeline.engine.embedded import ensure_embedded

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.home import Home, bare_environment, end_engine  # noqa: E402
from tests.pdfs import make_pdf  # noqa: E402

PAGES = (60, 600)
MOST_RATIO = 1.5
LINES_PER_PAGE = 25  # 600 pages stay below max_document_tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    ensure_embedded()
    runs = {str(pages): measure(pages, options.seconds) for pages in PAGES}
    short, long = (runs[str(pages)]["peak_mib"] for pages in PAGES)
    report = {
        **describe_surroundings("mlx", "prefect", "duckdb"),
        "by_pages": runs,
        "ratio": round(long / short, 3),
        "must_be_at_most": MOST_RATIO,
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def measure(pages: int, seconds: float) -> dict[str, Any]:
    """Peak of one run over a PDF of so many pages, in MiB, in all and by kind of process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        documents = folder / "documents"
        documents.mkdir()
        (documents / "long.pdf").write_bytes(make_pdf(*(_page(n) for n in range(pages))))
        own = {key: value for key, value in bare_environment(folder).items() if "CACHE" not in key}
        home = Home(folder, folder, own | cache_folder())
        try:
            peak, run = watch(home, documents, seconds)
        finally:
            end_engine(home)
    if run["failures"]:
        raise SystemExit(f"jobs failed, so that nothing was measured: {run['failures']}")
    return {
        "state": run["run"]["state"],
        "jobs_done": run["run"]["jobs_done"],
        "prompt_tokens": run["run"]["prompt_tokens"],
        "peak_mib": round(peak.total / (1 << 20)),
        "most_of_each_kind_mib": {k: round(v / (1 << 20)) for k, v in peak.alone.items()},
    }


def _page(number: int) -> str:
    heading = f"{number + 1}. Duties of the keeper of store {number + 1}"
    lines = (
        f"{number + 1}.{line} On day {line} the keeper counts {number * 7 + line} crates."
        for line in range(1, LINES_PER_PAGE)
    )
    return "\n".join((heading, *lines))


if __name__ == "__main__":
    main()
