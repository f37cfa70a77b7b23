"""How a library of 100,000 documents and two million chunks behaves: status, planning, publishing.

    uv run python benchmarks/scale.py [--documents 100000] [--pages 5] [--chunks 20]

Generates the library in SQL (pages of 1,500 characters, a summary of each document), publishes it,
then does what a night does, without files and without a model: looks at every file of the folder,
plans, saves and answers the documents that changed, publishes again, and asks for the status.
The night is a process of its own, as it is for a user, so that its peak of memory is not that of
the generating. Writes benchmarks/scale.json.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from machine import describe_surroundings  # noqa: E402

from pipeline.jobs import plan_jobs  # noqa: E402
from pipeline.parquet import publish  # noqa: E402
from pipeline.records import Chunk, FoundFile, Job  # noqa: E402
from pipeline.store import CutDocument, Store  # noqa: E402
from tests.library import (  # noqa: E402
    MODEL,
    OLD_NS,
    READER,
    make_document,
    make_file,
    make_result,
    make_run,
    make_task,
)

Figures = dict[str, float]

TARGETS_S = {"status": 1.0, "planning": 20.0, "publishing": 60.0}
TASK = make_task()
BATCH = 500
SLICE = 5000
FOLDER = Path("/in")
CHUNKING = "c" * 16

# A word of its own in each line, so that nothing compresses better than real text does.
_GENERATE = """
INSERT INTO documents BY NAME SELECT sha256('bytes' || i) AS sha256, 1500 AS size_bytes,
    'text/plain' AS media_type, 'read' AS status, 'Letter ' || i AS title,
    sha256('text' || i) AS text_sha256, $pages AS page_count, 1500 * $pages AS char_count,
    []::VARCHAR[] AS notes, '' AS failure_kind, '' AS failure, $reader AS reader_version,
    'run0' AS read_run_id, now() AS read_at, nextval('revisions') AS revision, 1 AS attempts
    FROM range($documents) t(i);
INSERT INTO files BY NAME SELECT '/in' AS folder, (i // 1000) || '/' || i || '.txt' AS name,
    10 AS size_bytes, $modified AS modified_ns, sha256('bytes' || i) AS document_sha256,
    epoch_ns(now()) AS read_started_ns, 'run0' AS first_run_id, 'run0' AS last_run_id
    FROM range($documents) t(i);
INSERT INTO cuts BY NAME SELECT sha256 AS document_sha256, $chunking AS chunking,
    $chunks AS chunk_count, nextval('revisions') AS revision FROM documents;
"""
# In slices, as the store's memory is bounded.
_FILL = """
INSERT INTO pages BY NAME SELECT revision AS document_revision, p::INTEGER AS number,
    array_to_string(list_transform(range(24), lambda n: 'The amount of ' || hash(revision, p, n)
    || ' euros is due in thirty days.'), chr(10)) AS text, ''::BLOB AS alignment,
    1500 * (p - 1) AS start_char, 'text' AS source, '' AS note
    FROM documents, range(1, 1 + $pages) t(p)
    WHERE revision > $start AND revision <= $stop ORDER BY revision, p;
INSERT INTO chunks BY NAME SELECT revision AS cut_revision, n::INTEGER AS number,
    n * 75 AS start_char, n * 75 + 80 AS end_char, n * 75 AS own_start, n * 75 + 75 AS own_end,
    1 AS page_first, 1 AS page_last, 20 AS tokens
    FROM cuts, range($chunks) t(n)
    WHERE revision - $documents > $start AND revision - $documents <= $stop ORDER BY revision, n;
"""
_ANSWER = """
UPDATE jobs SET state = 'done', attempts = 1;
INSERT INTO results BY NAME SELECT key AS job_key,
    to_json('A letter about ' || hash(key) || ' euros, due in thirty days.') AS value,
    1.0 AS probability, $chunking AS chunking, range($chunks)::INTEGER[] AS chunks, 1 AS calls,
    false AS cut, 400 AS prompt_tokens, 20 AS cached_tokens, 40 AS completion_tokens,
    1.5 AS model_s, 'run0' AS run_id, now() AS finished_at FROM jobs;
UPDATE assignments SET done_key = job_key;
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--pages", type=int, default=5, help="of a document")
    parser.add_argument("--chunks", type=int, default=20, help="of a document")
    parser.add_argument("--changed", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    report: dict[str, Any] = describe_surroundings("duckdb", "pyarrow")
    report |= {
        "documents": options.documents,
        "pages": options.documents * options.pages,
        "chunks": options.documents * options.chunks,
        "changed": options.changed,
        "targets_s": TARGETS_S,
    }
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "library"
        for step in (make_library, work_a_night):
            report |= in_a_process(step, out, options)
        report |= measure_status(out)
        report["library_bytes"] = sum(
            {path.stat().st_ino: path.stat().st_size for path in out.rglob("*.*")}.values()
        )
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


class Clock:
    """Times steps.

    Attributes:
        figures: How long each took.
    """

    def __init__(self) -> None:
        self.figures: Figures = {}

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        """What the work gives; how long it took is told and kept."""
        began = time.perf_counter()
        result = work()
        self.figures[f"{name}_s"] = round(time.perf_counter() - began, 2)
        print(f"{name}: {self.figures[f'{name}_s']} s", flush=True)
        return result


def in_a_process(
    step: Callable[[Path, argparse.Namespace], Figures], out: Path, options: argparse.Namespace
) -> Figures:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(step, out, options).result()


def peak_mib() -> int:
    """The most memory that this process had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def make_library(out: Path, options: argparse.Namespace) -> Figures:
    """Generates a library and publishes it."""
    clock = Clock()
    with Store.open(out) as store:
        clock.time("generating", lambda: generate(store, options))
        clock.time("first_publishing", lambda: publish(store, [TASK], "run0"))
    return {**clock.figures, "first_peak_mib": peak_mib()}


def work_a_night(out: Path, options: argparse.Namespace) -> Figures:
    """Times what a night does with a library."""
    clock = Clock()
    store = clock.time("opening", lambda: Store.open(out))
    with store:
        store.runs.save(make_run("run1"))
        changed = clock.time("checking_files", lambda: check_files(store, options))
        clock.time("saving_changes", lambda: save_changes(store, changed))
        pending = clock.time("planning", lambda: plan(store))
        if len(pending) != options.changed:
            raise SystemExit(f"{len(pending)} jobs were planned, not {options.changed}")
        clock.time("saving_answers", lambda: save_answers(store, pending))
        clock.time("counting", store.jobs.count)
        clock.time("publishing", lambda: publish(store, [TASK], "run1"))
        clock.time("publishing_nothing_new", lambda: publish(store, [TASK], "run1"))
    return {**clock.figures, "peak_mib": peak_mib()}


def measure_status(out: Path) -> Figures:
    clock = Clock()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    clock.time("status", lambda: show_status(out))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # What it takes on a machine that does nothing else, at most.
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return {**clock.figures, "status_processor_s": round(spent, 2)}


def generate(store: Store, options: argparse.Namespace) -> None:
    values = {
        "reader": READER,
        "documents": options.documents,
        "modified": OLD_NS,
        "chunking": CHUNKING,
        "chunks": options.chunks,
        "pages": options.pages,
    }
    store.runs.save(make_run("run0", state="done", finished_at=datetime.now(UTC)))
    run_sql(store, _GENERATE, values)
    for start in range(0, options.documents, SLICE):
        run_sql(store, _FILL, values | {"start": start, "stop": start + SLICE})
    plan(store)
    run_sql(store, _ANSWER, values)


def run_sql(store: Store, sql: str, values: dict[str, Any]) -> None:
    for statement in filter(str.strip, sql.split(";")):
        used = {name: value for name, value in values.items() if f"${name}" in statement}
        with store._database.transaction() as session:  # noqa: SLF001
            session.connection.execute(statement, used or None)


def check_files(store: Store, options: argparse.Namespace) -> list[FoundFile]:
    """Looks at every file, as a run does; gives those that changed."""
    changed: list[FoundFile] = []
    for start in range(0, options.documents, BATCH):
        batch = [
            make_file(
                f"{number // 1000}/{number}.txt",
                modified_ns=OLD_NS + (number < options.changed),
            )
            for number in range(start, min(start + BATCH, options.documents))
        ]
        changed += store.files.check("run1", batch, READER).to_read
    return changed


def save_changes(store: Store, changed: list[FoundFile]) -> None:
    for start in range(0, len(changed), 200):
        read = [
            (file, make_document(f"Another letter than before, {file.name}.\n" * 30))
            for file in changed[start : start + 200]
        ]
        store.documents.save("run1", READER, read)
        chunk = Chunk(0, 0, 100, 0, 100, 1, 1, 20)
        store.chunks.save(CutDocument(doc.sha256, CHUNKING, (chunk,) * 1) for _, doc in read)
    store.files.finish_search("run1", FOLDER)


def plan(store: Store) -> tuple[Job, ...]:
    """As `FolderRun.plan` does for one task."""
    live = store.documents.list_live(FOLDER)
    return store.jobs.plan("run1", plan_jobs(live, [TASK], MODEL)).pending


def save_answers(store: Store, pending: tuple[Job, ...]) -> None:
    for job in pending:
        store.jobs.finish("run1", job, make_result(job, "Another answer."), CHUNKING)


def show_status(out: Path) -> None:
    """`docflash status`, as a user runs it."""
    subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", "status", "--out", str(out)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main()
