"""The command line, `docflash`: the list of its commands. Each is in a room of its own.

Exit codes: 0 done; 1 some documents failed (recorded in `failures`); 2 the input or the settings
are wrong; 3 the run stopped before its end and can be resumed; 130 stopped by Ctrl-C, likewise;
70 a fault of docflash itself.
"""

from flows import cli_engine
from flows.cli_doctor import doctor
from flows.cli_output import make_app
from flows.cli_tasks import tasks

app = make_app(
    "Turns a folder of private documents into tables that you query with SQL, on this machine. "
    "Start with `docflash run FOLDER`, then ask `docflash sql`."
)
app.command()(tasks)
app.add_typer(cli_engine.app, name="engine")
app.command()(doctor)


def main() -> None:
    """Runs the command line."""
    app(prog_name="docflash")
