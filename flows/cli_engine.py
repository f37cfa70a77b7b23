"""`docflash engine start|stop|status`: the process that holds the model."""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli_output import make_app, print_json, print_table, stderr_console
from pipeline.engine.loading.shipped import absolute_drafter, drafter_of
from pipeline.errors import InputError
from pipeline.settings import EMBEDDED_MODEL

if TYPE_CHECKING:
    from pipeline.engine.interface import EngineStats

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

app = make_app(
    "The process that holds the model. It starts by itself when a run needs it, and leaves when it "
    "has been idle for a while."
)


@app.command()
def start(
    model: Annotated[
        str, typer.Option(help="The folder of an mlx-lm model, or 'embedded'.")
    ] = EMBEDDED_MODEL,
    drafter: Annotated[
        str,
        typer.Option(
            help="The folder of a DFlash drafter for the model, 'shipped' or 'none'.  [default: "
            "the shipped one for the embedded model, else none]"
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Starts the engine and waits until it is ready.

    The drafter may also be named by DOCFLASH_DRAFTER, for engines that start by themselves. It
    makes answers faster and changes none of them.

    Example: `docflash engine start --model ~/models/Qwen3-4B-4bit --drafter ~/models/Qwen3-DFlash`
    """
    from pipeline.engine.serving.launch import start_engine

    console = stderr_console()
    told: set[str] = set()

    def tell(doing: str, _: float) -> None:
        if doing and doing not in told:
            told.add(doing)
            console.print(f"{doing} ...", markup=False)

    if drafter:
        os.environ["DOCFLASH_DRAFTER"] = absolute_drafter(drafter)
    status = start_engine(model, tell)
    if drafter and status.drafter != drafter_of(model, os.environ["DOCFLASH_DRAFTER"]):
        raise InputError(
            f"an engine with drafter={status.drafter!r} is running already; stop it first with "
            "`docflash engine stop`"
        )
    if as_json:
        print_json(asdict(status))
    else:
        console.print(f"the engine is ready: pid {status.pid}, model {status.model}", markup=False)


@app.command()
def stop(
    now: Annotated[bool, typer.Option("--now", help="End running requests, too.")] = False,
    as_json: Json = False,
) -> None:
    """Stops the engine once the requests it has begun are done.

    Example: `docflash engine stop --now`
    """
    from pipeline.engine.serving.launch import stop_engine

    was_running = stop_engine(now=now)
    if as_json:
        print_json({"was_running": was_running})
    else:
        stderr_console().print("the engine has stopped" if was_running else "no engine was running")


@app.command()
def status(as_json: Json = False) -> None:
    """Says whether an engine is running, with which model, and what it does.

    Example: `docflash engine status --json`
    """
    from pipeline.engine.serving.launch import engine_status

    found = engine_status()
    if as_json:
        print_json(None if found is None else asdict(found))
    elif found is None:
        stderr_console().print("no engine is running; a run starts one when it needs it")
    else:
        rows = [(name, value) for name, value in asdict(found).items() if name != "stats"]
        stats = asdict(found.stats)
        del stats["speculation"]
        print_table(("engine", ""), [*rows, *stats.items(), *_speculation_rows(found.stats)])


def _speculation_rows(stats: "EngineStats") -> list[tuple[str, str]]:
    """What drafts were run and what they gained, a line each."""
    found = stats.speculation
    if found is None:
        return [("drafts", "none: one token a step")]
    widths = ", ".join(f"{steps} x {width}" for width, steps in found.steps_by_width if steps)
    return [
        ("steps x tokens", widths),
        *(
            (f"drafts: {source.source}", f"{source.accepted} of {source.drafted} tokens accepted")
            for source in found.sources
        ),
        ("gain over plain decoding", f"{found.gain:.2f} (estimated)"),
    ]
