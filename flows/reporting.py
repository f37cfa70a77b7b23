"""What a run leaves in Prefect for people to see: its figures, and what failed.

In: a run's summary and failures. Out: a markdown and a table artifact. Names and kinds only.
"""

from collections import Counter
from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.cli_output import shown
from pipeline.records import Failure, RunSummary

_MOST_FAILURES = 500
_FAILURES_PAGE = "/artifacts/key/docflash-failures"


def report_run(summary: RunSummary, failures: Sequence[Failure], out: str) -> None:
    """Makes the artifacts `docflash-run` and `docflash-failures`."""
    create_markdown_artifact(key="docflash-run", markdown=_describe(summary, failures, out))
    rows = [
        {"file": failure.name, "task": failure.task, "kind": failure.kind, "why": failure.message}
        for failure in failures[:_MOST_FAILURES]
    ]
    more = len(failures) - len(rows)
    create_table_artifact(
        key="docflash-failures",
        table=rows,
        description=f"{len(failures)} failures" + (f"; {more} are not shown here" if more else ""),
    )


def summary_line(summary: RunSummary, passed_over: str = "") -> str:
    """A run in one line: for logs, states and lists of runs.

    Args:
        summary: The run.
        passed_over: What of the folder was left out (`FolderRun.passed_over`).
    """
    took = (summary.finished_at or summary.started_at) - summary.started_at
    return (
        f"run {summary.run_id}, {summary.files} files, {summary.jobs_done} answers, "
        f"{summary.jobs_failed} failed, {took.total_seconds():.0f} s"
        + (f"; passed over: {passed_over}" if passed_over else "")
    )


def _describe(summary: RunSummary, failures: Sequence[Failure], out: str) -> str:
    took = ""
    if summary.finished_at is not None:
        took = f"{(summary.finished_at - summary.started_at).total_seconds():.0f} s"
    rows = [
        ("state", summary.state),
        ("folder", summary.folder),
        ("tables", out),
        ("model", summary.model),
        ("tasks", ", ".join(summary.tasks)),
        ("took", took),
        ("files found", summary.files),
        ("documents", summary.documents),
        ("answers planned", summary.jobs_planned),
        ("answers", summary.jobs_done),
        ("answers failed", summary.jobs_failed),
        ("model calls", summary.model_calls),
        ("tokens read", summary.prompt_tokens),
        ("tokens written", summary.completion_tokens),
    ]
    lines = [f"| {name} | {_cell(str(value))} |" for name, value in rows]
    head = [f"# Run {summary.run_id}", "", "| | |", "| --- | --- |", *lines]
    return "\n".join([*head, f"| failures in all | {len(failures)} |", "", *_by_kind(failures)])


def _by_kind(failures: Sequence[Failure]) -> list[str]:
    """What fails, the most frequent first, with a link to all of them."""
    if not failures:
        return []
    kinds = Counter((failure.kind, failure.task or "reading") for failure in failures)
    return [
        f"## [Failures]({_FAILURES_PAGE})",
        "",
        "| how many | kind | at |",
        "| --- | --- | --- |",
        *(
            f"| {count} | {_cell(kind)} | {_cell(at)} |"
            for (kind, at), count in kinds.most_common()
        ),
    ]


def _cell(text: str) -> str:
    return shown(text).replace("|", "\\|").replace("`", "\\`").replace("<", "&lt;")
