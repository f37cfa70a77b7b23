"""`docflash run FOLDER --dry-run`: what a run would do, and about how long it would take."""

from dataclasses import asdict

from flows.cli_output import print_json, print_table, stderr_console
from flows.parameters import Parameters
from flows.watch import show_duration


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
        stderr_console().print(
            f"{found.left_alone} failed before and are left alone; --retry tries them again"
        )
