"""What the command line prints: tables for people, one JSON value for programs, errors as blocks.

Results go to standard output, everything else (progress, errors) to standard error; with `--json`
an error is the JSON value on standard output, too.
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer
import typer.core

from pipeline.errors import DocflashError, describe_fault

if TYPE_CHECKING:
    from rich.console import Console

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")

EXIT_STOPPED = 3
EXIT_FAULT = 70  # EX_SOFTWARE of sysexits.h: a fault of docflash itself
EXIT_INTERRUPTED = 130  # what a shell reports for SIGINT
EXIT_TERMINATED = 143  # and for SIGTERM


class Commands(typer.core.TyperGroup):
    """Turns errors into a clear block and an exit code: no traceback reaches a user."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except DocflashError as error:
            print_error(type(error).__name__, str(error), error.exit_code)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            print_error("Interrupted", "stopped by you", EXIT_INTERRUPTED)
            raise typer.Exit(EXIT_INTERRUPTED) from error
        except BrokenPipeError as error:  # `docflash sql ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from error
        except OSError as error:
            message = (
                f"{error.strerror or error}: {error.filename!r}" if error.filename else str(error)
            )
            print_error("OSError", f"the system refused: {message}; check disk and permissions", 2)
            raise typer.Exit(2) from error
        except Exception as error:
            if hasattr(error, "show"):  # a mistake in the command's own options: it shows itself
                if not wants_json():
                    raise
                shown_by_itself: Any = error
                print_error("UsageError", shown_by_itself.format_message(), 2)
                raise typer.Exit(2) from error
            if os.environ.get("DOCFLASH_DEBUG") == "1":
                raise
            advice = "set DOCFLASH_DEBUG=1 to see the traceback (it may show text of documents)"
            print_error("Fault", f"{describe_fault(error)}; {advice}", EXIT_FAULT)
            raise typer.Exit(EXIT_FAULT) from error


def make_app(summary: str) -> typer.Typer:
    """An empty group of commands in docflash's manner."""
    return typer.Typer(
        cls=Commands,
        help=summary,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        # A traceback with local variables would show the text of private documents.
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def wants_json() -> bool:
    """Whether this command was called with `--json`."""
    return "--json" in sys.argv[1:]


def print_json(value: Any) -> None:
    """Prints one JSON value; dates, decimals and paths as text."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")


def print_error(kind: str, message: str, exit_code: int) -> None:
    """Prints an error as one block, or as JSON."""
    if wants_json():
        print_json({"error": {"kind": kind, "message": message, "exit_code": exit_code}})
        return
    sys.stderr.write(f"docflash: {message}\n")


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    title: str = "",
    widths: Sequence[int] = (),
) -> None:
    """Prints a table in the width of the terminal; its columns as wide as they are told to be."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for place, column in enumerate(columns):
        width = widths[place] if widths else None
        table.add_column(Text(column), overflow="fold", width=width)
    for row in rows:
        table.add_row(*(Text("" if cell is None else shown(str(cell))) for cell in row))
    stdout_console().print(table)


def shown(text: str) -> str:
    r"""Text that may be shown on a terminal: control characters, which could steer it, as \xNN."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def stdout_console() -> "Console":
    """The console for results."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, highlight=False, soft_wrap=False)


def stderr_console() -> "Console":
    """The console for progress; a long path stays in one piece, to be copied or searched for."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)
