"""`docflash run FOLDER`: the main job, as the flow `process-folder` in this very process."""

import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli_dry_run import show_forecast
from flows.cli_output import (
    EXIT_INTERRUPTED,
    EXIT_STOPPED,
    EXIT_TERMINATED,
    print_json,
    print_table,
    shown,
    stderr_console,
)
from flows.control import Control, offer_control
from flows.notice import NOTIFY
from flows.parameters import Parameters, check_parameters
from flows.stopping import BY_SYSTEM, BY_YOU, stop_gently
from pipeline.errors import DocflashError
from pipeline.settings import EMBEDDED_MODEL, out_folder

_FAILURES_SHOWN = 20
_STOPPED = {BY_YOU: EXIT_INTERRUPTED, BY_SYSTEM: EXIT_TERMINATED}


# readable=False: a folder that may not be read is told in docflash's own words.
FolderArgument = Annotated[
    Path, typer.Argument(help="The folder with your documents.", readable=False)
]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="Ask this of every document; can be given several times."),
]
Out = Annotated[Path | None, typer.Option(help="The folder for the tables.", readable=False)]
Prompts = Annotated[
    Path | None, typer.Option(help="A folder with tasks of your own.", readable=False)
]
Model = Annotated[str, typer.Option(help="The folder of an mlx-lm model, or 'embedded'.")]
Include = Annotated[
    list[str] | None, typer.Option(help="Take only files like this: '*.pdf', '2026/**'.")
]
Exclude = Annotated[list[str] | None, typer.Option(help="Pass over files and folders like this.")]
Hidden = Annotated[bool, typer.Option("--hidden", help="Take hidden files, too.")]
Symlinks = Annotated[bool, typer.Option("--symlinks", help="Follow symbolic links.")]
Until = Annotated[str | None, typer.Option(help="Stop when the clock shows this, e.g. 07:00.")]
NewestFirst = Annotated[
    bool, typer.Option("--newest-first", help="Begin with what was changed last.")
]
Retry = Annotated[bool, typer.Option("--retry", help="Try again what failed before.")]
Notify = Annotated[
    str | None,
    typer.Option(
        help="Run this command if something failed that had not before (DOCFLASH_NOTIFY)."
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be done, and how long it takes.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def run(  # noqa: PLR0913 (options)
    folder: FolderArgument,
    *,
    task: Tasks = None,
    out: Out = None,
    prompts: Prompts = None,
    model: Model = EMBEDDED_MODEL,
    include: Include = None,
    exclude: Exclude = None,
    hidden: Hidden = False,
    symlinks: Symlinks = False,
    until: Until = None,
    newest_first: NewestFirst = False,
    retry: Retry = False,
    notify: Notify = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Reads the documents of a folder, asks the model about them, and publishes the tables.

    What was done before is not done again, so stop a run whenever you like (Ctrl-C) and run again.

    Example: `docflash run ~/Documents --until 07:00`

    Exit codes: 0 all done; 1 some documents failed, see the table `failures`; 2 the input or the
    settings are wrong; 3 stopped before the end (by --until or the engine), 130 (by Ctrl-C) and
    143 (by SIGTERM): what is finished is published, run again to go on.

    The command of --notify finds how the run went in DOCFLASH_RUN_ID, _STATE, _EXIT_CODE, _ANSWERS,
    _ANSWERS_FAILED and _NEW_FAILURES.
    """
    parameters = Parameters.of_options(
        folder,
        task=task,
        out=out,
        prompts=prompts,
        include=include,
        exclude=exclude,
        model=model,
        hidden=hidden,
        symlinks=symlinks,
        until=until,
        newest_first=newest_first,
        retry=retry,
    )
    if notify is not None:
        os.environ[NOTIFY] = notify
    if dry_run:
        show_forecast(parameters, as_json=as_json)
        return
    raise typer.Exit(_run_and_show(parameters, out_folder(out), as_json=as_json))


def _run_and_show(parameters: Parameters, out: Path, *, as_json: bool) -> int:
    """Runs, showing how far it is, then what came of it; gives the exit code."""
    from flows.watch import watch_run

    control = Control(is_watched=True, tell=lambda text: stderr_console().print(text, markup=False))
    with watch_run(control.progress), stop_gently(control.progress):
        try:
            _run_flow(parameters, control)
        except DocflashError:
            if control.summary is not None and not as_json:
                _print_summary(control, out)
            raise
    if as_json:
        print_json(_as_json(control, out))
    else:
        _print_summary(control, out)
    return _exit_code(control)


def _run_flow(parameters: Parameters, control: Control) -> None:
    """Runs the flow with a Prefect server of its own, or the user's."""
    from flows.api_server import start_server
    from flows.nights.worker import join_server
    from flows.prefect_env import prepare_prefect

    check_parameters(parameters, control.progress)
    # The lasting server, if it runs, saves the start of one, and shows this run among the nights.
    server = start_server() if prepare_prefect() and not join_server() else None
    try:
        from flows.process_folder import process_folder

        if server is not None:
            server.wait_ready()
        offer_control(control)
        process_folder(**asdict(parameters))
    finally:
        if server is not None:
            server.stop()


def _exit_code(control: Control) -> int:
    if control.stopped:
        return _STOPPED.get(control.stopped, EXIT_STOPPED)
    return 1 if control.failures else 0


def _as_json(control: Control, out: Path) -> dict[str, Any]:
    return {
        "run": None if control.summary is None else asdict(control.summary),
        "stopped": control.stopped,
        "documents_read": control.progress.counts.documents_read,
        "failures": [asdict(failure) for failure in control.failures],
        "tables": str(out / "latest"),
        "passed_over": control.passed_over,
        "exit_code": _exit_code(control),
    }


def _print_summary(control: Control, out: Path) -> None:
    console = stderr_console()
    summary, counts = control.summary, control.progress.counts
    if summary is None:
        return
    took = (summary.finished_at or datetime.now(UTC)) - summary.started_at
    console.print(
        f"{counts.files} files, {counts.documents_read} of them read; {counts.jobs_done} answers "
        f"in {counts.calls} model calls; {took.total_seconds():.0f} s",
        markup=False,
    )
    if control.passed_over:
        console.print(f"passed over: {shown(control.passed_over)}", markup=False)
    failures = control.failures
    if failures:
        print_table(
            ("file", "task", "kind", "why"),
            [(f.name, f.task, f.kind, f.message) for f in failures[:_FAILURES_SHOWN]],
            title=f"{len(failures)} failures",
        )
    if len(failures) > _FAILURES_SHOWN:
        console.print(f"... and {len(failures) - _FAILURES_SHOWN} more in the table failures")
    if control.stopped:
        console.print(
            f"stopped ({control.stopped}): what is finished is published; run the "
            "same command again to go on",
            markup=False,
        )
    console.print(f"tables: {out / 'latest'}", markup=False)
