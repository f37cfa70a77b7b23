"""What Prefect, the store and all else but the model take for each document, at 1,000 documents.

    uv run python benchmarks/overhead.py [--documents 1000] [--rounds 3]

`docflash run` as a user starts it, with its Prefect server, page readers and store, but with an
engine in place of the real one that gives its answer at once: so what is left is everything but the
model, and but the way to the engine's process and back. Each round takes a run over new text files
and then one over the same, unchanged, whose time is taken off. Writes benchmarks/overhead.json.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from machine import describe_surroundings  # noqa: E402

from tests.home import Home, bare_environment  # noqa: E402

TARGET_MS = 50.0
AT_ONCE = """
from pipeline.folder_run import FolderRun
from tests.scripted_run import ScriptedEngine
FolderRun._engine = lambda self, engine=ScriptedEngine(): engine
"""
_LINE = "The amount of {number} euros is due within thirty days of receipt, by transfer.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rounds = measure(Path(name), options.documents, options.rounds)
    report = {
        **describe_surroundings("prefect", "duckdb", "pyarrow"),
        "documents": options.documents,
        "target_ms_a_document": TARGET_MS,
        "ms_a_document": statistics.median(took for took, _ in rounds),
        "processor_ms_a_document": statistics.median(spent for _, spent in rounds),
        "ms_a_document_by_round": [took for took, _ in rounds],
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def measure(folder: Path, documents: int, rounds: int) -> list[tuple[float, float]]:
    """For each round: milliseconds a document, of the clock and of all processors."""
    from tests.tiny import write_llama

    model = write_llama(folder / "model", context_tokens=4096)
    home = Home(folder, model, bare_environment(folder))
    home.documents.mkdir()
    home.write(warm="A letter.")
    run(home)  # the first makes Prefect's database
    found: list[tuple[float, float]] = []
    for number in range(rounds):
        texts = {
            f"{number}-{one}": f"Letter {number}-{one}\n\n" + _LINE.format(number=one) * 20
            for one in range(documents)
        }
        home.write(**texts)
        (took, spent), (again, spent_again) = run(home, documents), run(home)
        found.append(
            (
                round((took - again) * 1000 / documents, 1),
                round((spent - spent_again) * 1000 / documents, 1),
            )
        )
        print(f"round {number}: {found[-1]} ms of the clock and of processors", flush=True)
    return found


def run(home: Home, answers: int | None = None) -> tuple[float, float]:
    """Seconds of a run, of the clock and of the processors."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = home.run("--task", "summary", before=AT_ONCE)
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.code or (answers is not None and done.json["run"]["jobs_done"] != answers):
        raise SystemExit(f"the run went wrong: {done.out}{done.err}")
    return took, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
