"""The store among processes: one owner, kill -9 at any moment, a full disk, readers meanwhile."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.errors import BusyError, InputError
from pipeline.parquet import publish
from pipeline.queries import query
from pipeline.snapshots import current_snapshot
from pipeline.store import Store
from tests.library import (
    READER,
    make_document,
    make_file,
    make_result,
    make_run,
    make_task,
    plan,
)

REPO = Path(__file__).parent.parent
ROOT = Path("/in")

WRITER = """
    import sys
    from pathlib import Path
    from pipeline.parquet import publish
    from pipeline.store import CutDocument, Store
    from tests.library import *

    out, run_id = Path(sys.argv[1]), sys.argv[2]
    with Store.open(out) as store:
        store.runs.save(make_run(run_id))
        print("open", flush=True)
        for number in range(1000):
            name = f"{run_id}-{number}.txt"
            document = make_document(name, "two " * 2000, "three")
            store.documents.save(run_id, READER, [(make_file(name), document)])
            store.chunks.save([CutDocument(document.sha256, "cut", make_chunks(document.text))])
            for job in plan(store, run_id, make_task()).pending:
                store.jobs.finish(run_id, job, make_result(job, name), "cut")
            if number % 5 == 4:
                publish(store, [make_task()], run_id)
            print(document.sha256, flush=True)
"""

HOLDER = """
    import sys
    from pathlib import Path
    from pipeline.store import Store

    with Store.open(Path(sys.argv[1])):
        print("open", flush=True)
        sys.stdin.read()
"""

READING = """
    import json, sys
    from pathlib import Path
    from pipeline.queries import query

    out, stop = Path(sys.argv[1]), Path(sys.argv[2])
    sql = "SELECT (SELECT max(files) FROM runs), (SELECT any_value(text) FROM summaries)"
    seen = []
    print("ready", flush=True)
    while not stop.exists():
        seen.append([str(cell[0]) for cell in query(out, sql).to_pydict().values()])
    print(json.dumps(seen))
"""


INTERRUPTED = """
    import sys
    from pathlib import Path
    from pipeline.store.database import Database

    database = Database(Path(sys.argv[1]))
    try:
        with database.transaction() as session:
            session.run("INSERT INTO runs SELECT 'half', '', now(), now(), '', '', '', 0, 0, 0, 0, "
                "0, 0, 0, 0, [], now()")
            print("ready", flush=True)
            # Some seconds: DuckDB hears of a signal at its end, or sooner, as its threads have it.
            session.rows("SELECT sum(a.range * b.range) FROM range(4000000) a, range(1000) b")
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    database.close()
"""


@contextmanager
def child(code: str, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """A Python process that ends with the test."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=REPO,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with process:
            try:
                yield process
            finally:
                process.kill()
    finally:
        process.wait()


def read_lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield line.strip()


def test_a_second_run_is_told_who_has_the_store(tmp_path: Path) -> None:
    with child(HOLDER, str(tmp_path)) as process:
        assert next(read_lines(process)) == "open"
        with pytest.raises(BusyError, match=rf"pid={process.pid}\b.*--out"):
            Store.open(tmp_path)
        process.kill()
        process.wait()
        Store.open(tmp_path).close()


def test_the_store_is_free_after_it_was_closed(tmp_path: Path) -> None:
    with Store.open(tmp_path), pytest.raises(BusyError, match=f"pid={os.getpid()}"):
        Store.open(tmp_path)
    Store.open(tmp_path).close()


def test_what_was_saved_survives_kill_9_at_any_moment(tmp_path: Path) -> None:
    saved: list[str] = []
    for number, lines in enumerate((0, 7)):
        with child(WRITER, str(tmp_path), f"run{number}") as process:
            reader = read_lines(process)
            assert next(reader) == "open"
            saved += [next(reader) for _ in range(lines)]
            process.send_signal(signal.SIGKILL)
            saved += list(reader)
        with Store.open(tmp_path) as store:
            run = store.runs.load(f"run{number}")
            assert run is not None
            assert run.state == "stopped"
            assert_whole(store, saved)
            publish(store, [make_task()], "after")
        assert query(tmp_path, "FROM summaries").num_rows >= len(saved)


def assert_whole(store: Store, saved: list[str]) -> None:
    """All that was said to be saved is there, and nothing is there by half."""
    for sha256 in saved:
        document = store.documents.load(sha256)
        assert document is not None
        assert len(document.pages) == 3
        assert len(store.chunks.load(sha256, "cut") or ()) == 2
    entries = store.documents.list_live(ROOT)
    assert set(saved) <= {entry.sha256 for entry in entries}
    for entry in entries:
        document = store.documents.load(entry.sha256)
        assert document is not None
        assert document == make_document(*(page.raw for page in document.pages))
        assert document.text_sha256 == entry.text_sha256


def test_readers_never_fail_and_never_see_two_runs_at_once(tmp_path: Path) -> None:
    out, stop = tmp_path / "out", tmp_path / "stop"
    task = make_task()
    with Store.open(out) as store:
        store.runs.save(make_run())
        store.documents.save("run1", READER, [(make_file("a.txt"), make_document("a"))])
        [job] = plan(store, "run1", task).pending

        def publish_number(number: int) -> None:
            store.runs.save(make_run(files=number))
            store.jobs.finish("run1", job, make_result(job, str(number)))
            publish(store, [task], "run1")

        publish_number(0)
        with child(READING, str(out), str(stop)) as process:
            reader = read_lines(process)
            assert next(reader) == "ready"
            for number in range(1, 16):
                publish_number(number)
            stop.touch()
            seen = json.loads(next(reader))
    assert len(seen) > 3
    assert all(run == text for run, text in seen)
    numbers = [int(run) for run, _ in seen]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 1
    assert len(list((out / "snapshots").iterdir())) == 2


@contextmanager
def full_disk(free_bytes: int) -> Generator[None]:
    """No file may grow beyond this, which the system reports much like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_while_saving_loses_nothing_that_was_saved(tmp_path: Path) -> None:
    large = make_document(random.randbytes(400_000).hex())
    with Store.open(tmp_path) as store:
        store.runs.save(make_run())
        store.documents.save("run1", READER, [(make_file("a.txt"), make_document("a"))])
        with full_disk(300_000), pytest.raises(InputError, match="free disk space"):
            store.documents.save("run1", READER, [(make_file("b.txt"), large)])
    with Store.open(tmp_path) as store:
        assert store.documents.load(make_document("a").sha256) == make_document("a")
        assert store.documents.load(large.sha256) is None
        store.documents.save("run1", READER, [(make_file("b.txt"), large)])
        assert store.documents.load(large.sha256) == large


def test_a_full_disk_while_publishing_leaves_what_was_published(tmp_path: Path) -> None:
    large = make_document(random.randbytes(400_000).hex())
    with Store.open(tmp_path) as store:
        store.runs.save(make_run())
        before = publish(store, [make_task()], "run1")
        store.documents.save("run1", READER, [(make_file("b.txt"), large)])
        with full_disk(300_000), pytest.raises(InputError, match="free disk space"):
            publish(store, [make_task()], "run2")
        assert current_snapshot(tmp_path) == before
        assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["run1"]
        publish(store, [make_task()], "run2")
    assert query(tmp_path, "FROM documents").num_rows == 1


def test_ctrl_c_in_the_store_is_an_interrupt_and_undoes_what_was_begun(tmp_path: Path) -> None:
    with child(INTERRUPTED, str(tmp_path)) as process:
        reader = read_lines(process)
        assert next(reader) == "ready"
        process.send_signal(signal.SIGINT)
        assert next(reader) == "interrupted"
    with Store.open(tmp_path) as store:
        assert store.runs.latest() is None


def test_many_threads_may_use_the_store(tmp_path: Path) -> None:
    errors: list[BaseException] = []
    with Store.open(tmp_path) as store:
        store.runs.save(make_run())

        def work(worker: int) -> None:
            try:
                for number in range(8):
                    name = f"{worker}-{number}.txt"
                    pair = make_file(name), make_document(name)
                    store.documents.save("run1", READER, [pair])
                    assert store.documents.load(pair[1].sha256) == pair[1]
                    if number == worker:
                        publish(store, [make_task()], f"run-{worker}")
            except BaseException as error:  # noqa: BLE001  for the main thread to show
                errors.append(error)

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert store.jobs.count().documents == 32
