"""Has runs meet hundreds of faults, and counts after how many the library was whole.

    uv run python benchmarks/faults.py [--seeds 200] [--at-once 2] [--go-on] [--out FILE.json]

Each seed is a folder, several runs over it, and one of eight kinds of faults (tests/faults.py says
which, and what must hold). `--go-on` adds more seeds to those of the file that is there. Where this
user may mount, an output that can't be written is a real read-only file system, and a full disk a
real one. Writes benchmarks/faults.json.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from machine import describe_surroundings  # noqa: E402

from tests.faults import DONE, FAULTS, Case, clear, run_case  # noqa: E402
from tests.tiny import write_llama  # noqa: E402

NOTHING: dict[str, Any] = {
    "seeds": 0,
    "whole": 0,
    "runs": 0,
    "by_fault": {},
    "violations": {},
    "took_s": 0.0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--go-on", action="store_true", help="add to what was tried before")
    parser.add_argument("--at-once", type=int, default=2, help="cases side by side")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    before: dict[str, Any] = NOTHING
    if options.go_on and options.out.exists():
        before = json.loads(options.out.read_text())
    began = time.perf_counter()
    seeds = range(before["seeds"], before["seeds"] + options.seeds)
    # A run mostly waits for the disk.
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(options.at_once) as pool:
        model = write_llama(Path(name) / "model", context_tokens=4096)
        cases = list(pool.map(lambda seed: try_seed(seed, Path(name), model), seeds))
    report: dict[str, Any] = {
        **describe_surroundings("duckdb"),
        "seeds": before["seeds"] + len(cases),
        "whole": before["whole"] + sum(not case.violations for case in cases),
        "runs": before["runs"] + sum(len(case.runs) for case in cases),
        "by_fault": {kind: count(kind, cases, before["by_fault"].get(kind, {})) for kind in FAULTS},
        "violations": before["violations"]
        | {str(case.seed): case.violations for case in cases if case.violations},
        "took_s": round(before["took_s"] + time.perf_counter() - began, 1),
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def try_seed(seed: int, folder: Path, model: Path) -> Case:
    """One case; what it violates is told at once."""
    case = run_case(seed, folder / str(seed), model)
    for violation in case.violations:
        print(f"seed {seed}: {violation}", flush=True)
    clear(case)
    return case


def count(kind: str, cases: list[Case], before: dict[str, int]) -> dict[str, int]:
    """How the runs ended to which one kind of fault happened."""
    codes = Counter(code for case in cases for fault, code in case.runs if fault == kind)
    now = {
        "killed": sum(number for code, number in codes.items() if code < 0),
        "refused": sum(number for code, number in codes.items() if code > 0),
        "to_the_end": codes[DONE],
    }
    return {name: number + before.get(name, 0) for name, number in now.items()}


if __name__ == "__main__":
    main()
