"""Planning: which document gets which task, in which order, under which key."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pipeline.jobs import DocumentEntry, chunking_fingerprint, job_key, plan_jobs
from pipeline.records import Limits
from tests.library import MODEL, make_task

ENTRY = DocumentEntry("d" * 64, "t" * 64, ("letters/a.txt",))
TEXT = st.text(max_size=8)


@given(st.tuples(TEXT, TEXT, TEXT), st.tuples(TEXT, TEXT, TEXT))
def test_keys_are_the_same_if_and_only_if_all_parts_are(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    assert (job_key(*one) == job_key(*other)) == (one == other)


def test_the_key_of_a_job_never_changes() -> None:
    """If it did, every library would be answered anew."""
    assert job_key("text", "task", "model") == (
        "ad84eb7b56ddf1f46bf36b22c107f36831e740c965ae49f8485d2e68661a4c01"
    )


def test_a_chunking_is_what_can_change_the_chunks() -> None:
    limits = Limits(chunk_tokens=100, overlap_tokens=10)
    name = chunking_fingerprint(limits, MODEL)
    assert name == chunking_fingerprint(replace(limits, max_tokens=1), MODEL)
    others = (
        chunking_fingerprint(replace(limits, chunk_tokens=101), MODEL),
        chunking_fingerprint(replace(limits, overlap_tokens=11), MODEL),
        chunking_fingerprint(limits, "another model"),
    )
    assert len({name, *others}) == 4


def test_the_tasks_of_a_document_follow_each_other() -> None:
    tasks = make_task("a"), make_task("b")
    other = replace(ENTRY, sha256="e" * 64, text_sha256="u" * 64)
    plan = plan_jobs([ENTRY, other], tasks, MODEL)
    assert [(job.document_sha256[0], job.task) for job in plan.jobs] == [
        ("d", "a"),
        ("d", "b"),
        ("e", "a"),
        ("e", "b"),
    ]
    assert plan.documents == (ENTRY.sha256, other.sha256)
    assert plan.tasks == ("a", "b")
    job = plan.jobs[0]
    assert job.key == job_key(ENTRY.text_sha256, tasks[0].fingerprint, MODEL)


def test_tasks_are_planned_for_the_documents_they_are_for() -> None:
    invoice = make_task("invoice", classes=("invoice",))
    letters = make_task("letters", globs=("letters/*",))
    known = replace(ENTRY, document_class="invoice", names=("b.txt", "c.txt"))

    def planned(entry: DocumentEntry, *, force: bool = False) -> list[str]:
        plan = plan_jobs([entry], [invoice, letters], MODEL, force=force)
        assert plan.tasks == ("invoice", "letters")  # considered, if not for it
        return [job.task for job in plan.jobs]

    assert planned(ENTRY) == ["letters"]
    assert planned(known) == ["invoice"]
    assert planned(replace(known, document_class="letter")) == []
    assert planned(replace(known, document_class=None), force=True) == ["invoice", "letters"]
