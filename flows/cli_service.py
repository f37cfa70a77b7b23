"""`docflash service install|remove|start|stop|status|run`: server and worker, kept alive."""

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli_output import make_app, print_json, print_table, stderr_console
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from flows.nights.locks import Role

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

app = make_app(
    "Docflash's Prefect server and worker. `deploy` starts them; `service install` has the system "
    "do so, also after a restart: systemd's user units on Linux, LaunchAgents on macOS."
)


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """How the server or the worker is.

    Attributes:
        pid: Its process; None if it does not run.
        file: What keeps it alive; empty if nothing does.
        by_system: Whether the system runs it now.
    """

    role: str
    pid: int | None
    file: str
    by_system: bool


@app.command()
def install(as_json: Json = False) -> None:
    """Writes the files that have the system keep server and worker alive, and starts them.

    Example: `docflash service install`
    """
    from flows.nights import service_control
    from flows.nights.home import make_home
    from flows.nights.locks import ROLES, end_role
    from flows.nights.own_server import keep_password
    from flows.nights.processes import END_TIMEOUT_S
    from flows.nights.service_files import service_files

    make_home()
    keep_password()
    files = service_files()
    for file in files:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.write_text(file.text, encoding="utf-8")
        file.path.chmod(0o600)
    is_there = service_control.is_there()
    if is_there:  # those that were plain processes would be in the way
        for role in reversed(ROLES):
            end_role(role, END_TIMEOUT_S)
    is_enabled = service_control.enable(files)
    notes = _install_notes(is_there=is_there, is_enabled=is_enabled)
    if as_json:
        paths = [str(file.path) for file in files]
        print_json({"files": paths, "started": is_enabled, "notes": notes})
        return
    console = stderr_console()
    for file in files:
        console.print(f"written: {file.path}", markup=False)
    if is_enabled:
        console.print("started: server and worker; the system starts them again from now on")
    for note in notes:
        console.print(f"note: {note}", markup=False)


def _install_notes(*, is_there: bool, is_enabled: bool) -> list[str]:
    from flows.nights import service_control
    from flows.nights.service_files import service_files

    if not is_there:
        what = "launchd" if sys.platform == "darwin" else "a systemd of this user's"
        return [f"there is no {what} here: the files are written, and nothing was started"]
    if not is_enabled:
        names = " ".join(file.name for file in service_files())
        return [f"the system did not start {names}; ask it why: systemctl --user status {names}"]
    if not service_control.lingers():
        return ["they run while you are logged in; `loginctl enable-linger` has them run always"]
    return []


@app.command()
def remove(as_json: Json = False) -> None:
    """Ends server and worker, and removes the files; deployments and tables stay.

    Example: `docflash service remove`
    """
    from flows.nights import service_control
    from flows.nights.own_server import forget_password
    from flows.nights.service_files import service_files

    files = service_files()
    service_control.disable(files)
    _end_all()
    forget_password()
    gone = [file.path for file in files if file.path.is_file()]
    for path in gone:
        path.unlink()
    if as_json:
        print_json({"removed": [str(path) for path in gone]})
        return
    for path in gone:
        stderr_console().print(f"removed: {path}", markup=False)
    if not gone:
        stderr_console().print("no service was installed; server and worker have ended")


@app.command()
def start(as_json: Json = False) -> None:
    """Starts server and worker if they are not running.

    Example: `docflash service start`
    """
    from flows.nights.processes import ensure_server, ensure_worker
    from flows.nights.worker import join_server

    server = ensure_server()
    join_server()
    worker = ensure_worker()
    if as_json:
        print_json({"server": server, "worker": worker})
    else:
        stderr_console().print(f"server: {server}; worker: {worker}")


@app.command()
def stop(as_json: Json = False) -> None:
    """Ends server and worker; a run that is at work publishes what is finished.

    Example: `docflash service stop`
    """
    from flows.nights import service_control
    from flows.nights.locks import ROLES, role_pid

    was = [role for role in ROLES if role_pid(role) is not None]
    for role in reversed(ROLES):
        service_control.end(role)
    _end_all()
    if as_json:
        print_json({"stopped": was})
    else:
        stderr_console().print(f"stopped: {' and '.join(was)}" if was else "nothing was running")


def _end_all() -> None:
    from flows.nights.locks import ROLES, end_role, role_pid
    from flows.nights.processes import END_TIMEOUT_S

    for role in reversed(ROLES):
        if not end_role(role, END_TIMEOUT_S):
            raise EngineError(
                f"docflash's {role} pid={role_pid(role)} is still at work after "
                f"{END_TIMEOUT_S:g} s; wait until its run is done, and try again"
            )


@app.command()
def status(as_json: Json = False) -> None:
    """Says whether server and worker run, what keeps them alive, and where their pages are.

    Example: `docflash service status`
    """
    from flows.nights.home import home_file, load_home
    from flows.nights.locks import ROLES
    from flows.nights.probe import describe_port, is_ready

    home = load_home()
    is_up = home is not None and is_ready(home)
    problem = "" if home is None or is_up else describe_port(home)
    found = [_status(role) for role in ROLES]
    if as_json:
        values: dict[str, Any] = {"answers": is_up, "problem": problem}
        address = None if home is None else home.ui_url
        print_json(values | {"address": address, "processes": [asdict(one) for one in found]})
        return
    print_table(
        ("", "process", "kept alive by"),
        [(one.role, one.pid or "not running", one.file or "nothing") for one in found],
    )
    console = stderr_console()
    if is_up and home is not None:
        console.print(f"pages: {home.ui_url}", markup=False)
        console.print(f"they ask for the password in {home_file()}", markup=False)
    elif problem:
        console.print(problem, markup=False)


def _status(role: "Role") -> RoleStatus:
    from flows.nights import service_control
    from flows.nights.locks import role_pid
    from flows.nights.service_files import service_files

    file = next(file for file in service_files() if file.role == role)
    is_kept = file.path.is_file()
    return RoleStatus(
        role, role_pid(role), str(file.path) if is_kept else "", service_control.is_active(role)
    )


@app.command()
def run(
    role: Annotated[str, typer.Argument(help="server or worker")],
    port: Annotated[int | None, typer.Option(help="The port of the server.")] = None,
) -> None:
    """Is the server, or the worker, until it is ended: what the system's services start.

    Example: `docflash service run server`
    """
    from flows.nights.server import serve_nights
    from flows.nights.worker import work_nights

    if role == "server":
        serve_nights(port)
    elif role == "worker":
        work_nights()
    else:
        raise typer.BadParameter(f"{role!r} is neither server nor worker", param_hint="role")
