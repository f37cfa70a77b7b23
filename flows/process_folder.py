"""The flow `process-folder`: a folder of documents becomes published tables.

In: plain values, as a form or a schedule gives them. Out: the tables. Its tasks (`flows.steps`)
pass ids only: Prefect keeps parameters and results in plain text.
"""

import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed, State
from prefect.task_runners import ThreadPoolTaskRunner

from flows.answering import WORKERS, DocumentLine
from flows.awake import keep_awake
from flows.control import Control, take_control
from flows.nights.reaping import clear_up
from flows.notice import Outcome, tell_failure
from flows.parameters import Parameters
from flows.prefect_env import refuse_remote
from flows.reporting import report_run, summary_line
from flows.run_log import RunLog
from flows.steps import RUNS, Running, ingest, publish
from flows.stopping import BY_SYSTEM, stop_on_sigterm
from flows.tidying import tidy_state
from pipeline.errors import BusyError, DocflashError, EngineError, InputError
from pipeline.folder_run import FolderRun, RunState
from pipeline.settings import EMBEDDED_MODEL
from pipeline.until import end_of_night

_BUSY_S = 10.0
_PATIENCE_S = 12 * 3600.0

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
    timezone: str | None = None,
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
        timezone: The time zone of `until`, such as "Europe/Dublin"; none: this machine's.
        newest_first: Begin with the documents that were changed last.
        retry: Try again what failed before.

    Raises:
        InputError: The folder, a task, the model or the library is wrong.
        EngineError: The engine stopped; what is finished is published.
    """
    refuse_remote(str(PREFECT_API_URL.value() or ""))
    control = take_control()
    if until:
        due = flow_run.scheduled_start_time or datetime.now(UTC)
        control.progress.until = end_of_night(until, due, datetime.now(UTC), timezone)
    parameters = Parameters(
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
    )
    with ExitStack() as stack:
        stack.enter_context(stop_on_sigterm(control.progress))
        run = _begin(parameters, control)
        stack.callback(run.close)
        if keeper := stack.enter_context(keep_awake()):
            control.tell(f"the machine is kept awake while this run works ({keeper})")
        RUNS[run.run_id] = Running(run)
        stack.callback(RUNS.pop, run.run_id)
        return _work(run, control)


def _begin(parameters: Parameters, control: Control) -> FolderRun:
    """The run, once Prefect knows of those whose process is gone, and no more of old ones."""
    with suppress(PrefectException, DocflashError, OSError):  # the run itself can do without
        clear_up(str(flow_run.id))
        tidy_state()
    try:
        return _take_library(parameters, control)
    except DocflashError as error:
        tell_failure(Outcome("", "failed", error.exit_code))
        raise


def _take_library(parameters: Parameters, control: Control) -> FolderRun:
    """The run; one that nobody watches waits while another has the library."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return FolderRun(parameters.order(), control.progress)
        except BusyError:
            is_late = time.monotonic() > deadline or control.progress.is_stopping()
            if control.is_watched or is_late:
                raise
        time.sleep(_BUSY_S)


def _work(run: FolderRun, control: Control) -> State[Any]:
    state: RunState = "failed"
    ending = _Ending(run, control)
    try:
        ingest(run.run_id)
        works = [] if run.progress.is_stopping() else run.plan()
        run.progress.enter("answering")
        DocumentLine(run.run_id, works).run()
        run.measure_quotes()
        state = "stopped" if run.progress.is_stopping() else "done"
    except EngineError as error:
        state = "stopped"
        run.progress.stop(f"engine: {error}")
        ending.exit_code = error.exit_code
        raise
    except DocflashError as error:
        run.progress.stop(str(error))
        ending.exit_code = error.exit_code
        raise
    except BaseException:  # Prefect was told to end this run
        state = "stopped"
        run.progress.stop("it was ended")
        raise
    finally:
        ending.end(state)
    done = summary_line(run.summary, run.passed_over)
    reason = control.stopped
    if not reason:
        return Completed(message=f"done: {done}")
    message = f"stopped ({reason}): {done}; the next run goes on from here"
    is_cancelled = reason == BY_SYSTEM and not control.is_watched
    return Cancelled(message=message) if is_cancelled else Completed(message=message)


class _Ending:
    """Publishes what is finished, however the run ended, and says how it did."""

    def __init__(self, run: FolderRun, control: Control) -> None:
        self._run = run
        self._control = control
        self._log = RunLog(run.run_id)
        self._log.begin(run.summary)
        self._before = _published_failures(run)
        self.exit_code = 0

    def end(self, state: RunState) -> None:
        run, control = self._run, self._control
        run.stop_answering()
        run.progress.enter("publishing")
        try:
            publish(run.run_id, state)
            control.failures = run.list_failures()
            control.summary = run.summary
            control.passed_over = run.passed_over
            report_run(run.summary, control.failures, str(run.order.search.out))
        finally:
            counts = run.progress.counts
            self._log.end(run.summary, counts, control.failures, run.progress.stop_reason)
            self._log.close()
            self._tell(state)
        run.progress.enter("done")

    def _tell(self, state: RunState) -> None:
        """A failure that was there before has been told already."""
        failures = {(one.name, one.task, one.kind) for one in self._control.failures}
        new = len(failures - self._before)
        counts = self._run.progress.counts
        code = self.exit_code or (1 if new else 0)
        tell_failure(
            Outcome(self._run.run_id, state, code, counts.jobs_done, counts.jobs_failed, new)
        )


def _published_failures(run: FolderRun) -> set[tuple[str, str, str]]:
    try:
        return {(one.name, one.task, one.kind) for one in run.list_failures()}
    except InputError:  # nothing is published yet
        return set()
