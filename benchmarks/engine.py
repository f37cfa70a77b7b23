"""The engine against mlx-lm on documents: tokens per second by rows and task, cost of a step.

    uv run python benchmarks/engine.py [--rows 1 2 4 8 16 32] [--drafter FOLDER] [--tokens 96]
        [--sections rates contexts lossless] [--contexts 512 2000 8000] [--turns 4]

All systems run in one process with the same weights and prompts: mlx-lm's `generate` (one request
after the other) and `batch_generate`, our plain batched decoding, ours with drafts that cost
nothing (forced tokens, copies), ours with the drafter. Ours answers as the product's tasks ask:
with their penalties and schemas; the others decode greedily without, which is less work. Requests
all come at once, so a rate over the whole time includes reading the prompts. Tasks weigh equally;
prompts whose plain answers loop are left out. Our systems run in turns, three times: the median
counts. The section "contexts" asks one question about texts
of so many tokens, passages joined where one is too short. Other ports of DFlash, and llama.cpp on
CPUs, answer with 1 row only (`make peers` installs them); of one that can't, the report has its own
words. Done cells are kept in the report and not run again (--fresh forgets them). Writes
benchmarks/engine-DEVICE.json, which `engine_chart.py` draws.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import mlx.core as mx
from engine_cells import SECTIONS, Place, cells_of, wanted_prompts
from engine_lossless import compare_tokens
from engine_memory import Systems
from engine_peers import PACKAGES, make_peer, why_not
from engine_prompts import TASKS, Prompt, make_prompts
from engine_summary import summarise
from engine_systems import SYSTEMS, Answers, System, make_system
from machine import describe_surroundings, say

from pipeline.engine.loading.models import resolve_model
from pipeline.engine.loading.shipped import drafter_of
from pipeline.engine.machine.blas import LAUNCHES, serving_environment, uses_cuda
from pipeline.engine.machine.heap import keep_for_good
from pipeline.settings import EMBEDDED_MODEL
from pipeline.training.shards import repeats_itself

WARM_TOKENS = 24
SERIAL = 3
"""Requests of a cell of `ONE_BY_ONE`, whose rates do not depend on how many there are."""
ONE_BY_ONE = ("mlx_lm_serial", *PACKAGES)
PEERS = ("mlx_lm_serial", "mlx_lm_batch", "plain", *PACKAGES)
FREE = ("plain", "copies", "drafter")
LOOKS_FOR_LOOPS = "plain, to find answers that loop"
"""One of its own, so that the rows it takes are not in the memory of the one that is measured."""
CHOICES = (*SYSTEMS, *PACKAGES)
BEGUN = "DOCFLASH_BENCHMARK_BEGUN"


@dataclass(frozen=True, slots=True)
class Cell:
    """One system on one task with so many rows.

    Attributes:
        tokens: Of all answers.
        tokens_per_s: Over the whole time, prompts included; `decode_tokens_per_s` without them.
        first_token_ms: The mean; waiting for a free row counts, but for `ONE_BY_ONE`.
        from_row_ms: The mean without that wait; 0 if it is not known.
        step_ms: The mean; `host_share` of it is spent outside of the forwards.
        per_verify: Tokens gained per row and forward.
        peak_mb: Most memory that MLX held, for all systems; `own_peak_mb` for this one alone
            (llama.cpp: its whole process).
    """

    tokens: int
    tokens_per_s: float
    decode_tokens_per_s: float
    first_token_ms: float
    from_row_ms: float
    step_ms: float
    host_share: float
    per_verify: float
    peak_mb: int
    own_peak_mb: int


def main() -> None:
    options = read_options()
    peers = [name for name in options.systems if name not in FREE]
    if uses_cuda() and 0 < len(peers) < len(options.systems):
        measure_as_they_come(peers)
        options.systems = [name for name in options.systems if name in FREE]
        options.fresh = False
    info = resolve_model(options.model)
    report = Report(options)
    count = max(wanted_prompts(max(options.rows), options.turns), options.lossless)
    prompts = make_prompts(options.passages, count, samples=options.samples)

    def load(name: str) -> System:
        say(f"loading {name}")
        if name in PACKAGES:
            return make_peer(name, info, options.drafter)
        name = "plain" if name == LOOKS_FOR_LOOPS else name
        return make_system(name, info, options.drafter, max(options.rows))

    systems = Systems(load)
    if "lossless" in options.sections:
        report.data["lossless"] = compare_tokens(
            systems.get("plain"), systems.get("drafter"), prompts, options
        )
        report.write()
    words = {info.folder: "TARGET", options.drafter: "DRAFTER"}
    first = prompts[options.tasks[0]][0]
    for name in [name for name in options.systems if name in PACKAGES]:
        if not report.try_peer(name, why_not(name, systems.get, first, words)):
            options.systems.remove(name)
    fill_cells(report, systems, prompts, options)
    report.conclude()


def measure_as_they_come(peers: list[str]) -> None:
    """Fills the peers' cells in a process of their own: how MLX launches is read once by each.

    The engine has it launch without graphs; peers are to run as they do by themselves.
    """
    as_it_comes = os.environ | dict.fromkeys(LAUNCHES, "1")
    subprocess.run([sys.executable, *sys.argv, "--systems", *peers], env=as_it_comes, check=True)


def fill_cells(
    report: "Report",
    systems: Systems,
    prompts: dict[str, list[Prompt]],
    options: argparse.Namespace,
) -> None:
    """Each system in each cell; the peers with one row only."""
    for place, found in cells_of(options, prompts):
        chosen = without_loops(systems.get(LOOKS_FOR_LOOPS), found, place.rows, options)
        for name in options.systems:
            if name not in FREE and (place.rows == 1 or name not in PACKAGES):
                report.fill(place, [name], systems.get, chosen)
        report.fill(place, [name for name in options.systems if name in FREE], systems.get, chosen)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--systems", nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--sections", nargs="+", default=["rates"], choices=SECTIONS)
    parser.add_argument("--contexts", type=int, nargs="+", default=[512, 2000, 8000])
    parser.add_argument("--tokens", type=int, default=96, help="the most of an answer")
    parser.add_argument("--turns", type=int, default=4, help="requests for each row")
    parser.add_argument("--rounds", type=int, default=3, help="of our systems, in turns")
    parser.add_argument("--lossless", type=int, default=0, help="prompts per task to compare")
    parser.add_argument("--model", default=EMBEDDED_MODEL)
    parser.add_argument("--drafter", default="", help="folder of one, 'shipped', or 'none'")
    parser.add_argument("--passages", type=Path, help='lines of {"text": ...}, beside sample_docs')
    parser.add_argument("--no-samples", dest="samples", action="store_false")
    parser.add_argument("--device", default=device_name(), help="names the machine in the report")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.out = options.out or Path(__file__).with_name(f"engine-{options.device}.json")
    options.drafter = drafter_of(options.model, options.drafter)
    if not options.drafter:
        options.systems = [name for name in options.systems if name != "drafter"]
    return options


def device_name() -> str:
    if mx.default_device() == mx.Device(mx.cpu):
        return f"cpu-{platform.machine()}"
    name = str(mx.device_info().get("device_name", "gpu"))
    return "-".join(word.lower() for word in name.split() if word not in {"NVIDIA", "Apple"})


def without_loops(
    plain: System, prompts: list[Prompt], rows: int, options: argparse.Namespace
) -> list[Prompt]:
    """The first prompts whose plain answers don't loop, as many as the cell needs."""
    wanted, chosen = wanted_prompts(rows, options.turns), list[Prompt]()
    unknown = [prompt for prompt in prompts if prompt.loops is None][: 2 * wanted]
    if sum(prompt.loops is False for prompt in prompts) < wanted and unknown:
        answers = plain.answer(unknown, max(rows, 8), options.tokens, nonce="look")
        for prompt, text in zip(unknown, answers.texts, strict=True):
            prompt.loops = repeats_itself(text)
    chosen = [prompt for prompt in prompts if prompt.loops is False][:wanted]
    return chosen or prompts[:wanted]


class Report:
    """The figures so far, written after every cell."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._out: Path = options.out
        self._tokens: int = options.tokens
        self._rounds: int = options.rounds
        self.data: dict[str, Any] = {"cells": {}}
        if self._out.is_file() and not options.fresh:
            self.data = json.loads(self._out.read_text())
        self.data |= describe_surroundings("mlx", "mlx-lm") | {
            "device": options.device,
            "most_answer_tokens": options.tokens,
            "requests_per_row": options.turns,
        }

    def try_peer(self, name: str, refusal: dict[str, str]) -> bool:
        """Notes whether a peer answers, by what `why_not` says."""
        refused: dict[str, Any] = self.data.setdefault("peers_not_run", {})
        ran: dict[str, str] = self.data.setdefault("peers_run", {})
        refused.pop(name, None)
        if not refusal:
            ran[name] = f"{PACKAGES[name]} {version(PACKAGES[name])}"
        elif name not in ran:  # an earlier run may have had what is not installed now
            refused[name] = refusal
            say(f"{name} can't run: {refusal['error']}")
        self.write()
        return not refusal

    def fill(
        self, place: Place, names: list[str], load: Callable[[str], System], prompts: list[Prompt]
    ) -> None:
        """Runs cells unless they are there already: several in turns, of which the median counts.

        So what else the machine does hits all of them, and their ratio is that of equals. In every
        turn the work is the same: no other prompts, which could have longer answers.
        """
        rows, cells = place.rows, self.data
        for key in place.keys:
            cells = cells.setdefault(key, {})
        names = [name for name in names if name not in cells]
        systems = {name: load(name) for name in names}
        asked = {name: prompts[:SERIAL] if name in ONE_BY_ONE else prompts for name in names}
        nonce = f"run{rows}"
        for name, system in systems.items():
            # The whole, so that every shape has been compiled; of others one is like the other.
            warm = WARM_TOKENS if name in ONE_BY_ONE else self._tokens
            system.answer(asked[name], rows, warm, nonce=nonce)
        keep_for_good()  # as the engine does when it has loaded a model
        found: dict[str, list[Answers]] = {name: [] for name in names}
        for _ in range(self._rounds if len(names) > 1 else 1):
            for name, system in systems.items():
                found[name].append(system.answer(asked[name], rows, self._tokens, nonce=nonce))
        for name, rounds in found.items():
            middle = sorted(rounds, key=lambda answers: answers.wall_s)[len(rounds) // 2]
            self._keep(place, cells, name, middle)
        self.write()

    def _keep(self, place: Place, cells: dict[str, Any], name: str, answers: Answers) -> None:
        rows, cell = place.rows, measure(answers)
        cells[name] = {key: round(value, 3) for key, value in asdict(cell).items()}
        cells[name] |= {"steps_by_width": answers.widths} if answers.widths else {}
        say(
            f"{rows:3d} rows {place.label:11s} {name:14s} {cell.tokens_per_s:8.1f} tok/s "
            f"(decode {cell.decode_tokens_per_s:8.1f}) step {cell.step_ms:6.1f} ms "
            f"host {cell.host_share:5.1%} per verify {cell.per_verify:4.2f} "
            f"first {cell.first_token_ms:6.0f} ms {answers.widths or ''}"
        )

    def conclude(self) -> None:
        """Adds the ratios over the tasks and prints them."""
        cells = self.data["cells"]
        self.data["ratios"] = {
            rows: ratios(with_one_by_one(tasks, cells)) for rows, tasks in cells.items()
        }
        self.data["context_ratios"] = {
            tokens: {rows: ratios({"question": cell}) for rows, cell in by_rows.items()}
            for tokens, by_rows in self.data.get("contexts", {}).items()
        }
        self.data["summary"] = summarise(cells)
        for rows, found in self.data["ratios"].items():
            print(f"{rows:>3s} rows", found, flush=True)
        self.write()

    def write(self) -> None:
        """Writes all that is known so far."""
        self._out.write_text(json.dumps(self.data, indent=1) + "\n")


def measure(answers: Answers) -> Cell:
    tokens = sum(answers.tokens)
    return Cell(
        tokens=tokens,
        tokens_per_s=tokens / answers.wall_s,
        decode_tokens_per_s=tokens / answers.decode_s,
        first_token_ms=1e3 * sum(answers.first_s) / max(1, len(answers.first_s)),
        from_row_ms=1e3 * sum(answers.from_row_s) / max(1, len(answers.from_row_s)),
        step_ms=1e3 * answers.decode_s / max(1, answers.steps),
        host_share=max(0.0, 1 - answers.forward_s / answers.decode_s) if answers.forward_s else 0.0,
        per_verify=tokens / max(1, answers.row_steps),
        peak_mb=mx.get_peak_memory() >> 20,
        own_peak_mb=answers.peak_mb,
    )


def with_one_by_one(tasks: dict[str, Any], cells: dict[str, Any]) -> dict[str, Any]:
    """The cells of some number of rows, with those of 1 row of what never has more."""
    alone = {task: cells.get("1", {}).get(task, {}) for task in tasks}
    return {
        task: {name: cell for name, cell in alone[task].items() if name in ONE_BY_ONE} | found
        for task, found in tasks.items()
    }


def ratios(tasks: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
    """Each of our systems over each peer, the geometric mean of the tasks that have both."""
    found: dict[str, float] = {}
    for rate in ("tokens_per_s", "decode_tokens_per_s"):
        for ours in FREE:
            for peer in PEERS:
                pairs = [
                    (cells[ours][rate], cells[peer][rate])
                    for cells in tasks.values()
                    if ours in cells and peer in cells and ours != peer
                ]
                if pairs:
                    mean = geometric_mean(a / b for a, b in pairs)
                    found[f"{ours}_over_{peer}_{rate}"] = round(mean, 2)
    return found


if __name__ == "__main__":
    if BEGUN not in os.environ and (added := serving_environment(read_options().model)):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | added | {BEGUN: "1"})  # noqa: S606
    main()
