"""`docflash nights`: what ran by itself, how it went, and what comes next."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli_output import print_json, print_table, stderr_console
from pipeline.errors import InputError
from pipeline.settings import out_folder

if TYPE_CHECKING:
    from flows.nights.history import Nights

_MESSAGE_CHARS = 100

Out = Annotated[
    Path | None, typer.Option(help="The folder for the tables, as for `run`.", readable=False)
]
Last = Annotated[int, typer.Option("--last", "-n", help="How many runs.", min=1, max=200)]


def nights(
    out: Out = None,
    last: Last = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Shows the folders that are done by themselves, their last runs, and when the next ones are.

    Example: `docflash nights`
    """
    from flows.nights.worker import join_server
    from flows.prefect_env import quiet_prefect

    quiet_prefect()
    found: Nights | None = None
    if join_server():
        from flows.nights.history import read_nights

        found = read_nights(last)
    runs = _published_runs(out_folder(out), last)
    worker = _worker()
    if as_json:
        print_json(
            {
                "server": None if found is None else "running",
                "worker_pid": worker,
                "deployments": [] if found is None else [asdict(one) for one in found.deployed],
                "last": [] if found is None else [asdict(run) for run in found.last],
                "next": [] if found is None else [asdict(run) for run in found.next],
                "published_runs": runs,
            }
        )
        return
    if found is None:
        stderr_console().print(
            "docflash's Prefect server is not running: nothing begins by itself. Start it with "
            "`docflash deploy FOLDER --at 02:00`, or with `docflash service start` if you did that"
        )
    else:
        _show(found, worker)
    if runs:
        print_table(tuple(runs[0]), [_cells(run) for run in runs], title="last published runs")


def _show(found: "Nights", worker: int | None) -> None:
    if not found.deployed:
        stderr_console().print("no folder is deployed; see `docflash deploy --help`")
    elif worker is None:
        stderr_console().print("no worker is running: start it with `docflash service start`")
    if found.deployed:
        rows = [(one.name, one.folder, one.schedule) for one in found.deployed]
        print_table(("deployment", "folder", "begins"), rows, title="done by themselves")
    if found.last:
        print_table(
            ("began", "deployment", "state", "seconds", "how it went"),
            [
                (_clock(run.at), run.deployment, run.state, run.seconds or "", _brief(run.message))
                for run in found.last
            ],
            title="last runs",
        )
    if found.next:
        rows = [(_clock(run.at), run.deployment, run.state) for run in found.next]
        print_table(("due", "deployment", ""), rows, title="next runs")


def _brief(message: str) -> str:
    line = message.partition("\n")[0]
    return line if len(line) <= _MESSAGE_CHARS else f"{line[:_MESSAGE_CHARS]} ..."


def _clock(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M}"


def _worker() -> int | None:
    from flows.nights.locks import role_pid

    return role_pid("worker")


def _published_runs(out: Path, last: int) -> list[dict[str, Any]]:
    """What the tables say of the last runs; nothing if there are none yet."""
    from pipeline.queries import query

    try:
        rows: list[dict[str, Any]] = query(out, f"{_RUNS} LIMIT {last:d}").to_pylist()
    except InputError:
        return []
    return rows


def _cells(run: dict[str, Any]) -> tuple[Any, ...]:
    return tuple((run | {"began": _clock(run["began"])}).values())


_RUNS = """
SELECT started_at AS began, folder, state, jobs_done AS answers, jobs_failed AS failed,
    round(epoch(finished_at - started_at))::INT AS seconds
FROM runs ORDER BY started_at DESC
"""
