"""How much the safety of reading costs: sample PDFs by Reader against a bare pypdf loop.

    uv run python benchmarks/reading.py [FOLDER] [--rounds 5]

Both are warm (parsers imported, read server started) and take turns, so that a busy machine slows
both. The bare loop only extracts text; Reader also hashes, normalises and aligns it, in a process
per file that is locked in. It is timed as a run reads, several files at once, and one by one. Then
1,000 small text files. Writes benchmarks/reading.json.
"""

import argparse
import io
import json
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pypdf
from machine import describe_surroundings

from pipeline.documents import Selection, find_documents
from pipeline.errors import DocumentError
from pipeline.ingest import readers_of_a_run
from pipeline.reader import Reader
from pipeline.records import FoundFile

TARGET_RATIO = 1.3
TARGET_TEXT_FILES_S = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("sample_docs/documents"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    selection = Selection(include=("*.pdf",))
    files = [f for f in find_documents(options.folder, selection) if isinstance(f, FoundFile)]
    if not files:
        parser.error(f"there are no PDFs in folder={str(options.folder)!r}")
    with Reader() as reader:
        pdfs = compare(reader, files, options.rounds)
        texts = read_small_texts(reader)
    report = {
        **describe_surroundings("pypdf"),
        "pdfs": pdfs,
        "small_texts": texts,
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def compare(reader: Reader, files: list[FoundFile], rounds: int) -> dict[str, float | int]:
    read_all(reader, files[:1], 1)
    read_bare(files[:1])
    bare: list[float] = []
    as_a_run: list[float] = []
    one_by_one: list[float] = []
    for _ in range(rounds):
        bare.append(read_bare(files))
        as_a_run.append(read_all(reader, files, readers_of_a_run()))
        one_by_one.append(read_all(reader, files, 1))
    return {
        "files": len(files),
        "bare_pypdf_s": round(statistics.median(bare), 3),
        "readers_of_a_run": readers_of_a_run(),
        "as_a_run_reads_s": round(statistics.median(as_a_run), 3),
        "ratio": ratio(as_a_run, bare),
        "target_ratio": TARGET_RATIO,
        "one_by_one_s": round(statistics.median(one_by_one), 3),
        "one_by_one_ratio": ratio(one_by_one, bare),
    }


def ratio(ours: list[float], theirs: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)


def read_all(reader: Reader, files: list[FoundFile], at_once: int) -> float:
    def read(file: FoundFile) -> None:
        try:
            reader.read(file)
        except DocumentError as error:
            print(f"{file.name}: {error}")

    start = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(read, files))
    return time.perf_counter() - start


def read_bare(files: list[FoundFile]) -> float:
    start = time.perf_counter()
    for file in files:
        try:
            for page in pypdf.PdfReader(io.BytesIO(file.path.read_bytes())).pages:
                page.extract_text()
        except Exception:  # noqa: BLE001, S112 (the samples have broken PDFs on purpose)
            continue
    return time.perf_counter() - start


def read_small_texts(reader: Reader, count: int = 1000) -> dict[str, float | int]:
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            text = f"Note {number}\n\n" + "The quick brown fox jumps over the lazy dog.\n" * 40
            Path(folder, f"{number:04}.txt").write_text(text)
        start = time.perf_counter()
        for found in find_documents(Path(folder)):
            if isinstance(found, FoundFile):
                reader.read(found)
        seconds = time.perf_counter() - start
    return {
        "files": count,
        "seconds": round(seconds, 3),
        "files_per_s": round(count / seconds),
        "target_s_with_chunks_and_plan": TARGET_TEXT_FILES_S,
    }


if __name__ == "__main__":
    main()
