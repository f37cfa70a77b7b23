"""The command line as a user has it: real processes, folders of one test, a tiny model.

One Prefect server and one engine serve all the tests (each takes seconds to start); libraries and
documents are each test's own.
"""

import json
import os
import pty
import re
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 240.0
POLL_S = 0.02
OLD_S = 1_700_000_000
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
DOCFLASH = "import sys; from flows.cli import main; sys.argv[0] = 'docflash'; main()"

QUICK = """
title = "Is it signed?"
instructions = "Answer from the document above."
form = "free"

[fields.signed]
type = "boolean"
required = true
"""

LONG = """
title = "Much to write"
instructions = "Copy the document above."
form = "free"

[fields.first]
type = "list"
required = true
max_items = 50

[fields.first.items]
type = "string"
max_chars = 200

[limits]
max_tokens = 900
"""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed with `--json`: one value and nothing else."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """What it printed with `--json` if it failed."""
        found: dict[str, Any] = self.json["error"]
        assert found["exit_code"] == self.code
        return found


@dataclass(frozen=True, slots=True)
class Home:
    """A user's folders and environment.

    Attributes:
        folder: All of them are in here.
        model: A tiny model, whose answers to questions for fields are always valid.
        environment: For the user's commands.
    """

    folder: Path
    model: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def documents(self) -> Path:
        return self.folder / "documents"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def prompts(self) -> Path:
        return self.folder / "prompts"

    def write(self, **texts: str) -> None:
        """Writes text documents by their names without the suffix, as changed long ago."""
        for name, text in texts.items():
            path = self.documents / f"{name}.txt"
            path.write_text(text, encoding="utf-8")
            os.utime(path, (OLD_S, OLD_S))

    def write_task(self, name: str, text: str = QUICK) -> None:
        """Writes a task of the user's own."""
        self.prompts.mkdir(exist_ok=True)
        (self.prompts / f"{name}.toml").write_text(text, encoding="utf-8")

    def with_environment(self, **values: str) -> "Home":
        return replace(self, environment=self.environment | values)

    def docflash(self, *arguments: str | Path, before: str = "", stdin: str = "") -> Done:
        """Runs a command to its end.

        Args:
            arguments: Of `docflash`.
            before: Python that its process runs first: something that happens to it just then.
            stdin: Its standard input.
        """
        done = subprocess.run(
            [sys.executable, "-c", f"{before}\n{DOCFLASH}", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            input=stdin.encode(),
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def on_a_terminal(self, width: int, *arguments: str) -> list[str]:
        """The lines that a command prints on a terminal of a width, without its colours."""
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (50, width))
        command = [sys.executable, "-c", DOCFLASH, *arguments]
        environment = self.environment | {"TERM": "xterm"}
        for name in ("COLUMNS", "LINES"):  # where they are set the terminal itself is not asked
            environment.pop(name, None)
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            written = b""
            # Linux tells of the other end's closing by an error.
            with suppress(OSError):
                while part := os.read(ours, 65536):
                    written += part
        os.close(ours)
        assert process.returncode == 0, written
        return [_COLOUR.sub("", line) for line in written.decode().splitlines()]

    def run(self, *arguments: str | Path, before: str = "") -> Done:
        """`docflash run` over the documents with the tiny model, as JSON."""
        return self.docflash(*self._run(arguments), before=before)

    @contextmanager
    def running(self, *arguments: str | Path) -> Generator["subprocess.Popen[bytes]"]:
        """`docflash run` as it goes on; in no case does it survive the block."""
        process = subprocess.Popen(
            [sys.executable, "-c", DOCFLASH, *map(str, self._run(arguments))],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """What `docflash sql` gives."""
        done = self.docflash("sql", sql, "--json", "--out", self.out)
        assert done.code == 0, done.out
        found: list[dict[str, Any]] = done.json
        return found

    def failures(self) -> dict[str, str]:
        """The published failures: the kind by the file's name."""
        rows = self.rows("SELECT parse_filename(path) AS name, kind FROM failures")
        return {row["name"]: row["kind"] for row in rows}

    def health(self) -> dict[str, Any] | None:
        """What the engine says of itself; None if there is none."""
        return self.ask_engine("GET", "/health")

    def ask_engine(self, method: str, path: str, **body: object) -> dict[str, Any] | None:
        """What the engine answers; None if there is none."""
        address = Path(self.environment["DOCFLASH_RUNTIME"]) / "engine.sock"
        with socket.socket(socket.AF_UNIX) as line, closing(HTTPConnection("engine")) as http:
            line.settimeout(30)
            try:
                line.connect(str(address))
                http.sock = line
                http.request(method, path, json.dumps(body))
                found: dict[str, Any] = json.loads(http.getresponse().read())
            except (OSError, HTTPException):
                return None
        return found

    def answered(self) -> int:
        """How many requests the engine has answered in its life."""
        health = self.health()
        return 0 if health is None else int(health["stats"]["finished"])

    def wait_until_busy(self, process: "subprocess.Popen[bytes]") -> int:
        """The engine's process id, once it has answered some of a run and is at work on more."""
        limit = time.monotonic() + TIMEOUT_S
        before = self.health()
        while time.monotonic() < limit:
            health = self.health()
            before = before or health
            if before and health and _has_answered_and_runs(before, health):
                return int(health["pid"])
            assert process.poll() is None, process.communicate()
            time.sleep(POLL_S)
        raise AssertionError("the run never asked anything")

    def _run(self, arguments: Sequence[str | Path]) -> list[str | Path]:
        options = ["--out", self.out, "--model", self.model, "--json"]
        return ["run", self.documents, *options, *arguments]


def _has_answered_and_runs(before: dict[str, Any], now: dict[str, Any]) -> bool:
    start = before["stats"]["finished"] if before["pid"] == now["pid"] else 0
    return bool(now["stats"]["running"] and now["stats"]["finished"] > start)


_SERVER = """
import json, os, sys
from flows.prefect_env import prepare_prefect
from flows.api_server import start_server
assert prepare_prefect()
server = start_server()
server.wait_ready()
names = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME")
print(json.dumps({name: os.environ[name] for name in names}), flush=True)
sys.stdin.read()
server.stop()
"""


@contextmanager
def serve_prefect(environment: dict[str, str]) -> Generator[dict[str, str]]:
    """A Prefect server as a run has one, and the settings that lead others to it."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        settings: dict[str, str] = json.loads(process.stdout.readline())
        yield settings
        process.communicate()
    assert process.returncode == 0


def bare_environment(folder: Path) -> dict[str, str]:
    """An environment in which all of docflash's folders are in one, and Prefect has none yet."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "DOCFLASH_"))
    }
    for name in ("OUT", "STATE", "RUNTIME", "CACHE"):
        environment[f"DOCFLASH_{name}"] = str(folder / name.lower())
    return environment | {"PYTHONPATH": str(ROOT), "TERM": "dumb"}


def end_engine(home: Home) -> None:
    """Ends the engine of a home."""
    health = home.health()
    if health is not None:
        engine = psutil.Process(int(health["pid"]))
        engine.kill()
        psutil.wait_procs([engine], timeout=60)
