"""`docflash deploy FOLDER --at 02:00`: a folder is done every night, by itself."""

import os
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli_output import print_json, stderr_console
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
)
from flows.notice import NOTIFY
from flows.parameters import Parameters, check_parameters
from pipeline.errors import InputError
from pipeline.hours import explain_changes, parse_hours
from pipeline.progress import Progress
from pipeline.settings import EMBEDDED_MODEL, out_folder

if TYPE_CHECKING:
    from flows.nights.deployments import Deployed, Night
    from pipeline.hours import Hours

_NIGHT = "02:00"
_NOT_KEPT = frozenset({"DOCFLASH_DEBUG", "DOCFLASH_PREFECT_PORT", NOTIFY})

At = Annotated[str | None, typer.Option(help=f"When it begins, every day; {_NIGHT} if not given.")]
Every = Annotated[
    float | None, typer.Option(help="Instead of --at: how often, in minutes.", min=1.0)
]
Timezone = Annotated[
    str | None,
    typer.Option(help="The time zone of --at and --until, e.g. Europe/Dublin; or this machine's."),
]
Name = Annotated[str, typer.Option(help="A name of your own for it.")]
Notify = Annotated[
    str | None, typer.Option(help="A command that is run when something failed; see --help of run.")
]
Port = Annotated[int | None, typer.Option(help="The port of docflash's Prefect server.")]
Remove = Annotated[bool, typer.Option("--remove", help="End it: the folder is done no more.")]


def deploy(  # noqa: PLR0913 (options)
    folder: FolderArgument,
    *,
    at: At = None,
    every: Every = None,
    timezone: Timezone = None,
    task: Tasks = None,
    until: Until = None,
    name: Name = "",
    out: Out = None,
    prompts: Prompts = None,
    model: Model = EMBEDDED_MODEL,
    include: Include = None,
    exclude: Exclude = None,
    hidden: Hidden = False,
    symlinks: Symlinks = False,
    newest_first: NewestFirst = False,
    notify: Notify = None,
    port: Port = None,
    remove: Remove = False,
    as_json: Json = False,
) -> None:
    """Has a folder done every night: server, deployment and worker of Prefect, on this machine.

    Give the same command with other hours or options to change it. See `docflash nights` for what
    happened, and `docflash service install` to have it outlive a restart of the machine.

    Example: `docflash deploy ~/Documents --at 02:00 --until 07:00`
    """
    if remove:
        _remove(str(folder.expanduser().absolute()), name, as_json=as_json)
        return
    hours = _read_hours(at, every, timezone, until)
    parameters = Parameters.of_options(
        folder,
        task=task,
        out=out_folder(out),
        prompts=prompts,
        include=include,
        exclude=exclude,
        model=_absolute_model(model),
        hidden=hidden,
        symlinks=symlinks,
        until=until,
        # The night ends by the clock that it begins by, wherever the machine is taken.
        timezone=(hours.zone if hours else timezone) if until else None,
        newest_first=newest_first,
    )
    _check_name(name)
    check_parameters(parameters, Progress())
    environment = _environment() | ({NOTIFY: notify} if notify else {})
    interval = None if every is None else timedelta(minutes=every)
    _deploy(parameters, hours, interval, (name, environment), port=port, as_json=as_json)


def _deploy(
    parameters: Parameters,
    hours: "Hours | None",
    every: timedelta | None,
    named: tuple[str, dict[str, str]],
    *,
    port: int | None,
    as_json: bool,
) -> None:
    from flows.nights.processes import ensure_server, ensure_worker
    from flows.nights.worker import join_server

    is_ours = not os.environ.get("PREFECT_API_URL")
    server = ensure_server(port) if is_ours else "yours"
    join_server()
    from flows.nights import deployments

    name, environment = named
    night = deployments.Night(parameters, hours, every, name, tuple(environment.items()))
    made = deployments.deploy(night)
    others = [one for one in deployments.list_deployed() if one.id != made.id]
    told = _Told(
        made,
        server,
        ensure_worker(),
        _notes(night, made, deployments.find_overlaps(made.folder, others)),
    )
    told.show(as_json=as_json)


class _Told:
    """What was done, in words and as JSON."""

    def __init__(self, made: "Deployed", server: str, worker: str, notes: list[str]) -> None:
        self._made, self._server, self._worker, self._notes = made, server, worker, notes

    def show(self, *, as_json: bool) -> None:
        address = os.environ["PREFECT_API_URL"].removesuffix("/api")
        if as_json:
            values: dict[str, Any] = asdict(self._made) | {
                "server": {"address": address, "was": self._server},
                "worker": {"was": self._worker},
                "notes": self._notes,
            }
            print_json(values)
            return
        console = stderr_console()
        made = self._made
        for line in (
            f"{'made' if made.is_new else 'changed'}: the deployment {made.name}",
            f"  folder  {made.folder}",
            f"  tables  {made.out}/latest",
            f"  begins  {made.schedule}",
            f"  server  {address} ({self._server})",
            f"  worker  {self._worker}",
            *(f"note: {note}" for note in self._notes),
            "see `docflash nights` for what happens",
        ):
            console.print(line, markup=False)


def _notes(night: "Night", made: "Deployed", overlaps: "list[Deployed]") -> list[str]:
    from flows.nights import service_control

    notes: list[str] = []
    if night.hours is not None and (change := explain_changes(night.hours, datetime.now(UTC))):
        notes.append(change)
    for other in overlaps:
        same = other.out == made.out
        notes.append(
            f"the folder {other.folder!r} of {other.name} and this one overlap: documents in both "
            + ("are asked about once" if same else "are asked about twice, for two libraries")
            + "; add --exclude to one of them if you don't want that"
        )
    if not service_control.is_installed("worker"):
        notes.append(
            "server and worker run until the machine is shut down; `docflash service install` "
            "starts them again after that"
        )
    return notes


def _remove(folder: str, name: str, *, as_json: bool) -> None:
    from flows.nights.worker import join_server

    gone: list[Deployed] = []
    left: list[Deployed] = []
    ended = False
    if join_server():
        from flows.nights import deployments

        gone = deployments.remove(folder, name)
        left = deployments.list_deployed()
        if gone and not left:
            ended = _end_processes()
    if as_json:
        print_json({"removed": [one.name for one in gone], "ended_server_and_worker": ended})
        return
    console = stderr_console()
    for one in gone:
        console.print(f"removed: the deployment {one.name}", markup=False)
    if not gone:
        console.print(f"nothing is deployed for the folder={folder!r}", markup=False)
    if ended:
        console.print("it was the last one: server and worker have ended")


def _end_processes() -> bool:
    """Ends server and worker, unless the system is to keep them or they are the user's."""
    from flows.nights import service_control
    from flows.nights.locks import ROLES, end_role
    from flows.nights.processes import END_TIMEOUT_S

    if any(service_control.is_installed(role) for role in ROLES):
        return False
    return end_role("worker", END_TIMEOUT_S) and end_role("server", END_TIMEOUT_S)


def _read_hours(
    at: str | None, every: float | None, timezone: str | None, until: str | None
) -> "Hours | None":
    if every is None:
        return parse_hours(at or _NIGHT, timezone)
    if at is not None:
        raise InputError(f"every={every!r} has no use for --at; give either")
    if timezone is not None and until is None:
        raise InputError(f"every={every!r} has no use for --timezone but with --until")
    return None


def _check_name(name: str) -> None:
    if set(name) & set("/%&<>"):
        raise InputError(f"name={name!r} has one of / % & < >, which Prefect does not take")


def _absolute_model(model: str) -> str:
    """The worker starts its runs in another folder."""
    folder = Path(model).expanduser()
    return str(folder.absolute()) if folder.is_dir() else model


def _environment() -> dict[str, str]:
    """Docflash's variables as they are now: the worker may be started elsewhere."""
    from pipeline.settings import cache_folder, runtime_folder, state_folder

    return {
        **{
            name: value
            for name, value in os.environ.items()
            if name.startswith("DOCFLASH_") and name not in _NOT_KEPT
        },
        "DOCFLASH_CACHE": str(cache_folder()),
        "DOCFLASH_STATE": str(state_folder()),
        "DOCFLASH_RUNTIME": str(runtime_folder()),
        "DOCFLASH_OUT": str(out_folder()),
    }
