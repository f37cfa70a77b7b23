"""`docflash retry` and `docflash watch`: runs for what failed, or whenever files change."""

import signal
import subprocess
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli_output import EXIT_INTERRUPTED, EXIT_TERMINATED, stderr_console
from flows.cli_run import (
    Exclude,
    FolderArgument,
    Hidden,
    Include,
    Json,
    Model,
    NewestFirst,
    Out,
    Prompts,
    Symlinks,
    Tasks,
    Until,
    run,
)
from pipeline.errors import InputError
from pipeline.settings import EMBEDDED_MODEL

if TYPE_CHECKING:
    from pipeline.ingest import Search

_LOOK_S = 5.0
_SHARE = 20  # looking takes at most a twentieth of the time

Settle = Annotated[
    float, typer.Option(help="Seconds without a change before a run begins.", min=0.0)
]


def retry(  # noqa: PLR0913 (options)
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
    as_json: Json = False,
) -> None:
    """Runs over a folder again and tries what failed before, whatever it failed of.

    Give it the options of the run, so that it takes the same files.

    Example: `docflash retry ~/Documents`
    """
    run(
        folder,
        task=task,
        out=out,
        prompts=prompts,
        model=model,
        include=include,
        exclude=exclude,
        hidden=hidden,
        symlinks=symlinks,
        until=until,
        newest_first=newest_first,
        retry=True,
        as_json=as_json,
    )


def watch(  # noqa: PLR0913 (options)
    folder: FolderArgument,
    *,
    settle: Settle = 10.0,
    task: Tasks = None,
    out: Out = None,
    prompts: Prompts = None,
    model: Model = EMBEDDED_MODEL,
    include: Include = None,
    exclude: Exclude = None,
    hidden: Hidden = False,
    symlinks: Symlinks = False,
    as_json: Json = False,
) -> None:
    """Runs over a folder now, and again whenever its files change; Ctrl-C ends it.

    Example: `docflash watch ~/Documents --settle 60`
    """
    from flows.parameters import Parameters, check_parameters
    from pipeline.progress import Progress

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
    )
    check_parameters(parameters, Progress())
    # The same words with `run` in the place of `watch`, and without what only `watch` knows.
    words = _run_words(sys.argv[1:])
    search = parameters.order().search
    seen = ""
    while True:
        found = _wait_settled(search, seen, settle)
        if not as_json:
            stderr_console().print("the folder has changed" if seen else "watching the folder")
        asked_to_stop = _run_to_its_end([sys.executable, "-P", "-m", "flows.cli", *words])
        if asked_to_stop:
            raise typer.Exit(asked_to_stop)
        seen = found


def _run_to_its_end(command: list[str]) -> int:
    """Runs a command; what is to stop this process stops it gently, and is waited for.

    Returns:
        The exit code for the signal that came meanwhile; 0 if none did.
    """
    process = subprocess.Popen(command, start_new_session=True)
    asked = 0

    def pass_on(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = EXIT_TERMINATED if number == signal.SIGTERM else EXIT_INTERRUPTED
        process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return asked


def _run_words(words: list[str]) -> list[str]:
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--settle":
            next(rest, None)
        elif not word.startswith("--settle="):
            kept.append(word)
    return ["run", *kept[1:]]


def _wait_settled(search: "Search", seen: str, settle_s: float) -> str:
    """Waits until the folder is another one than was seen, and has been so for a while."""
    last, since = "", time.monotonic()
    while True:
        began = time.monotonic()
        found = _fingerprint(search)
        if found != last:
            last, since = found, began
        took = time.monotonic() - began
        if found not in {seen, ""} and (not seen or began - since >= settle_s):
            return found
        time.sleep(max(min(_LOOK_S, settle_s or _LOOK_S), took * _SHARE))


def _fingerprint(search: "Search") -> str:
    """Names, sizes and times of the files, as one short text; empty if the folder is away."""
    import hashlib

    from pipeline.documents import Tally
    from pipeline.ingest import search_files
    from pipeline.records import FoundFile

    digest = hashlib.sha256()
    try:
        for found in search_files(search, Tally()):
            if isinstance(found, FoundFile):
                line = f"{found.name}\0{found.size_bytes}\0{found.modified_ns}\n"
                digest.update(line.encode(errors="surrogateescape"))
    except InputError:
        return ""
    return digest.hexdigest()
