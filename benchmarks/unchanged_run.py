"""What a second run over an unchanged folder takes, against a Prefect flow that does nothing.

    uv run python benchmarks/unchanged_run.py [--rounds 5]

`docflash run` answers a part of sample_docs once, with a tiny random model. Then the same command
again and a flow without a line in it take turns: each a process of its own that starts its own
Prefect server in the same way, and ends it. Writes benchmarks/unchanged_run.json.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from machine import describe_surroundings  # noqa: E402

from tests.home import Home, bare_environment, end_engine  # noqa: E402

TARGET_S = 5.0
FOLDERS = ("contracts", "invoices", "letters", "minutes", "odd")
NOTHING = """
from flows.api_server import start_server
from flows.prefect_env import prepare_prefect

assert prepare_prefect()
server = start_server()
try:
    from prefect import flow

    server.wait_ready()

    @flow(name="nothing", persist_result=False)
    def nothing() -> None:
        pass

    nothing()
finally:
    server.stop()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = make_home(Path(name))
        try:
            first = home.run()
            if first.code not in {0, 1}:
                raise SystemExit(f"the first run failed: {first.out}{first.err}")
            figures = compare(home, options.rounds)
        finally:
            end_engine(home)
    report = {
        **describe_surroundings("prefect", "duckdb", "pyarrow"),
        "files": first.json["run"]["files"],
        "answers_of_the_first_run": first.json["run"]["jobs_done"],
        "rounds": options.rounds,
        "target_s_more_than_nothing": TARGET_S,
        **figures,
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def make_home(folder: Path) -> Home:
    """A user's folders, with documents and a model in them."""
    from tests.tiny import write_llama

    environment = bare_environment(folder)
    home = Home(folder, write_llama(folder / "model", context_tokens=16384), environment)
    for name in FOLDERS:
        shutil.copytree(ROOT / "sample_docs" / "documents" / name, home.documents / name)
    return home


def compare(home: Home, rounds: int) -> dict[str, Any]:
    run_nothing(home)  # the first makes Prefect's database
    answered = home.answered()
    again: list[float] = []
    nothing: list[float] = []
    calls = 0
    for _ in range(rounds):
        nothing.append(run_nothing(home))
        start = time.perf_counter()
        done = home.run()
        again.append(time.perf_counter() - start)
        calls += done.json["run"]["model_calls"]
    more = [a - b for a, b in zip(again, nothing, strict=True)]
    return {
        "unchanged_run_s": round(statistics.median(again), 2),
        "flow_that_does_nothing_s": round(statistics.median(nothing), 2),
        "more_s": round(statistics.median(more), 2),
        "more_s_by_round": [round(seconds, 2) for seconds in more],
        "model_calls": calls,
        "requests_to_the_engine": home.answered() - answered,
    }


def run_nothing(home: Home) -> float:
    """Seconds of a process that runs a flow that does nothing."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", NOTHING], cwd=home.folder, env=home.environment, check=True
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
