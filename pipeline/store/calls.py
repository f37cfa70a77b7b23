"""What the model has answered about parts of documents whose jobs are not done yet.

In: answers as text, by job and question. Out: the same, when the job is taken up again. They go
when the job is done.
"""

from pipeline.store.database import Database, Session
from pipeline.store.texts import storable


class Calls:
    """Answered calls of jobs that go on. `Store.calls`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, job_key: str, call_key: str) -> str | None:
        """An answer that was saved, None if there is none."""
        with self._database.transaction() as session:
            rows = session.rows(
                "SELECT completion FROM calls WHERE job_key = ? AND call_key = ?",
                job_key,
                call_key,
            )
        return rows[0][0] if rows else None

    def save(self, job_key: str, call_key: str, completion: str) -> None:
        """Saves an answer, in place of an earlier one to the same question."""
        with self._database.transaction() as session:
            session.run(
                "INSERT OR REPLACE INTO calls VALUES (?, ?, ?)",
                job_key,
                call_key,
                storable(completion),
            )

    def forget(self, job_key: str) -> None:
        """Deletes all answers of a job: what was made of them is invalid."""
        with self._database.transaction() as session:
            delete_calls(session, job_key)


def delete_calls(session: Session, job_key: str) -> None:
    """Deletes the answered calls of a job, inside a transaction."""
    session.run("DELETE FROM calls WHERE job_key = ?", job_key)
