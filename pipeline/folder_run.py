"""One run over a folder, step by step, whoever calls the steps: a Prefect flow, or a test.

In: a `RunOrder`. Out: a library brought up to date: documents read, jobs answered, tables
published. The steps: `ingest`, `plan`, `answer` per job, `publish`, `close`.
"""

import threading
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from pipeline.answers import answer_job
from pipeline.cutting import Cutting
from pipeline.engine.client import EngineClient
from pipeline.engine.interface import Engine
from pipeline.engine.serving.launch import start_engine
from pipeline.errors import (
    DocflashError,
    DocumentError,
    EngineError,
    EngineLostError,
    RequestError,
    ResultError,
    describe_fault,
)
from pipeline.ingest import Ingest, check_folder, describe_passed_over, ingest_folder
from pipeline.kept_calls import KeptCalls
from pipeline.measuring import measure_quotes
from pipeline.parquet import publish
from pipeline.planning import Planning, Work
from pipeline.progress import Progress
from pipeline.queries import query
from pipeline.records import Failure, Job, RunSummary
from pipeline.run_order import RunOrder, choose
from pipeline.store import Store
from pipeline.store.texts import folder_text
from pipeline.suspects import QUARANTINE, QUARANTINED, Suspects

RunState = Literal["running", "done", "stopped", "failed"]


class FolderRun:
    """A run that has begun. The owner of the library until it is closed.

    Attributes:
        run_id: Names the run in every table.
        order: What it is to do.
        chosen: The tasks and the model.
        progress: Where it tells how far it is, and is asked to stop.
        summary: Its row of the table `runs`, as it was last written.
        passed_over: What of the folder was left out, in words; empty if nothing was.
    """

    def __init__(self, order: RunOrder, progress: Progress) -> None:
        """Checks the order, takes the library and begins the run.

        Raises:
            BusyError: Another run has the library.
            InputError: The folder, the tasks, the model or the library are wrong.
        """
        self.order = order
        self.progress = progress
        check_folder(order.search)
        self.chosen = choose(order, lambda doing, _: progress.enter("starting", doing))
        self._store = Store.open(order.search.out)
        started = datetime.now(UTC)
        self.run_id = f"{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        self.summary = RunSummary(
            self.run_id,
            str(order.search.folder),
            started,
            None,
            "running",
            self.chosen.model.name,
            self.chosen.model.fingerprint,
            tasks=tuple(task.name for task in self.chosen.tasks),
        )
        self.passed_over = ""
        self._client: EngineClient | None = None
        self._lock = threading.Lock()
        self._ended: set[str] = set()
        self._cutting = Cutting(self._store, self.chosen, progress)
        self._planning = Planning(self._store, self.run_id, order, self.chosen, progress)
        try:
            self._suspects = Suspects(self._store)
            self._store.runs.save(self.summary)
            self._store.removal.forget_old_runs()
        except BaseException:
            self._store.close()
            raise

    def ingest(self) -> Ingest:
        """Reads what is new or changed in the folder.

        Raises:
            InputError: The folder can't be searched, or the library can't be written.
        """
        self.progress.enter("reading")
        done = ingest_folder(self._store, self.run_id, self.order.search, self.progress)
        self.passed_over = describe_passed_over(done.tally)
        return done

    def plan(self) -> list[Work]:
        """What is to be asked, in the order to be worked; nothing for what was done before."""
        return self._planning.plan()

    def plan_rest(self, class_job: Job) -> list[Work]:
        """What is to be asked of the documents whose class a job has found, or has not."""
        return self._planning.plan_rest(class_job)

    def cut(self, works: Sequence[Work]) -> None:
        """Cuts some documents before they are asked about: many at once take less time."""
        self._cutting.cut([job for work in works for job in (work.class_job, *work.jobs) if job])

    def answer(self, job: Job, name: str) -> bool:
        """Answers a job and saves the result, or why there is none.

        If the engine is lost meanwhile, the job is asked once more, alone (`pipeline.suspects`); if
        it is lost again, that is the job's failure, and the run goes on.

        Args:
            job: A job of the plan.
            name: A file of its document, for the table of failures.

        Returns:
            Whether there is a result.

        Raises:
            EngineError: The engine stopped, or the run was asked to: nothing was saved.
            InputError: The model can't be loaded, or the library can't be written.
        """
        alone = False
        try:
            with self._suspects.turn(job) as alone:
                return self._answer(job, name)
        except EngineLostError:
            if self.progress.is_stopping():
                raise
            if alone:
                return self._fail(job, name, QUARANTINED, QUARANTINE)
        self._suspects.add(self.run_id, job)
        return self.answer(job, name)

    def _answer(self, job: Job, name: str) -> bool:
        task = self.chosen.task(job.task)
        chunking = self.chosen.chunking(job.task)
        try:
            document = self._cutting.load(job)
            engine = self._engine()
            if len(document.chunks) > 1 and task.kind != "class":
                engine = KeptCalls(engine, self._store.calls, job.key)
            result = answer_job(job, task, document, engine, self.chosen.model)
        except (ResultError, RequestError, DocumentError) as error:
            if isinstance(error, ResultError):
                self._store.calls.forget(job.key)  # asked again, it may be answered in another way
            return self._fail(job, name, error.kind, str(error))
        except DocflashError:
            raise
        except Exception as error:  # noqa: BLE001 (one document must not end the run)
            return self._fail(job, name, "fault", describe_fault(error))
        self._store.jobs.finish(self.run_id, job, result, chunking)
        self._ended.add(job.key)
        self.progress.add_result(result)
        return True

    def measure_quotes(self) -> None:
        """Finds where the quotes of answers stand on the pages of PDFs; stops when asked to.

        Raises:
            InputError: The library can't be written.
        """
        measure_quotes(self._store, self.run_id, self.progress)

    def is_ended(self, job: Job) -> bool:
        """Whether this run has answered a job, or recorded why it can't."""
        return job.key in self._ended

    def publish(self, state: RunState = "running") -> None:
        """Publishes all that is finished as a new snapshot of the tables.

        Args:
            state: How the run is now, or how it ended.

        Raises:
            InputError: The library can't be written.
        """
        summary = self._counted(state, None if state == "running" else datetime.now(UTC))
        self._store.runs.save(summary)
        publish(self._store, self.chosen.known, self.run_id, self.chosen.calibrations)
        self.summary = summary

    def list_failures(self) -> list[Failure]:
        """What of the folder is published as failed, in this run or before."""
        inside = folder_text(self.order.search.folder).rstrip("/") + "/"
        rows = query(self.order.search.out, "FROM failures").to_pylist()
        return [
            Failure(
                row["kind"],
                row["message"],
                (row["path"] or "").removeprefix(inside),
                row["document_id"] or "",
                row["task"] or "",
                row["job_key"] or "",
            )
            for row in rows
            if row["path"] is None or row["path"].startswith(inside)
        ]

    def stop_answering(self) -> None:
        """Ends the running requests: their jobs stay as they are, for the next run."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def close(self) -> None:
        """Ends what still runs, and lets the next run have the library. The engine stays."""
        self.stop_answering()
        self._store.close()

    def _fail(self, job: Job, name: str, kind: str, message: str) -> bool:
        failure = Failure(kind, message, name, job.document_sha256, job.task, job.key)
        self._store.jobs.fail(self.run_id, job, failure)
        self._ended.add(job.key)
        self.progress.add(jobs_failed=1)
        return False

    def _counted(self, state: RunState, ended: datetime | None) -> RunSummary:
        counts = self.progress.counts
        return replace(
            self.summary,
            state=state,
            finished_at=ended,
            files=counts.files,
            documents=self._store.jobs.count().documents,
            jobs_planned=counts.jobs,
            jobs_done=counts.jobs_done,
            jobs_failed=counts.jobs_failed,
            model_calls=counts.calls,
            prompt_tokens=counts.prompt_tokens,
            completion_tokens=counts.completion_tokens,
        )

    def _engine(self) -> Engine:
        """The engine, started when the first job needs it."""
        with self._lock:
            if self.progress.is_stopping():
                raise EngineError(f"the run is stopping: {self.progress.stop_reason}")
            if self._client is None:
                start_engine(self.chosen.model.name, self._tell)
                self._client = EngineClient(restarts=0, progress=self._tell)
            return self._client

    def _tell(self, doing: str, done: float) -> None:
        if self.progress.is_stopping():
            raise EngineError(f"the run is stopping: {self.progress.stop_reason}")
        self.progress.doing = f"{doing} ({done:.0%})" if 0 < done < 1 else doing
