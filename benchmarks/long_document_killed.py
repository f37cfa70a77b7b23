"""A long PDF with the embedded model, whose run is killed in its middle, and gone on with.

    uv run python benchmarks/long_document_killed.py [--pages 60 300] [--kill-at 0.5]

As benchmarks/long_document.py, which has the PDF and looks at the memory, but with a model that
really writes: a summary of every part, and the joins. The flow over the longest PDF is ended by
SIGKILL once so many of its parts are answered, and run again. Told: what the second run asked the
engine beside what was kept of the first; whether the sentences of the summary and the fields lead
to places of the document. Writes benchmarks/long_document_killed.json; other lengths stay.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from long_document import ROOT, check, make_home
from machine import describe_surroundings
from memory import LOOK_S, Peak, watch

sys.path.insert(0, str(ROOT))

from pipeline.settings import EMBEDDED_MODEL
from pipeline.store import Store
from tests.home import DOCFLASH, Home

_SOURCES = """
SELECT task, support, count(*) AS values, count(start_char) AS with_a_place
FROM evidence WHERE chosen AND span = 0 GROUP BY ALL ORDER BY ALL
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--pages", type=int, nargs="+", default=[60, 300])
    parser.add_argument("--kill-at", type=float, default=0.5, help="a share of the pages")
    parser.add_argument("--seconds", type=float, default=7200.0, help="each run's, at most")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    known = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    found: dict[str, Any] = known.get("by_pages", {})
    for pages in options.pages:
        kill_at = options.kill_at if pages == max(options.pages) else 0.0
        found[str(pages)] = measure(pages, round(kill_at * pages), options.seconds)
        report = {**describe_surroundings("mlx", "prefect", "duckdb"), "by_pages": found}
        options.out.write_text(json.dumps(report, indent=2) + "\n")
        print(json.dumps(report, indent=2), flush=True)


def measure(pages: int, kill_after: int, seconds: float) -> dict[str, Any]:
    """A run to the end, after another that was killed once it had so many answers; 0: none was."""
    with make_home(pages) as home:
        before = kill(home, kill_after) if kill_after else {}
        answered = home.answered()
        began_s = time.monotonic()
        peak, run = watch(home, home.documents, seconds, model=EMBEDDED_MODEL)
        took_s = round(time.monotonic() - began_s)
        check(run)
        after = home.answered() - answered
        print(*(row["text"] for row in home.rows("SELECT text FROM summary")), flush=True)
        told = ("state", "jobs_done", "model_calls", "prompt_tokens", "completion_tokens")
        return {
            **({"killed": before} if before else {}),
            **{key: run["run"][key] for key in told},
            "seconds": took_s,
            "answered_by_the_engine": after,
            # Of what was kept, nothing was asked again.
            **(
                {"asked_again": before["kept"] + after - run["run"]["model_calls"]}
                if before
                else {}
            ),
            **in_mib(peak),
            "sources": home.rows(_SOURCES),
        }


def kill(home: Home, after: int) -> dict[str, Any]:
    """A run that is killed once the engine has answered so often, and what was kept of it."""
    command = ["run", str(home.documents), "--json", "--model", EMBEDDED_MODEL]
    began_s = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", DOCFLASH, *command, "--out", str(home.out)],
        cwd=home.folder,
        env=home.environment,
        stdout=subprocess.DEVNULL,
    )
    flow, peak = psutil.Process(process.pid), Peak()
    while home.answered() < after:
        peak.look(flow, home.health())
        if process.poll() is not None:
            raise SystemExit("the run was over before it could be killed")
        time.sleep(LOOK_S)
    process.kill()
    process.wait()
    took_s = round(time.monotonic() - began_s)
    while (health := home.health()) and health["in_flight"]:
        time.sleep(LOOK_S)  # nobody waits for these answers: the engine ends them
    with Store.open(home.out) as store, store.snapshot() as session:
        kept = session.count("SELECT count(*) FROM calls")
    return {
        "seconds": took_s,
        "answered_by_the_engine": home.answered(),
        "kept": kept,
        **in_mib(peak),
    }


def in_mib(peak: Peak) -> dict[str, Any]:
    """The most memory, in all and by kind of process."""
    return {
        "peak_mib": peak.total >> 20,
        "at_peak_mib": {kind: held >> 20 for kind, held in peak.at_peak.items()},
        "keys_and_values_mib": peak.kv_bytes >> 20,
    }


if __name__ == "__main__":
    main()
