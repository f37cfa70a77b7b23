"""`docflash run FOLDER --dry-run`: what a run would do, and about how long it would take."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flows.cli_output import print_json, print_table, stderr_console
from flows.parameters import Parameters
from flows.watch import show_duration

if TYPE_CHECKING:
    from pipeline.forecast import LeftAlone


def show_forecast(parameters: Parameters, *, as_json: bool) -> None:
    """Prints what a run with these parameters would do; changes nothing, loads no model.

    Raises:
        BusyError: A run is at work on the library.
        InputError: As a run would raise it.
    """
    from pipeline.forecast import forecast

    found = forecast(parameters.order())
    if as_json:
        jobs = dict(found.jobs)
        print_json({**asdict(found), "changes": asdict(found.changes), "jobs": jobs})
        return
    changes = [(name, number) for name, number in asdict(found.changes).items() if number]
    print_table(("files", str(found.files)), changes)
    if not found.jobs:
        stderr_console().print("no answer is to be asked for")
    else:
        print_table(("answers to be asked for, at least", ""), found.jobs)
        about = (
            "how long that takes can be said after the first run with this model"
            if found.seconds is None
            else f"about {show_duration(found.seconds)}, by the last runs with this model"
        )
        stderr_console().print(f"about {found.calls} model calls; {about}", markup=False)
    if found.left_alone:
        print_table(
            ("task", "kind", "documents", "such as", "tried again", "why"),
            [_left_cells(left) for left in found.left_alone],
            title="left alone, as they failed before",
        )
        stderr_console().print("--retry tries all of them now")


def _left_cells(left: "LeftAlone") -> tuple[Any, ...]:
    """A row for people: in the time of their clock."""
    due = "no" if left.due is None else f"{left.due.astimezone():%Y-%m-%d %H:%M}"
    return (left.task, left.kind, left.count, left.such_as, due, left.why)
