"""The command line, `docflash`: the list of its commands. Each is in a room of its own.

Exit codes: 0 done; 1 some documents failed (recorded in `failures`); 2 the input or the settings
are wrong; 3 the run stopped before its end and can be resumed; 130 stopped by Ctrl-C and 143 by
SIGTERM, likewise; 70 a fault of docflash itself.
"""

import gc
import os
import sys

from flows import cli_engine, cli_model, cli_service, cli_train
from flows.cli_deploy import deploy
from flows.cli_doctor import doctor
from flows.cli_eval import evaluate, label
from flows.cli_library import backup, purge, vacuum
from flows.cli_nights import nights
from flows.cli_output import make_app
from flows.cli_query import sql, status
from flows.cli_report import report
from flows.cli_retry import retry, watch
from flows.cli_run import run
from flows.cli_tasks import tasks
from pipeline.few_heaps import use_few_heaps

app = make_app(
    "Turns a folder of private documents into tables that you query with SQL, on this machine. "
    "Start with `docflash run FOLDER`, then ask `docflash sql`."
)
for command in (run, retry, watch, status, sql, tasks, deploy, nights):
    app.command()(command)
app.command("eval")(evaluate)
app.command()(label)
app.command()(report)
app.add_typer(cli_engine.app, name="engine")
app.add_typer(cli_model.app, name="model")
app.add_typer(cli_service.app, name="service")
app.command()(cli_train.train_drafter)
app.add_typer(cli_train.app, name="drafter")
app.command()(doctor)
for command in (purge, vacuum, backup):
    app.command()(command)


def main() -> None:
    """Runs the command line."""
    use_few_heaps()
    os.umask(0o077)  # what docflash and all that it starts write is for this user alone
    code = _run()
    # An error keeps the frames it went through alive, and with them DuckDB's connections, about
    # which its bindings would complain at the end.
    gc.collect()
    sys.exit(code)


def _run() -> int | str | None:
    try:
        app(prog_name="docflash")
    except SystemExit as ended:
        return ended.code
    return 0


if __name__ == "__main__":
    main()
