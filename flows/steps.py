"""The Prefect tasks of a run: what a run is made of, as Prefect's UI shows it.

In: ids. Out: counts. Prefect keeps both in plain text, so no text of a document is ever among them;
what the ids stand for is looked up in `RUNS`, which holds the runs of this process.
"""

from dataclasses import dataclass, field
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.states import Cancelled, Completed, Failed, State

from pipeline.errors import EngineError, EngineStoppedError, RequestError
from pipeline.folder_run import FolderRun, RunState
from pipeline.planning import Work
from pipeline.records import Job

# An engine that was lost twice in a row may be short of memory: give the machine time.
RETRY_DELAYS_S = [5.0, 15.0]


@dataclass(slots=True)
class Running:
    """A run of this process and its documents that are being answered, by their ids."""

    run: FolderRun
    works: dict[str, Work] = field(default_factory=dict[str, Work])


RUNS: dict[str, Running] = {}


def _is_engine_trouble(_task: Task[..., Any], _task_run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again may help: not where the run is stopping or the document is at fault."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, EngineError) and not isinstance(
        error, RequestError | EngineStoppedError
    )


@task(cache_policy=NO_CACHE, tags=["docflash"])
def ingest(run_id: str) -> int:
    """Reads what is new or changed; returns how many documents that were."""
    return RUNS[run_id].run.ingest().documents_read


@task(
    task_run_name="classify {name}",
    tags=["docflash", "model"],
    cache_policy=NO_CACHE,
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=_is_engine_trouble,
)
def classify(run_id: str, document_sha256: str, name: str) -> State[Any]:
    """Finds the class of a document, which says what else is asked of it."""
    work = RUNS[run_id].works[document_sha256]
    return _answer(RUNS[run_id].run, name, [work.class_job] if work.class_job else [])


@task(
    task_run_name="summarize {name}",
    tags=["docflash", "model"],
    cache_policy=NO_CACHE,
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=_is_engine_trouble,
)
def summarize(run_id: str, document_sha256: str, name: str) -> State[Any]:
    """Answers the tasks of a document whose answers are text."""
    running = RUNS[run_id]
    jobs = running.works[document_sha256].jobs
    return _answer(running.run, name, [job for job in jobs if is_text(running.run, job)])


@task(
    task_run_name="extract {name}",
    tags=["docflash", "model"],
    cache_policy=NO_CACHE,
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=_is_engine_trouble,
)
def extract(run_id: str, document_sha256: str, name: str) -> State[Any]:
    """Answers the tasks of a document whose answers are fields."""
    running = RUNS[run_id]
    jobs = running.works[document_sha256].jobs
    return _answer(running.run, name, [job for job in jobs if not is_text(running.run, job)])


@task(cache_policy=NO_CACHE, tags=["docflash"])
def publish(run_id: str, state: RunState = "running") -> None:
    """Publishes what is finished."""
    RUNS[run_id].run.publish(state)


def is_text(run: FolderRun, job: Job) -> bool:
    """Whether the answer to a job is text."""
    return run.chosen.task(job.task).kind == "text"


def _answer(run: FolderRun, name: str, jobs: list[Job]) -> State[Any]:
    failed = 0
    for job in jobs:
        if run.is_ended(job):  # before this task was tried again
            continue
        try:
            failed += not run.answer(job, name)
        except EngineError:
            if run.progress.is_stopping():
                return Cancelled(message="the run was stopped; the next one goes on from here")
            raise
    if failed:
        return Failed(message=f"{failed} of {len(jobs)} answers failed; see the table failures")
    return Completed(message=f"{len(jobs)} answers")
