"""Planning goes by batches: the same is planned whatever their size; what is done takes no room."""

import os
import tracemalloc
from pathlib import Path

import pytest

from flows.reporting import summary_line
from pipeline.folder_run import FolderRun
from pipeline.ingest import Search
from pipeline.planning import Planning, Work
from pipeline.progress import Progress
from pipeline.run_order import RunOrder
from pipeline.store import documents as stored
from tests.home import OLD_S
from tests.library import OLD_NS, READER
from tests.scripted_run import ScriptedEngine, ScriptedRun, make_order
from tests.tiny import write_llama

_MANY = """
INSERT INTO documents BY NAME SELECT sha256('bytes' || i) AS sha256, 1500 AS size_bytes,
    'text/plain' AS media_type, 'read' AS status, '' AS title, sha256('text' || i) AS text_sha256,
    1 AS page_count, 10 AS char_count, []::VARCHAR[] AS notes, '' AS failure_kind, '' AS failure,
    $reader AS reader_version, 'run0' AS read_run_id, now() AS read_at,
    nextval('revisions') AS revision, 1 AS attempts FROM range($start, $stop) t(i);
INSERT INTO files BY NAME SELECT $folder AS folder, i || '.txt' AS name, 10 AS size_bytes,
    $modified AS modified_ns, sha256('bytes' || i) AS document_sha256, 0 AS read_started_ns,
    'run0' AS first_run_id, 'run0' AS last_run_id FROM range($start, $stop) t(i);
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("model"), context_tokens=4096)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six documents with three texts, which tell no class."""
    folder = tmp_path / "documents"
    folder.mkdir()
    for number in range(6):
        path = folder / f"{number}.txt"
        path.write_text(f"Apples and pears, {number % 3}." + "\n" * (number // 3))
        os.utime(path, (OLD_S + number, OLD_S + number))
    return folder


def plan(order: RunOrder) -> tuple[list[Work], int]:
    """What a first run would ask, at once and once all classes are known, and how many jobs."""
    run = ScriptedRun(order, ScriptedEngine())
    try:
        run.ingest()
        works = run.plan()
        rest = [work for one in works if one.class_job for work in run.plan_rest(one.class_job)]
        return [*works, *rest], run.progress.counts.jobs
    finally:
        run.close()


@pytest.mark.parametrize("tasks", [(), ("summary", "entities")])
@pytest.mark.parametrize("size", [1, 4])
def test_the_same_is_planned_whatever_the_size_of_a_batch(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, size: int, tasks: tuple[str, ...]
) -> None:
    def order(out: str) -> RunOrder:
        search = Search(folder, folder.with_name(out))
        return RunOrder(search, str(model), tasks, newest_first=True)

    at_once = plan(order("at once"))
    monkeypatch.setattr(stored, "_DOCUMENTS_AT_ONCE", size)
    assert plan(order("by batches")) == at_once
    asked = [job.key for work in at_once[0] for job in (work.class_job, *work.jobs) if job]
    assert len(asked) == len(set(asked)) == at_once[1]
    assert {len(work.jobs) for work in at_once[0]} == ({2} if tasks else {0, 3})


def test_what_was_passed_over_is_told_in_the_line_of_a_run(folder: Path, model: Path) -> None:
    (folder / "linked.txt").symlink_to(folder / "0.txt")
    (folder / "table.xls").touch()
    run = ScriptedRun(make_order(folder, folder.with_name("out"), model), ScriptedEngine())
    try:
        assert run.ingest().files == 6
    finally:
        run.close()
    assert summary_line(run.summary, run.passed_over).endswith(
        "; passed over: files that docflash can't read: 1 .xls; symbolic links (see --symlinks): 1"
    )


def test_documents_with_nothing_to_be_done_take_no_memory(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "_DOCUMENTS_AT_ONCE", 250)
    order = make_order(folder, folder.with_name("out"), model)
    run = FolderRun(order, Progress())
    try:
        few = _peak_of_a_second_plan(run, 0, 1000)
        many = _peak_of_a_second_plan(run, 1000, 5000)
    finally:
        run.close()
    assert many - few < 4000 * 50  # a name and two hashes alone have 300 bytes


def _peak_of_a_second_plan(run: FolderRun, start: int, stop: int) -> int:
    """The most bytes that a plan has, when all that the one before has planned is done."""
    values = {
        "reader": READER,
        "folder": str(run.order.search.folder),
        "modified": OLD_NS,
        "start": start,
        "stop": stop,
    }
    with run._store._database.transaction() as session:
        for statement in filter(str.strip, _MANY.split(";")):
            used = {name: value for name, value in values.items() if f"${name}" in statement}
            session.connection.execute(statement, used)
    assert len(_plan(run)) == stop - start
    with run._store._database.transaction() as session:
        session.run("UPDATE jobs SET state = 'done'")
    tracemalloc.start()
    try:
        assert _plan(run) == []
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _plan(run: FolderRun) -> list[Work]:
    return Planning(run._store, run.run_id, run.order, run.chosen, run.progress).plan()
