"""`docflash doctor`: what is installed, where things lie, and what would stop a run."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli_output import print_json, print_table, stderr_console
from pipeline.engine.checking.bench import BenchJob, start_bench
from pipeline.engine.loading.shipped import drafter_of
from pipeline.errors import DocflashError
from pipeline.settings import EMBEDDED_MODEL, cache_folder, out_folder, runtime_folder, state_folder

State = Literal["ok", "note", "wrong"]

_PACKAGES = ("prefect", "mlx", "mlx-lm", "llguidance", "duckdb", "pyarrow", "pypdf", "tokenizers")
_LOW_DISK_BYTES = 2 * 1024**3
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's report.

    Attributes:
        remedy: What to do; empty if all is well.
    """

    name: str
    state: State
    found: str
    remedy: str = ""


def doctor(
    out: Annotated[
        Path | None, typer.Option(help="Folder of the tables, as for `run`.", readable=False)
    ] = None,
    bench: Annotated[
        bool, typer.Option("--bench", help="Time the model here instead, in about two minutes.")
    ] = False,
    model: Annotated[
        str, typer.Option(help="The folder of an mlx-lm model, or 'embedded'; for --bench.")
    ] = EMBEDDED_MODEL,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Checks this machine and docflash's own folders, and says what would stop a run.

    With --bench it says how fast the model reads and writes here, with drafts and without.

    Example: `docflash doctor --bench`
    """
    if bench:
        _show_bench(model, as_json=as_json)
        return
    checks = list(_run_checks(out_folder(out)))
    wrong = any(check.state == "wrong" for check in checks)
    if as_json:
        print_json({"ok": not wrong, "checks": [asdict(check) for check in checks]})
    else:
        print_table(
            ("", "what", "found", "to do"),
            [(check.state, check.name, check.found, check.remedy) for check in checks],
        )
    raise typer.Exit(2 if wrong else 0)


def _show_bench(model: str, *, as_json: bool) -> None:
    wanted = os.environ.get("DOCFLASH_DRAFTER", "")
    job = BenchJob(model, drafter_of(model, wanted))
    with stderr_console().status("") as line:
        report = start_bench(job, lambda doing, _: line.update(f"{doing} ..."))
    if as_json:
        print_json(asdict(report))
        return
    print_table(
        ("answers at the same time", "tokens/s", "with drafts", "times", "tokens a step"),
        [
            (
                str(pace.rows), f"{pace.plain:.0f}", f"{pace.drafted:.0f}",
                f"{pace.drafted / max(pace.plain, 0.1):.2f}", f"{pace.accepted:.2f}",
            )
            for pace in report.paces
        ],
    )  # fmt: skip
    print(f"{report.model} on {report.device}: {report.read:.0f} tokens/s read")  # noqa: T201


def _run_checks(out: Path) -> Iterator[Check]:
    yield Check("system", "ok", f"{platform.platform()}, {os.cpu_count()} cores, {_memory()}")
    yield Check("python", "ok", f"{platform.python_version()} at {sys.executable}")
    for package in ("docflash", *_PACKAGES):
        yield _check_package(package)
    yield _guarded("embedded model", _check_model)
    yield _guarded("matrix products", _check_blas)
    yield _guarded("engine", _check_engine)
    yield _guarded("page reader", _check_reader)
    yield _check_ocr()
    for name, folder in (
        ("cache folder", cache_folder),
        ("state folder", state_folder),
        ("runtime folder", runtime_folder),
    ):
        yield _guarded(name, lambda name=name, folder=folder: _check_folder(name, folder()))
    yield _check_folder("tables", out)
    yield _check_prefect()


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """A check that can't be made is a finding, not the end of the report."""
    try:
        return check()
    except DocflashError as error:
        return Check(name, "wrong", "unusable", str(error))


def _memory() -> str:
    import psutil

    memory = psutil.virtual_memory()
    return f"{memory.total / _GIB:.1f} GB memory, {memory.available / _GIB:.1f} GB of it free"


def _check_package(package: str) -> Check:
    try:
        return Check(package, "ok", importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return Check(package, "wrong", "not installed", "run `make setup` in docflash's folder")


def _check_folder(name: str, folder: Path) -> Check:
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not os.access(existing, os.W_OK | os.X_OK):
        return Check(name, "wrong", f"{folder} can't be written", "change its permissions")
    free = shutil.disk_usage(existing).free
    found = f"{folder} ({free / _GIB:.1f} GB free)"
    if free < _LOW_DISK_BYTES:
        return Check(name, "note", found, "free some disk space: a run may fill it")
    return Check(name, "ok", found)


def _check_model() -> Check:
    """The embedded model is installed; whether it has been converted is told, too."""
    from pipeline.engine.loading.embedded import device_dtype, find_gguf

    weights = find_gguf()
    return Check("embedded model", "ok", f"{weights.name}, used as {device_dtype()}")


def _check_blas() -> Check:
    from pipeline.engine.machine.blas import blas_status

    found = blas_status()
    if "slow" in found:
        return Check("matrix products", "note", found, "run `make setup` in docflash's folder")
    return Check("matrix products", "ok", found)


def _check_engine() -> Check:
    """The engine's socket has a usable path, and who answers on it is this user's engine."""
    from pipeline.engine.serving.endpoint import socket_path
    from pipeline.engine.serving.launch import engine_status

    status = engine_status()
    if status is None:
        return Check("engine", "ok", f"not running; its socket will be {socket_path()}")
    found = f"{status.state}, pid {status.pid}, model {status.model}, socket {socket_path()}"
    return Check("engine", "ok", found)


def _check_ocr() -> Check:
    from pipeline.ocr import INSTALL, ocr_version

    found = ocr_version()
    if not found:
        return Check("scans", "note", "pages that are pictures are not read", f"install {INSTALL}")
    return Check("scans", "ok", f"read by {found}")


def _check_reader() -> Check:
    """Tries out what the process that parses documents could do if one took it over."""
    from pipeline.confine import find_gaps

    gaps = find_gaps()
    if gaps:
        remedy = "this kernel lacks what locks it in; take documents from people you trust"
        return Check("page reader", "note", "not locked in fully: " + "; ".join(gaps), remedy)
    return Check("page reader", "ok", "locked in: no network, no writing, no processes")


def _check_prefect() -> Check:
    """Prefect's settings as a run would have them; Prefect itself is slow to import."""
    from flows.prefect_env import is_loopback

    home = os.environ.get("PREFECT_HOME", "")
    url = os.environ.get("PREFECT_API_URL", "")
    if url and not is_loopback(url):
        remedy = "unset PREFECT_API_URL, or set DOCFLASH_ALLOW_REMOTE_PREFECT=1"
        return Check("prefect server", "wrong", f"{url} is not on this machine", remedy)
    if url:
        return Check("prefect server", "ok", f"yours: {url}")
    where = f"PREFECT_HOME={home}" if home else str(state_folder() / "prefect")
    return Check("prefect server", "ok", f"one of each run's own, telemetry off, files in {where}")
