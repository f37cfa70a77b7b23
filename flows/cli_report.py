"""`docflash report`: what is published, as one HTML file to look at."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli_output import print_json, print_table, stderr_console
from flows.cli_query import Out
from pipeline.settings import out_folder

_MANY_BYTES = 200_000_000  # browsers read larger files slowly, and phones not at all


def report(
    out: Out = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file; default: report.html beside the tables.",
            dir_okay=False,
        ),
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Only documents whose path fits, such as '*.pdf'.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=0, help="At most so many documents, by path; 0: all.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Writes an HTML file in which each value leads to the words that it came from.

    It needs nothing else, opens in any browser of 2023 or newer, and holds the text of your
    documents: only you can open it.

    Example: `docflash report -o report.html --include 'invoices/*'`
    """
    from pipeline.report import write_report

    library = out_folder(out)
    path = (file or library / "report.html").expanduser().absolute()
    done = write_report(library, path, tuple(include or ()), limit)
    if as_json:
        print_json(
            {
                "file": str(done.file),
                "size_bytes": done.size_bytes,
                "documents": done.documents,
                "documents_all": done.documents_all,
                "flags": done.flags,
            }
        )
    else:
        print_table(
            ("report", str(done.file)),
            [
                ("documents", f"{done.documents} of {done.documents_all}"),
                ("flagged values", done.flags),
                ("size", f"{done.size_bytes / 1e6:.1f} MB"),
            ],
        )
    if done.size_bytes > _MANY_BYTES:
        stderr_console().print("this is large for a browser; --include or --limit makes it smaller")
