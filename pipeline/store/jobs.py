"""The jobs of a library and their results: what is to be done, what is done, what failed.

In: a plan of all jobs for some documents and tasks. Out: those that are still to be done; their
results or failures come back one at a time.
"""

import json
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa

from pipeline.jobs import TRANSIENT_KINDS, JobPlan
from pipeline.records import Failure, Job, Result
from pipeline.store.backoff import is_due
from pipeline.store.calls import delete_calls
from pipeline.store.database import Database, Session
from pipeline.store.evidence import save_evidence
from pipeline.store.memory import make_room
from pipeline.store.texts import storable

_PLANNED = pa.schema(
    [
        ("place", pa.int64()),
        ("document_sha256", pa.string()),
        ("key", pa.string()),
        ("text_sha256", pa.string()),
        ("task", pa.string()),
        ("task_fingerprint", pa.string()),
        ("model_fingerprint", pa.string()),
    ]
)
_NAMES = pa.schema([("name", pa.string())])


@dataclass(frozen=True, slots=True)
class Workload:
    """What `Jobs.plan` found.

    Attributes:
        pending: The jobs to be worked, in the order of the plan, each key once.
        done: How many of the plan's keys are done already.
        failed: How many failed before and are left alone.
    """

    pending: tuple[Job, ...]
    done: int
    failed: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How a library stands: live files, their documents, and the jobs assigned to those."""

    files: int
    documents: int
    documents_failed: int
    pages: int
    jobs_pending: int
    jobs_done: int
    jobs_failed: int


class Jobs:
    """The jobs of a library. `Store.jobs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def plan(self, run_id: str, plan: JobPlan, *, retry: bool = False) -> Workload:
        """Takes in a plan and tells what of it is to be done.

        A document of the plan loses those of the plan's tasks that are not for it any more; tasks
        that are not in the plan are left as they are. Jobs that failed are tried again if asked, or
        if their kind is transient (`pipeline.jobs.TRANSIENT_KINDS`) and it is time
        (`pipeline.jobs.BACKOFF_HOURS`); a changed text, task or model is another job anyway.

        Args:
            run_id: This run.
            plan: From `pipeline.jobs.plan_jobs`.
            retry: Failed jobs are tried again, whatever their kind.
        """
        with self._database.transaction() as session:
            _offer_plan(session, plan)
            session.run(
                "INSERT INTO jobs SELECT DISTINCT ON (key) key, text_sha256, task, "
                "task_fingerprint, model_fingerprint, 'pending', 0, '', '', ?, now() "
                "FROM planned WHERE key NOT IN (SELECT key FROM jobs)",
                run_id,
            )
            session.run(
                "UPDATE jobs SET state = 'pending', run_id = $1, changed_at = now(), "
                "attempts = if($2, 0, attempts) "
                "WHERE state = 'failed' AND key IN (SELECT key FROM planned) AND ($2 OR "
                f"(list_contains($3, failure_kind) AND {is_due('attempts', 'changed_at')}))",
                run_id,
                retry,
                sorted(TRANSIENT_KINDS),
            )
            _assign(session, run_id)
            make_room(session)
            states = dict(
                session.rows(
                    "SELECT min(p.place), any_value(j.state) FROM planned p "
                    "JOIN jobs j USING (key) GROUP BY key"
                )
            )
        return Workload(
            tuple(job for place, job in enumerate(plan.jobs) if states.get(place) == "pending"),
            sum(state == "done" for state in states.values()),
            sum(state == "failed" for state in states.values()),
        )

    def finish(self, run_id: str, job: Job, result: Result, chunking: str = "") -> None:
        """Saves the result of a job; it is then done for every document with the same text.

        Args:
            run_id: This run.
            job: A job that was planned.
            result: Its result.
            chunking: Of the chunks that `result.chunks` numbers.

        Raises:
            ValueError: The job was not planned, or the result is another's.
        """
        if result.job_key != job.key:
            raise ValueError(f"the result of job_key={result.job_key!r} is not of {job.key!r}")
        value = storable(json.dumps(result.value, default=_encode, ensure_ascii=False))
        with self._database.transaction() as session:
            _set_state(session, run_id, job, ("done", "", ""))
            session.run("DELETE FROM results WHERE job_key = ?", job.key)
            session.run(
                "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, now())",
                job.key,
                value,
                result.probability,
                chunking,
                list(result.chunks),
                result.calls,
                result.cut,
                result.prompt_tokens,
                result.cached_tokens,
                result.completion_tokens,
                result.model_s,
                run_id,
            )
            session.run("UPDATE assignments SET done_key = job_key WHERE job_key = ?", job.key)
            save_evidence(session, job.key, result.evidence)
            session.run("DELETE FROM failures WHERE job_key = ?", job.key)
            delete_calls(session, job.key)

    def fail(self, run_id: str, job: Job, failure: Failure) -> None:
        """Saves that a job failed. An older result stays until a job for the same is done.

        Raises:
            ValueError: The job was not planned.
        """
        with self._database.transaction() as session:
            _set_state(session, run_id, job, ("failed", failure.kind, storable(failure.message)))

    def suspect(self, run_id: str, job: Job) -> None:
        """Saves that the engine was lost while it answered a job, which stays to be done."""
        with self._database.transaction() as session:
            _set_state(session, run_id, job, ("pending", "engine_lost", ""))

    def list_suspects(self) -> tuple[str, ...]:
        """Keys of the jobs to be done over which the engine was lost before."""
        with self._database.transaction() as session:
            rows = session.rows(
                "SELECT key FROM jobs WHERE failure_kind IN ('engine_lost', 'quarantined') "
                "AND state <> 'done'"
            )
        return tuple(key for (key,) in rows)

    def load_result(self, job_key: str) -> Result | None:
        """A job's result without its evidence; its value as JSON has it: dates are text."""
        with self._database.transaction() as session:
            rows = session.rows(
                "SELECT job_key, value, probability, chunks, calls, cut, prompt_tokens, "
                "cached_tokens, completion_tokens, model_s FROM results WHERE job_key = ?",
                job_key,
            )
        if not rows:
            return None
        key, value, probability, chunks, *rest = rows[0]
        return Result(key, json.loads(value), probability, tuple(chunks), *rest)

    def count(self) -> Counts:
        """How the library stands."""
        live = "(SELECT document_sha256 FROM files WHERE deleted_run_id IS NULL)"
        with self._database.transaction() as session:
            rows = session.rows(
                "SELECT (SELECT count(*) FROM files WHERE deleted_run_id IS NULL), count(*), "
                "count(*) FILTER (status = 'failed'), coalesce(sum(page_count), 0) "
                f"FROM documents WHERE sha256 IN {live}"
            )
            states = dict(
                session.rows(
                    "SELECT state, count(DISTINCT key) FROM assignments a "
                    "JOIN jobs j ON j.key = a.job_key "
                    f"WHERE a.document_sha256 IN {live} GROUP BY state"
                )
            )
        files, documents, failed, pages = map(int, rows[0])
        return Counts(
            files,
            documents,
            failed,
            pages,
            states.get("pending", 0),
            states.get("done", 0),
            states.get("failed", 0),
        )


def _offer_plan(session: Session, plan: JobPlan) -> None:
    session.offer(
        "planned",
        _PLANNED,
        (
            (
                place,
                job.document_sha256,
                job.key,
                job.text_sha256,
                job.task,
                job.task_fingerprint,
                job.model_fingerprint,
            )
            for place, job in enumerate(plan.jobs)
        ),
    )
    session.offer("considered_documents", _NAMES, ((sha256,) for sha256 in plan.documents))
    session.offer("considered_tasks", _NAMES, ((name,) for name in plan.tasks))


def _assign(session: Session, run_id: str) -> None:
    """Brings the assignments of the documents and tasks that were considered up to date.

    Those that stay as they are, nearly all on most nights, are not written: each takes room in two
    indexes and in the log.
    """
    session.run(
        "CREATE OR REPLACE TEMP TABLE assigned AS "
        "SELECT DISTINCT ON (p.document_sha256, p.task) p.document_sha256, p.task, "
        "p.key AS job_key, "
        "CASE WHEN j.state = 'done' THEN p.key ELSE a.done_key END AS done_key, ? AS run_id "
        "FROM planned p JOIN jobs j USING (key) "
        "LEFT JOIN assignments a "
        "ON a.document_sha256 = p.document_sha256 AND a.task = p.task",
        run_id,
    )
    session.run(
        "DELETE FROM assignments a WHERE task IN (SELECT name FROM considered_tasks) "
        "AND document_sha256 IN (SELECT name FROM considered_documents) "
        "AND NOT EXISTS (FROM assigned n WHERE n.document_sha256 = a.document_sha256 "
        "AND n.task = a.task AND n.job_key = a.job_key "
        "AND n.done_key IS NOT DISTINCT FROM a.done_key)"
    )
    session.run(
        "INSERT INTO assignments BY NAME SELECT * FROM assigned n WHERE NOT EXISTS "
        "(FROM assignments a WHERE a.document_sha256 = n.document_sha256 AND a.task = n.task)"
    )
    session.run("DROP TABLE temp.assigned")


def _set_state(session: Session, run_id: str, job: Job, outcome: tuple[str, str, str]) -> None:
    changed = session.count(
        "UPDATE jobs SET state = ?, failure_kind = ?, failure = ?, attempts = attempts + 1, "
        "run_id = ?, changed_at = now() WHERE key = ?",
        *outcome,
        run_id,
        job.key,
    )
    if changed != 1:
        raise ValueError(f"the job key={job.key!r} was not planned; plan it first")


def _encode(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"a value of type={type(value).__name__!r} can't be stored")
