"""Faults at random, and what must hold after each: for tests/test_faults.py and benchmarks/faults.

A case is a seed. It makes a folder of documents and runs over it several times (real runs, but for
Prefect and the model: tests/scripted_run.py), each in a process of its own. To some of the runs
something happens: a kill at a chosen step or moment, a killed reader, a full disk, an output that
can't be written, a clock that jumps, an engine that is lost; and documents come, change and go in
between. After every run the library must be whole (`check_library`), and a last run without a fault
must leave it as if nothing had happened (`check_end`).
"""

import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pipeline.errors import DocflashError, EngineError, EngineLostError
from pipeline.queries import query
from pipeline.records import Job
from pipeline.snapshots import SNAPSHOTS, current_snapshot, read_manifest
from pipeline.store import Store
from tests.pdfs import make_pdf
from tests.scripted_run import ScriptedEngine, make_order, run_folder

FAULTS = (
    *("killed at a step", "killed at a moment", "killed reader", "full disk"),
    *("output not writable", "clock jumps", "engine lost", "engine gone"),
)
OLD_S = 1_700_000_000
END_S = 120.0
KEY_CHARS = 16
LONGEST_RUN_S = 1.0
_DISK = ("-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs")
DONE, REFUSED, FAULTY = 0, 3, 4
FILES = {
    *("store.duckdb", "store.duckdb.wal", "store.lock", "latest", "snapshots", "spill"),
    *("store.new.duckdb", "store.new.duckdb.wal", ".latest.new", "ledger"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a run.

    Attributes:
        kind: One of `FAULTS`, or empty.
        step: For what happens at a step: which one.
        part: For what happens at a moment, or to a size: how much of the whole, 0 to 1.
    """

    kind: str = ""
    step: int = 0
    part: float = 0.0


@dataclass(slots=True)
class Case:
    """A seed's folders, and what was seen.

    Attributes:
        violations: What should hold and did not.
        runs: How each run ended: the fault's kind and the exit code.
        has_disk: The library lies on a small file system of its own.
    """

    seed: int
    folder: Path
    model: Path
    violations: list[str] = field(default_factory=list[str])
    runs: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    has_disk: bool = False

    @property
    def documents(self) -> Path:
        return self.folder / "documents"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"


def run_case(seed: int, folder: Path, model: Path) -> Case:
    """One seed, from an empty folder to the last check."""
    case = Case(seed, folder, model)
    case.documents.mkdir(parents=True)
    case.out.mkdir(mode=0o700)
    kind = FAULTS[seed % len(FAULTS)]
    # Half of the full disks are real ones, where this user may mount.
    is_disk = kind == "full disk" and seed // len(FAULTS) % 2 == 1
    with (
        _mounted(case.out, *_DISK) if is_disk else nullcontext(enter_result=False) as case.has_disk
    ):
        _run_case(case, random.Random(seed), kind)
    return case


def _run_case(case: Case, chance: random.Random, kind: str) -> None:
    change_documents(case.documents, chance, pdfs=kind == "killed reader")
    for _ in range(chance.choice((1, 1, 2))):
        fault = Fault(kind, int(2 ** chance.uniform(0, 9)), chance.random())
        case.runs.append((kind, run_with(case, fault)))
        check_library(case)
        change_documents(case.documents, chance, pdfs=False)
    case.runs.append(("", run_with(case, Fault())))
    check_library(case)
    check_end(case)


def change_documents(folder: Path, chance: random.Random, *, pdfs: bool) -> None:
    """Documents come, change, move and go; all are of long ago, so that none is read twice."""
    present = sorted(folder.iterdir())
    for path in present:
        match chance.randrange(6):
            case 0:
                path.unlink()
            case 1:
                path.rename(path.with_name(f"moved-{chance.randrange(10_000)}{path.suffix}"))
            case 2 if path.suffix == ".txt":
                path.write_text(f"Changed to {chance.random()}.")
            case _:
                pass
    for _ in range(chance.randrange(2, 9)):
        name, text = f"{chance.randrange(10**9)}", f"Letter number {chance.random()}."
        if pdfs:
            (folder / f"{name}.pdf").write_bytes(make_pdf(text))
        else:
            (folder / f"{name}.txt").write_text(text)
    for path in folder.iterdir():
        os.utime(path, (OLD_S, OLD_S + chance.randrange(1000)))


def run_with(case: Case, fault: Fault) -> int:
    """One run in a process of its own, with a fault; its exit code, negative for a signal."""
    with _output(case, fault):
        process = _PROCESSES.Process(
            target=_run, args=(case.documents, case.out, case.model, fault, case.has_disk)
        )
        process.start()
        if fault.kind == "killed at a moment":
            process.join(fault.part * LONGEST_RUN_S)
            process.kill()
        elif fault.kind == "killed reader":
            _kill_readers(process.pid or 0)
        process.join(END_S)
        if process.exitcode is None:
            process.kill()
            process.join()
            case.violations.append(f"a run did not end within {END_S:g} s ({fault})")
    code = process.exitcode or 0
    if code not in {DONE, REFUSED, -signal.SIGKILL}:
        case.violations.append(f"a run ended with a fault of docflash (exit={code}, {fault})")
    return code


_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.faults", "pypdf", "pipeline.reader", "duckdb"])


@contextmanager
def _output(case: Case, fault: Fault) -> Generator[None]:
    """The output folder as the fault has it."""
    out = case.out
    if case.has_disk and fault.kind:
        used = sum(path.stat().st_blocks * 512 for path in out.rglob("*"))
        _remount(out, f"size={used + int(1_500_000 * fault.part)}")
        yield
        _remount(out, "size=64m")
    elif fault.kind == "output not writable" and os.geteuid():
        out.chmod(0o500)
        yield
        out.chmod(0o700)
    elif fault.kind == "output not writable":
        with _mounted(out, "--bind", str(out)):
            _remount(out, "bind,ro")
            yield
    else:
        yield


@contextmanager
def _mounted(place: Path, *arguments: str) -> Generator[bool]:
    """Something mounted in a place, where this user may do so; whether it is."""
    command = ["mount", *arguments, str(place)]
    mounted = not subprocess.run(command, check=False, capture_output=True).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)


def _remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def _kill_readers(run: int) -> None:
    """Kills what reads documents, twice: a third time would be recorded as a failure."""
    seen: set[int] = set()
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(run)
        while len(seen) < 2 and process.status() != psutil.STATUS_ZOMBIE:
            for child in process.children(recursive=True):
                if child.pid not in seen and len(seen) < 2:
                    seen.add(child.pid)
                    child.kill()
            time.sleep(0.005)


# From here on: in the process of a run.


def _run(documents: Path, out: Path, model: Path, fault: Fault, has_disk: bool) -> None:
    ledger = documents.parent / "ledger"
    os.setsid()
    log = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(word: str, key: str) -> None:
        os.write(log, f"{word} {key[:KEY_CHARS]}\n".encode())

    engine = ScriptedEngine(lambda request_id: note("asked", request_id))
    engine_fault = _arm(fault, engine, has_disk=has_disk)
    if engine_fault is not None:
        engine._on_ask = _both(engine._on_ask, engine_fault)

    def answered(job: Job) -> None:
        note("done", job.key)

    code = FAULTY
    try:
        run_folder(make_order(documents, out, model), engine, answered)
        code = DONE
    except DocflashError as error:
        (ledger.parent / "refusal").write_text(str(error))
        code = REFUSED
    except BaseException:
        import traceback

        (ledger.parent / "fault").write_text(traceback.format_exc())
        raise
    finally:
        os._exit(code)


def _both(first: Callable[[str], None], second: Callable[[str], None]) -> Callable[[str], None]:
    def do_both(request_id: str) -> None:
        first(request_id)
        second(request_id)

    return do_both


def _arm(fault: Fault, engine: ScriptedEngine, *, has_disk: bool) -> Callable[[str], None] | None:
    """Prepares what will happen in this process."""
    if fault.kind == "killed at a step":
        _die_at(fault.step)
    elif fault.kind == "full disk" and not has_disk:
        size = int(4000 * 1000**fault.part)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    elif fault.kind == "clock jumps":
        _jump(fault.part)
    elif fault.kind in {"engine lost", "engine gone"}:
        return _lose(fault, engine)
    return None


def _die_at(step: int) -> None:
    """Kills this process at a step: whatever Python does with files, and each question."""
    left = step

    def count(event: str, _arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event.startswith(("open", "os.", "shutil.", "socket.", "subprocess.")):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def _lose(fault: Fault, engine: ScriptedEngine) -> Callable[[str], None]:
    """At one question the engine is lost, or is gone for good."""

    def happen(_: str) -> None:
        number = len(engine.asked)
        if fault.kind == "engine lost" and number == 1 + fault.step % 4:
            engine._lives += 1
            raise EngineLostError("the engine was lost")
        if fault.kind == "engine gone" and number > fault.step % 4:
            raise EngineError("the engine can't be started")

    return happen


def _jump(part: float) -> None:
    """Sets this process's clock forth or back, by up to half a year, again and again."""
    from datetime import datetime, timedelta, tzinfo

    import pipeline.folder_run
    import pipeline.parquet
    import pipeline.store.documents
    import pipeline.store.runs

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Jumping":  # pyright: ignore[reportIncompatibleMethodOverride]
            days = (part - 0.5) * 365 * (1 if threading.get_ident() % 2 else -1)
            shifted = datetime.now(tz) + timedelta(days=days)
            return cls.fromtimestamp(shifted.timestamp(), tz)

    rooms: list[Any] = [
        pipeline.folder_run,
        pipeline.parquet,
        pipeline.store.documents,
        pipeline.store.runs,
    ]
    for room in rooms:
        room.datetime = Jumping


# From here on: what must hold.


def check_library(case: Case) -> None:
    """What must hold after any run, however it ended."""
    told: dict[str, list[str]] = {"asked": [], "done": []}
    finished: set[str] = set()
    for line in case.ledger.read_text().splitlines() if case.ledger.exists() else ():
        word, key = line.split()
        told[word].append(key)
        if word == "done":
            finished.add(key)
        elif key in finished:
            case.violations.append("a finished model call was repeated")
    _check_published(case)
    names = {path.name for path in case.out.iterdir()} if case.out.exists() else set[str]()
    if names - FILES:
        case.violations.append(f"there are files that nobody needs: {sorted(names - FILES)}")
    try:
        with Store.open(case.out) as store:
            _check_store(case, store, finished)
    except DocflashError as error:
        case.violations.append(f"the store does not open: {error}")


def _check_store(case: Case, store: Store, finished: set[str]) -> None:
    with store.snapshot() as session:
        done = {key for (key,) in session.rows("SELECT job_key FROM results")}
        running = session.count("SELECT count(*) FROM runs WHERE state = 'running'")
        orphans = session.count(
            "SELECT count(*) FROM pages WHERE document_revision NOT IN "
            "(SELECT revision FROM documents)"
        )
    if not finished <= {key[:KEY_CHARS] for key in done}:
        case.violations.append("an answer that was finished is lost")
    if running:
        case.violations.append("a run that is dead is said to be running")
    if orphans:
        case.violations.append("pages without a document")


def _check_published(case: Case) -> None:
    """What `latest` points to is whole."""
    snapshot = current_snapshot(case.out)
    if snapshot is None:
        return
    try:
        for table in read_manifest(snapshot).tables:
            if (snapshot / f"{table.name}.parquet").stat().st_size != table.size_bytes:
                case.violations.append(f"the published table {table.name} is not whole")
        empty = query(case.out, "FROM summaries WHERE text IS NULL OR text = ''").num_rows
        missing = query(case.out, "FROM summaries ANTI JOIN documents USING (document_id)").num_rows
    except (OSError, DocflashError) as error:
        case.violations.append(f"the published tables can't be read: {error}")
        return
    if empty or missing:
        case.violations.append("published answers without text or document")


def check_end(case: Case) -> None:
    """What must hold after a run to which nothing happened."""
    if case.runs[-1][1] != DONE:
        refusal = case.folder / "refusal"
        told = refusal.read_text() if refusal.exists() else "it said nothing"
        case.violations.append(f"a run to which nothing happened did not get to its end: {told}")
        return
    there = {str(path) for path in case.documents.iterdir()}
    files = query(case.out, "SELECT path FROM files").column("path").to_pylist()
    if set(files) != there:
        case.violations.append("the published files are not those of the folder")
    answered = query(
        case.out, "SELECT unnest(paths) AS path FROM summaries WHERE is_current"
    ).column("path")
    if set(answered.to_pylist()) != there:
        failed = query(case.out, "SELECT path, kind FROM failures").to_pylist()
        case.violations.append(f"documents without an answer; failures: {failed}")
    left = {path.name for path in (case.out / SNAPSHOTS).iterdir()}
    if len(left) > 2 or ".building" in left:
        case.violations.append(f"snapshots that nobody needs: {sorted(left)}")
    runs = query(case.out, "SELECT DISTINCT state FROM runs").column("state").to_pylist()
    if set(runs) - {"done", "stopped", "failed"}:
        case.violations.append(f"runs in an impossible state: {runs}")


def clear(case: Case) -> None:
    """Removes the case's folders."""
    shutil.rmtree(case.folder, ignore_errors=True)
