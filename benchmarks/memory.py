"""The most memory that a run takes, all its processes together and each kind by itself.

    uv run python benchmarks/memory.py [--seconds 240]

Runs `docflash run` over samples with the embedded model, with all of docflash's folders new, and
looks at the flow, its Prefect server, the readers and the engine several times a second. Memory is
the proportional set size (shared pages are split among those who share them); on macOS, where
there is none, the unique set size. After `--seconds` the run is stopped as by Ctrl-C. Writes
benchmarks/memory.json.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from machine import describe_surroundings

from pipeline.engine.loading.embedded import ensure_embedded

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.home import DOCFLASH, Home, bare_environment, end_engine  # noqa: E402

ALLOWED_MORE_BYTES = 1 << 30
LOOK_S = 0.25
KINDS = {
    "flows.api_server": "Prefect server",
    "pipeline.readserver": "readers",
    "pipeline.engine.serving.host": "engine",
    "pipeline.engine.loading.convert": "converter",
}


@dataclass(slots=True)
class Peak:
    """What was seen.

    Attributes:
        total: The most bytes of all processes at one time, in `at_peak` by their kind.
        alone: The most bytes of each kind, at any time.
        kv_bytes: The most that the engine said its keys and values take.
        weights_bytes: What it said of the weights.
    """

    total: int = 0
    at_peak: dict[str, int] = field(default_factory=dict[str, int])
    processes: dict[str, int] = field(default_factory=dict[str, int])
    alone: dict[str, int] = field(default_factory=dict[str, int])
    kv_bytes: int = 0
    weights_bytes: int = 0
    engine: dict[str, Any] = field(default_factory=dict[str, Any])

    def look(self, flow: psutil.Process, engine: dict[str, Any] | None) -> None:
        """Adds what the processes hold now."""
        processes = [flow, *_children(flow)]
        if engine is not None:
            self.engine = engine
            self.kv_bytes = max(self.kv_bytes, engine["stats"]["kv_bytes"])
            self.weights_bytes = max(self.weights_bytes, engine["stats"]["weights_bytes"])
            with contextlib.suppress(psutil.Error):
                host = psutil.Process(engine["pid"])
                processes += [p for p in (host, *_children(host)) if p not in processes]
        now: dict[str, int] = defaultdict(int)
        count: dict[str, int] = defaultdict(int)
        for process in processes:
            with contextlib.suppress(psutil.Error, OSError):
                kind = _kind(process)
                now[kind] += _memory(process)
                count[kind] += 1
        for kind, held in now.items():
            self.alone[kind] = max(self.alone.get(kind, 0), held)
        if sum(now.values()) > self.total:
            self.total, self.at_peak, self.processes = sum(now.values()), dict(now), dict(count)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--include", action="append", help="samples to take, such as 'long/**'")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    ensure_embedded()  # made once, in the cache folder of the user
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = {key: value for key, value in bare_environment(folder).items() if "CACHE" not in key}
        home = Home(folder, folder, own | cache_folder())
        try:
            samples = ROOT / "sample_docs" / "documents"
            peak, run = watch(home, samples, options.seconds, options.include or ())
        finally:
            end_engine(home)
    report = {
        **describe_surroundings("mlx", "prefect", "duckdb"),
        "measure": "proportional set size" if sys.platform == "linux" else "unique set size",
        "run": {
            key: run["run"][key]
            for key in ("state", "files", "jobs_done", "model_calls", "prompt_tokens")
        },
        "peak_mib": _mib(peak.total),
        "at_peak_mib": {kind: _mib(held) for kind, held in peak.at_peak.items()},
        "processes_at_peak": peak.processes,
        "most_of_each_kind_mib": {kind: _mib(held) for kind, held in peak.alone.items()},
        "weights_mib": _mib(peak.weights_bytes),
        "kv_mib": _mib(peak.kv_bytes),
        "more_than_weights_and_kv_mib": _mib(peak.total - peak.weights_bytes - peak.kv_bytes),
        "allowed_more_mib": _mib(ALLOWED_MORE_BYTES),
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def watch(
    home: Home,
    documents: Path,
    seconds: float,
    includes: Sequence[str] = (),
    model: str = "embedded",
) -> tuple[Peak, dict[str, Any]]:
    """Runs docflash over a folder and looks at it until it ends, or is stopped after `seconds`."""
    chosen = [part for glob in includes for part in ("--include", glob)]
    command = ["run", str(documents), "--json", "--model", model, *chosen]
    process = subprocess.Popen(
        [sys.executable, "-c", DOCFLASH, *command, "--out", str(home.out)],
        cwd=home.folder,
        env=home.environment,
        stdout=subprocess.PIPE,
    )
    flow, peak, began_s, asked = psutil.Process(process.pid), Peak(), time.monotonic(), False
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            peak.look(flow, home.health())
        if not asked and time.monotonic() - began_s > seconds:
            process.send_signal(signal.SIGINT)
            asked = True
        time.sleep(LOOK_S)
    out, _ = process.communicate()
    run = json.loads(out)
    if not run.get("run"):
        raise SystemExit(f"the run failed: {run}")
    return peak, run


def cache_folder() -> dict[str, str]:
    """The user's cache folder, where the embedded model is made once, if one was chosen."""
    return {key: os.environ[key] for key in ("DOCFLASH_CACHE",) if key in os.environ}


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _kind(process: psutil.Process) -> str:
    command = " ".join(process.cmdline())
    return next((kind for part, kind in KINDS.items() if part in command), "flow")


def _memory(process: psutil.Process) -> int:
    full = process.memory_full_info()
    return int(getattr(full, "pss", full.uss))


def _mib(size_bytes: int) -> int:
    return round(size_bytes / (1 << 20))


if __name__ == "__main__":
    main()
