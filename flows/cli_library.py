"""`docflash purge`, `docflash vacuum`, `docflash backup`: looking after a library."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli_output import print_json, shown
from pipeline.errors import InputError
from pipeline.settings import out_folder, state_folder

Out = Annotated[
    Path | None, typer.Option(help="The folder for the tables, as for `run`.", readable=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_PATHS_SHOWN = 10


def purge(
    what: Annotated[str, typer.Argument(help="A file, a folder, or a document_id.")],
    out: Out = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Removes every trace of documents: tables, store, the engine's memory, Prefect's history.

    The files themselves stay: move or delete them, or the next run reads them again.

    Example: `docflash purge ~/Documents/private --yes`
    """
    from flows.prefect_history import forget_names
    from pipeline.upkeep import find_traces, purge

    library = out_folder(out)
    if not yes:
        _ask(find_traces(library, what))
    purged = purge(library, what)
    home = os.environ.get("PREFECT_HOME") or state_folder() / "prefect"
    forget_names(Path(home), sorted({Path(path).name for path in purged.paths}))
    if as_json:
        print_json({"paths": purged.paths, "documents": purged.documents, "engine": purged.engine})
        return
    engine = {"busy": "; the engine is at work for another run and forgets when it leaves"}
    sys.stdout.write(
        f"{purged.documents} documents are gone from {library}, with the names of "
        f"{len(purged.paths)} files{engine.get(purged.engine, '')}\n"
    )


def _ask(paths: tuple[str, ...]) -> None:
    if not sys.stdin.isatty():
        raise InputError("purge can't be undone; add --yes")
    for path in paths[:_PATHS_SHOWN]:
        sys.stderr.write(f"  {shown(path)}\n")
    if len(paths) > _PATHS_SHOWN:
        sys.stderr.write(f"  ... and {len(paths) - _PATHS_SHOWN} more\n")
    typer.confirm("Remove every trace of these?", abort=True, err=True)


def vacuum(
    out: Out = None,
    keep_days: Annotated[
        int, typer.Option(min=0, help="Keep runs to which nothing refers for so many days.")
    ] = 180,
    as_json: AsJson = False,
) -> None:
    """Forgets old runs and gives disk space back that the store no longer needs.

    Example: `docflash vacuum`
    """
    from pipeline.upkeep import vacuum

    done = vacuum(out_folder(out), keep_days)
    if as_json:
        print_json({"runs": done.runs, "freed_bytes": done.freed_bytes})
        return
    freed = max(0, done.freed_bytes) / 1e6
    sys.stdout.write(f"{done.runs} old runs forgotten, {freed:.1f} MB given back\n")


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Copies the store into one file, from which all tables can be published again.

    To go back, put it into an empty folder as store.duckdb and run with that folder as --out.

    Example: `docflash backup ~/backups/docflash.duckdb`
    """
    from pipeline.upkeep import backup

    size_bytes = backup(out_folder(out), file)
    if as_json:
        print_json({"file": str(file), "size_bytes": size_bytes})
        return
    sys.stdout.write(f"{size_bytes / 1e6:.1f} MB written to {file}\n")
