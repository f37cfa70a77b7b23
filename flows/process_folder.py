"""The flow `process-folder`: a folder of documents becomes published tables.

In: plain values, as a form or a schedule gives them. Out: the tables. Its tasks (`flows.steps`)
pass ids only: Prefect keeps parameters and results in plain text.
"""

from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed, State
from prefect.task_runners import ThreadPoolTaskRunner

from flows.answering import WORKERS, DocumentLine
from flows.control import Control, take_control
from flows.parameters import Parameters
from flows.prefect_env import refuse_remote
from flows.reporting import report_run
from flows.steps import RUNS, Running, ingest, publish
from pipeline.errors import DocflashError, EngineError
from pipeline.folder_run import FolderRun, RunState
from pipeline.settings import EMBEDDED_MODEL
from pipeline.until import next_time

# Prefect's own types don't fit each other here.
_RUNNER: Any = ThreadPoolTaskRunner(max_workers=WORKERS)


@flow(
    name="process-folder",
    task_runner=_RUNNER,
    persist_result=False,
)
def process_folder(  # noqa: PLR0913 (each is a field of the form in Prefect's UI)
    folder: str,
    *,
    tasks: list[str] | None = None,
    out: str | None = None,
    model: str = EMBEDDED_MODEL,
    prompts: str | None = None,
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    hidden: bool = False,
    symlinks: bool = False,
    until: str | None = None,
    newest_first: bool = False,
    retry: bool = False,
) -> State[Any]:
    """Reads new and changed documents, asks the model about them, publishes the tables.

    What was done before is not done again. A document that fails is a row of the table `failures`,
    and the run goes on.

    Args:
        folder: The folder with the documents.
        tasks: Tasks to ask of every document; none: each task asks the documents it is for.
        out: The folder for the tables; none: docflash's own.
        model: "embedded", or the folder of an mlx-lm model.
        prompts: A folder with tasks of your own.
        include: Take only files that match one of these, such as "*.pdf" or "2026/**".
        exclude: Pass over files and folders that match one of these.
        hidden: Take files whose names begin with a dot, too.
        symlinks: Follow symbolic links.
        until: Stop at this time of day, such as "07:00"; the next run goes on from there.
        newest_first: Begin with the documents that were changed last.
        retry: Try again what failed before.

    Raises:
        InputError: The folder, a task, the model or the library is wrong.
        EngineError: The engine stopped; what is finished is published.
    """
    refuse_remote(str(PREFECT_API_URL.value() or ""))
    control = take_control()
    if until:
        control.progress.until = next_time(until, datetime.now(UTC))
    order = Parameters(
        folder=folder,
        tasks=tasks,
        out=out,
        model=model,
        prompts=prompts,
        include=include,
        exclude=exclude,
        hidden=hidden,
        symlinks=symlinks,
        newest_first=newest_first,
        retry=retry,
    ).order()
    run = FolderRun(order, control.progress)
    RUNS[run.run_id] = Running(run)
    try:
        return _work(run, control)
    finally:
        del RUNS[run.run_id]
        run.close()


def _work(run: FolderRun, control: Control) -> State[Any]:
    state: RunState = "failed"
    try:
        ingest(run.run_id)
        works = [] if run.progress.is_stopping() else run.plan()
        run.progress.enter("answering")
        DocumentLine(run.run_id, works).run()
        state = "stopped" if run.progress.is_stopping() else "done"
    except EngineError as error:
        state = "stopped"
        run.progress.stop(f"engine: {error}")
        raise
    except DocflashError as error:
        run.progress.stop(str(error))
        raise
    except BaseException:  # Prefect was told to end this run
        state = "stopped"
        run.progress.stop("it was ended")
        raise
    finally:
        _end(run, state, control)
    reason = control.stopped
    return Completed(
        message=f"stopped ({reason}); the next run goes on from here" if reason else "done"
    )


def _end(run: FolderRun, state: RunState, control: Control) -> None:
    """Publishes what is finished, however the run ended."""
    run.stop_answering()
    run.progress.enter("publishing")
    publish(run.run_id, state)
    control.failures = run.list_failures()
    control.summary = run.summary
    report_run(run.summary, control.failures, str(run.order.search.out))
    run.progress.enter("done")
