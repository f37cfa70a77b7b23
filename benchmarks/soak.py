"""Night after night with changes, kills and restarts: do memory, descriptors and disk stay flat?

    uv run python benchmarks/soak.py [--minutes 30] [--documents 120] [--out FILE.json]

A folder is deployed (`docflash deploy`: a lasting Prefect server and worker), and then done again
and again by `docflash run` with a tiny random model: before each night documents come, change, move
and go. Some nights are killed (SIGKILL) or stopped (SIGTERM) at a random moment, in some the engine
is killed. After each night that ends by itself the answers must be those of the documents that are
there, each once. What engine, server and worker hold is read after each; the figures are medians of
the third quarter of the nights and of the last. Writes benchmarks/soak.json; soak-tidied.json is of
10 minutes with `flows.tidying` (--out), since which the state folder stays flat.
"""

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from machine import describe_surroundings  # noqa: E402

from tests.home import OLD_S, Home, bare_environment, end_engine  # noqa: E402

ENDS = ("by itself", "by itself", "by itself", "SIGTERM", "SIGKILL", "engine killed")
OPTIONS = ("--task", "quick")
_LINE = "The amount of {number} euros is due within thirty days of receipt, by transfer.\n"
Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--documents", type=int, default=120)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        soak = Soak(make_home(Path(name)), options.documents)
        try:
            soak.run(options.minutes * 60)
        finally:
            soak.home.docflash("deploy", soak.home.documents, "--remove")
            end_engine(soak.home)
    report = {
        **describe_surroundings("prefect", "duckdb", "mlx"),
        "minutes": options.minutes,
        "documents": options.documents,
        "nights": sum(soak.nights.values()),
        "nights_by_end": dict(soak.nights),
        "nights_with_other_answers_than_documents": soak.wrong,
        "exit_codes": dict(soak.codes),
        **compare(soak.seen),
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def make_home(folder: Path) -> Home:
    """A user's folders, a tiny model, and a port for a Prefect server."""
    import socket

    from tests.tiny import write_llama

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = bare_environment(folder) | {
        "DOCFLASH_PREFECT_PORT": str(port),
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / ".config"),
    }
    home = Home(folder, write_llama(folder / "model", context_tokens=4096), environment)
    home.documents.mkdir()
    home.write_task("quick")
    return home


def compare(seen: list[Figures]) -> dict[str, Any]:
    """What was held towards the end, beside what was held a quarter of the time before."""
    quarter = max(1, len(seen) // 4)
    parts = {"third_quarter": seen[-2 * quarter : -quarter], "last_quarter": seen[-quarter:]}
    names = sorted({name for figures in seen for name in figures})
    return {
        "held": {
            name: {
                part: statistics.median(figures[name] for figures in some if name in figures)
                for part, some in parts.items()
                if any(name in figures for figures in some)
            }
            for name in names
        }
    }


class Soak:
    """A library through many nights.

    Attributes:
        nights: How many, by how they were to end.
        codes: How many, by the run's exit code.
        wrong: Nights after which the answers were not those of the documents.
        seen: What was held after each night.
    """

    def __init__(self, home: Home, documents: int) -> None:
        self.home = home
        self.nights: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.wrong = 0
        self.seen: list[Figures] = []
        self._chance = random.Random(7)
        self._made = 0
        self._documents = documents
        self._longest_s = 10.0

    def run(self, seconds: float) -> None:
        """Nights until the time is over; the last ones end by themselves."""
        for _ in range(self._documents):
            self._write_new()
        asked = ("--prompts", self.home.prompts, "--out", self.home.out, "--model", self.home.model)
        done = self.home.docflash(
            "deploy", self.home.documents, "--every", "1440", *asked, *OPTIONS, "--json"
        )
        if done.code:
            raise SystemExit(f"it can't be deployed: {done.out}{done.err}")
        while not (self.home.out / "latest").exists():  # the worker's own first night
            time.sleep(1)
        time.sleep(10)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._change()
            self.night(self._chance.choice(ENDS))

    def night(self, end: str) -> None:
        """One run over the folder, ended in some way."""
        began = time.monotonic()
        with self.home.running("--prompts", self.home.prompts, *OPTIONS) as run:
            if end != "by itself":
                self._disturb(run.pid, end)
            out, err = run.communicate()
            code = run.returncode
        self.nights[end] += 1
        self.codes[str(code)] += 1
        if end == "by itself":
            self._longest_s = min(60.0, time.monotonic() - began)
            if code or self._answered() != self._there():
                self.wrong += 1
                print(f"night {sum(self.nights.values())}: {code} {out!r} {err!r}", flush=True)
        self.seen.append(look(self.home))

    def _disturb(self, pid: int, end: str) -> None:
        time.sleep(self._chance.random() * self._longest_s)
        health = self.home.health() if end == "engine killed" else None
        target = pid if end != "engine killed" else int(health["pid"]) if health else 0
        kind = signal.SIGTERM if end == "SIGTERM" else signal.SIGKILL
        if target and psutil.pid_exists(target):
            os.kill(target, kind)

    def _there(self) -> list[str]:
        return sorted(str(path) for path in self.home.documents.iterdir())

    def _answered(self) -> list[str]:
        return sorted(row["path"] for row in self.home.rows("SELECT path FROM quick"))

    def _write_new(self) -> None:
        self._made += 1
        self._write(self.home.documents / f"{self._made}.txt")

    def _write(self, path: Path) -> None:
        number = self._chance.randrange(10**9)
        path.write_text(f"Letter {number}\n\n" + _LINE.format(number=number) * 10, "utf-8")
        age = OLD_S + self._chance.randrange(10**6)
        os.utime(path, (age, age))

    def _change(self) -> None:
        """A few documents are edited, moved, deleted, and as many come."""
        files = sorted(self.home.documents.iterdir())
        self._chance.shuffle(files)
        edited, moved, deleted = files[:4], files[4:7], files[7:10]
        for path in edited:
            self._write(path)
        for path in moved:
            self._made += 1
            path.rename(path.with_name(f"{self._made}.txt"))
        for path in deleted:
            path.unlink()
            self._write_new()


def look(home: Home) -> Figures:
    """What engine, server and worker hold in memory and open, and what is on the disk."""
    figures: Figures = {}
    health = home.health()
    pids = {"engine": int(health["pid"])} if health else {}
    told = home.docflash("service", "status", "--json").json["processes"]
    pids |= {one["role"]: int(one["pid"]) for one in told if one["pid"]}
    for role, pid in pids.items():
        try:
            process = psutil.Process(pid)
            figures[f"{role}_mib"] = round(process.memory_info().rss / 2**20, 1)
            figures[f"{role}_descriptors"] = process.num_fds()
            figures[f"{role}_threads"] = process.num_threads()
        except psutil.NoSuchProcess:
            continue
    for name in ("out", "state"):
        figures[f"{name}_mib"] = round(_bytes_in(home.folder / name) / 2**20, 2)
    return figures


def _bytes_in(folder: Path) -> int:
    """Bytes of all files; of those with several names once."""
    sizes: dict[int, int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(Path(place) / name)
            except FileNotFoundError:
                continue
            sizes[status.st_ino] = status.st_size
    return sum(sizes.values())


if __name__ == "__main__":
    main()
