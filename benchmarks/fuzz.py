"""Has the reader read thousands of damaged documents: none may hang it or take it down.

    uv run python benchmarks/fuzz.py [--pdfs 5000] [--others 1500] [--first 0] [--ocr] [--out FILE]

Mutants of sample_docs and of the hostile files of the tests, the same for the same number. Each is
read as a run reads it, in a child under limits; what became of it is counted by kind. A hang is an
answer that comes later than the limit and its grace (with --ocr each few pages that are pictures
have the limit anew, as in a run, and each of them if they fail together); a crash is anything else
than a row. Writes benchmarks/fuzz.json, with the numbers of the slowest mutants and of those that
took their reader down, so that they can be looked into.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from machine import describe_surroundings  # noqa: E402

from pipeline.errors import DocumentError  # noqa: E402
from pipeline.ocr import ocr_version  # noqa: E402
from pipeline.reader import Reader  # noqa: E402
from pipeline.records import Document, FoundFile  # noqa: E402
from pipeline.scans import PAGES_AT_ONCE, count_failures  # noqa: E402
from tests import hostile, pdfs  # noqa: E402
from tests.mutate import Seed, mutate  # noqa: E402

TIMEOUT_S = 10.0
GRACE_S = 5.0
MEMORY_BYTES = 512 << 20
LARGEST_SEED = 60_000
NAMED = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mutant: "read", or the kind of its failure; "crash: ..." if neither."""

    number: int
    name: str
    kind: str
    seconds: float
    limit_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--pdfs", type=int, default=5000)
    parser.add_argument("--others", type=int, default=1500, help="HTML, e-mail and text files")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--ocr", action="store_true", help="have pages without text read by OCR")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    seeds = gather_seeds()
    report: dict[str, object] = describe_surroundings("pypdf", "lxml")
    report |= {"limit_s": TIMEOUT_S, "memory_bytes": MEMORY_BYTES, "first": options.first}
    report["ocr"] = ocr_version() if options.ocr else ""
    for kind, count in ((".pdf", options.pdfs), ("others", options.others)):
        chosen = [seed for seed in seeds if (seed.suffix == ".pdf") == (kind == ".pdf")]
        report["pdfs" if kind == ".pdf" else "others"] = fuzz(
            chosen, range(options.first, options.first + count), reads_scans=options.ocr
        )
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def gather_seeds() -> list[Seed]:
    """The documents that are damaged: real ones that are not too large, and hostile ones."""
    seeds = [
        Seed(path.name, path.suffix, path.read_bytes())
        for path in sorted((ROOT / "sample_docs" / "documents").rglob("*"))
        if path.suffix in {".pdf", ".html", ".eml", ".txt"} and path.stat().st_size < LARGEST_SEED
    ]
    made = {
        "form.pdf": pdfs.make_form_pdf(),
        "two-pages.pdf": pdfs.make_pdf("a word\nand more", "page two"),
        "encrypted.pdf": pdfs.encrypt(pdfs.make_pdf("a word"), ""),
        "loop.pdf": hostile.looping_contents(),
        "form-loop.pdf": hostile.looping_form(),
        "programs.pdf": hostile.programs("/nonexistent/marker"),
        "deep.pdf": hostile.deep_filters(8),
        "entities.html": hostile.entities("/etc/passwd"),
        "deep.html": hostile.deep_html(2000),
        "files.eml": hostile.email_with_files(),
        "deep.eml": hostile.deep_email(30),
    }
    return seeds + [Seed(name, Path(name).suffix, data) for name, data in made.items()]


def fuzz(seeds: Sequence[Seed], numbers: range, *, reads_scans: bool) -> dict[str, object]:
    """Reads mutants, and tells what became of them."""
    began = time.perf_counter()
    outcomes = list(read_mutants(seeds, numbers, reads_scans=reads_scans))
    slowest = sorted(outcomes, key=lambda outcome: -outcome.seconds)[:NAMED]
    broken = [each for each in outcomes if each.kind in {"crashed", "killed", "timeout", "memory"}]
    return {
        "seeds": len(seeds),
        "mutants": len(numbers),
        "recorded": sum(not outcome.kind.startswith("crash:") for outcome in outcomes),
        "hangs": sum(outcome.seconds > outcome.limit_s + GRACE_S for outcome in outcomes),
        "crashes": [describe(each) for each in outcomes if each.kind.startswith("crash:")],
        "outcomes": dict(Counter(outcome.kind for outcome in outcomes).most_common()),
        "slowest_s": round(slowest[0].seconds, 2),
        "slowest": [describe(outcome) for outcome in slowest[:3]],
        "ended_by_limits": [describe(outcome) for outcome in broken[:NAMED]],
        "took_s": round(time.perf_counter() - began, 1),
    }


def read_mutants(seeds: Sequence[Seed], numbers: range, *, reads_scans: bool) -> Iterator[Outcome]:
    """Reads mutants as a run does: several at once, each in a child."""
    workers = os.cpu_count() or 1
    with (
        tempfile.TemporaryDirectory() as folder,
        Reader(TIMEOUT_S, MEMORY_BYTES, reads_scans=reads_scans) as reader,
        ThreadPoolExecutor(workers) as pool,
    ):
        yield from pool.map(lambda n: read_mutant(reader, Path(folder), seeds, n), numbers)


def read_mutant(reader: Reader, folder: Path, seeds: Sequence[Seed], number: int) -> Outcome:
    """Reads one mutant."""
    mutant = mutate(seeds, number)
    path = folder / f"{number}{mutant.suffix}"
    path.write_bytes(mutant.data)
    began, limit_s = time.perf_counter(), TIMEOUT_S
    try:
        document = reader.read(FoundFile(folder, path, path.name, 0, 0))
        kind = document.failure_kind or document.status
        limit_s *= 1 + count_orders(document)
    except DocumentError as error:
        kind = error.kind
    except Exception as error:  # noqa: BLE001  this is what is looked for
        kind = f"crash: {type(error).__name__}"
    seconds = time.perf_counter() - began
    path.unlink()
    return Outcome(number, mutant.name, kind, seconds, limit_s)


def count_orders(document: Document) -> int:
    """How often pages were given to OCR, each time with a limit of its own.

    Where some at once fail, each of them is tried alone.
    """
    failed = count_failures(document.pages)
    read = sum(page.source == "ocr" for page in document.pages)
    return math.ceil((read + failed) / PAGES_AT_ONCE) * (1 if not failed else 1 + PAGES_AT_ONCE)


def describe(outcome: Outcome) -> str:
    """An outcome in a line."""
    return f"{outcome.name}: {outcome.kind} after {outcome.seconds:.2f} s"


if __name__ == "__main__":
    main()
