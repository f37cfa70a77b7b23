"""`docflash run FOLDER`: the main job, as the flow `process-folder` in this very process."""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from flows.cli_output import (
    EXIT_INTERRUPTED,
    EXIT_STOPPED,
    print_json,
    print_table,
    stderr_console,
)
from flows.control import Control, offer_control
from flows.parameters import Parameters
from pipeline.errors import DocflashError, InputError
from pipeline.progress import Progress
from pipeline.settings import EMBEDDED_MODEL, out_folder
from pipeline.until import next_time

_BY_YOU = "by you"
_FAILURES_SHOWN = 20


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
    as_json: Json = False,
) -> None:
    """Reads the documents of a folder, asks the model about them, and publishes the tables.

    What was done before is not done again, so stop a run whenever you like (Ctrl-C) and run again.

    Example: `docflash run ~/Documents --until 07:00`

    Exit codes: 0 all done; 1 some documents failed, see the table `failures`; 2 the input or the
    settings are wrong; 3 stopped before the end (by --until or the engine) and 130 (by Ctrl-C):
    what is finished is published, run again to go on.
    """
    from flows.watch import watch_run

    parameters = Parameters(
        folder=str(folder.expanduser().absolute()),
        tasks=task or None,
        out=None if out is None else str(out_folder(out)),
        prompts=None if prompts is None else str(prompts.expanduser().absolute()),
        model=model,
        include=include or None,
        exclude=exclude or None,
        hidden=hidden,
        symlinks=symlinks,
        until=until,
        newest_first=newest_first,
        retry=retry,
    )
    control = Control()
    with watch_run(control.progress), _stop_gently(control.progress):
        try:
            _run_flow(parameters, control)
        except DocflashError:
            if control.summary is not None and not as_json:
                _print_summary(control, out_folder(out))
            raise
    if as_json:
        print_json(_as_json(control, out_folder(out)))
    else:
        _print_summary(control, out_folder(out))
    raise typer.Exit(_exit_code(control))


def _run_flow(parameters: Parameters, control: Control) -> None:
    """Runs the flow with a Prefect server of its own, or the user's."""
    from flows.api_server import start_server
    from flows.prefect_env import prepare_prefect

    _check(parameters, control.progress)
    server = start_server() if prepare_prefect() else None
    try:
        from flows.process_folder import process_folder

        if server is not None:
            server.wait_ready()
        offer_control(control)
        process_folder(**asdict(parameters))
    finally:
        if server is not None:
            server.stop()


def _check(parameters: Parameters, progress: Progress) -> None:
    """What the flow would find wrong at its beginning: Prefect takes seconds to start.

    Raises:
        InputError: As `FolderRun`.
    """
    from pipeline.ingest import check_folder
    from pipeline.run_order import choose

    for value in (parameters.folder, parameters.out, parameters.prompts, parameters.model):
        _check_name(value)
    if parameters.until:
        next_time(parameters.until, datetime.now(UTC))
    order = parameters.order()
    check_folder(order.search)
    choose(order, lambda doing, _: progress.enter("starting", doing))
    progress.enter("starting")


def _check_name(path: str | None) -> None:
    """A folder's name goes through JSON on its way to the flow."""
    try:
        (path or "").encode()
    except UnicodeEncodeError:
        raise InputError(
            f"the name of the folder path={path!r} is not valid UTF-8; rename it, or give a link "
            "to it with another name"
        ) from None


@contextmanager
def _stop_gently(progress: Progress) -> Generator[None]:
    """Makes the first Ctrl-C a wish to stop, so that what is finished is published."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if progress.stop_reason == _BY_YOU:
            raise KeyboardInterrupt
        progress.stop(_BY_YOU)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _exit_code(control: Control) -> int:
    if control.stopped:
        return EXIT_INTERRUPTED if control.stopped == _BY_YOU else EXIT_STOPPED
    return 1 if control.failures else 0


def _as_json(control: Control, out: Path) -> dict[str, Any]:
    return {
        "run": None if control.summary is None else asdict(control.summary),
        "stopped": control.stopped,
        "documents_read": control.progress.counts.documents_read,
        "failures": [asdict(failure) for failure in control.failures],
        "tables": str(out / "latest"),
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
