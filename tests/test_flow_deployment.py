"""The plain Prefect way: a server, a pool, a deployment, a worker; no text of a document in it."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.home import ROOT, TIMEOUT_S, Home

pytestmark = pytest.mark.flow

CANARY = "Zebrafink-4711"
PREFECT = Path(sys.executable).with_name("prefect")
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    # Or a test at two in the morning would find a second run.
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
}


@pytest.fixture
def deployed(home: Home) -> Home:
    """A home with a Prefect of its own, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        name: value for name, value in home.environment.items() if not name.startswith("PREFECT_")
    }
    own = {
        "PREFECT_HOME": str(home.folder / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    return Home(home.folder, home.model, environment | QUIET | own)


@contextmanager
def _background(home: Home, log: Path, *arguments: str) -> Generator[psutil.Process]:
    """A `prefect` command that goes on, and all that it starts; both end with the block."""
    with log.open("wb") as output:
        process = psutil.Popen(
            [str(PREFECT), *arguments], cwd=ROOT, env=home.environment, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        family = [*process.children(recursive=True), process]
        process.send_signal(signal.SIGINT)
        _, alive = psutil.wait_procs(family, timeout=60)
        for left in alive:
            left.kill()
        psutil.wait_procs(alive, timeout=60)


def _prefect(home: Home, *arguments: str) -> str:
    done = subprocess.run(
        [PREFECT, *arguments],
        cwd=ROOT,
        env=home.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _wait_ready(home: Home, server: psutil.Process) -> None:
    limit = time.monotonic() + TIMEOUT_S
    while time.monotonic() < limit:
        assert server.is_running()
        try:
            url = f"{home.environment['PREFECT_API_URL']}/health"
            with urllib.request.urlopen(url, timeout=60):  # noqa: S310
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


def test_a_deployment_runs_by_a_worker_and_prefect_learns_no_text(deployed: Home) -> None:
    home = deployed
    home.write(a=f"The secret word is {CANARY}.", empty="")
    port = home.environment["PREFECT_API_URL"].split(":")[2].split("/")[0]
    parameters = {
        "folder": str(home.documents),
        "out": str(home.out),
        "model": str(home.model),
        "prompts": str(home.prompts),
        "tasks": '["quick"]',
        "until": "null",
    }
    options = [f"--param={name}={value}" for name, value in parameters.items()]
    logs = home.folder / "logs"
    logs.mkdir()
    start = ("server", "start", "--port", port)
    with _background(home, logs / "server", *start) as server:
        _wait_ready(home, server)
        _prefect(home, "--no-prompt", "work-pool", "create", "docflash", "--type", "process")
        assert "nightly" in _prefect(home, "--no-prompt", "deploy", "--all")
        with _background(home, logs / "worker", "worker", "start", "--pool", "docflash"):
            name = "process-folder/nightly"
            told = _prefect(home, "deployment", "run", name, *options, "--watch")
        shown = _prefect(home, "artifact", "inspect", "docflash-run")
    assert "Completed" in told
    assert "files found" in shown
    assert [row["path"] for row in home.rows("FROM quick")] == [str(home.documents / "a.txt")]
    assert home.failures() == {"empty.txt": "empty"}

    (logs / "told").write_text(told + shown, encoding="utf-8")
    files = [
        Path(folder) / name
        for place in (logs, home.folder / "prefect")
        for folder, _, names in os.walk(place)
        for name in names
    ]
    assert any(b"empty.txt" in file.read_bytes() for file in files)
    assert not [file for file in files if CANARY.encode() in file.read_bytes()]
