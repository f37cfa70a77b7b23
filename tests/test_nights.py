"""`docflash deploy`: a folder is done by itself, with docflash's own server, worker and schedule.

One deployment serves most tests: its server and its worker take seconds to start.
"""

import json
import os
import shlex
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import psutil
import pytest

from tests.home import POLL_S, TIMEOUT_S, Home, bare_environment

pytestmark = pytest.mark.flow

CANARY = "Zebrafink-4711"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def make_home(shared: Home, folder: Path) -> Home:
    """A home with a lasting server of its own to be, and the shared engine."""
    own = {
        "DOCFLASH_RUNTIME": shared.environment["DOCFLASH_RUNTIME"],
        "DOCFLASH_PREFECT_PORT": str(free_port()),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / ".config"),
    }
    home = Home(folder, shared.model, bare_environment(folder) | own)
    home.write_task("quick")
    home.documents.mkdir()
    return home


def options(home: Home) -> tuple[str | Path, ...]:
    return ("--prompts", home.prompts, "--task", "quick", "--model", home.model, "--json")


@pytest.fixture(scope="module")
def deployed(
    shared_home: Home, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Home, Any]]:
    """A folder that is done every hour, the first time a moment from now."""
    home = make_home(shared_home, tmp_path_factory.mktemp("nights"))
    home.write(a=f"The secret word is {CANARY}.", empty="")
    try:
        done = home.docflash("deploy", home.documents, "--every", "60", *options(home))
        assert done.code == 0, done.out + done.err
        yield home, done.json
    finally:
        assert home.docflash("service", "stop").code == 0


def wait_for_rows(home: Home) -> list[dict[str, Any]]:
    limit = time.monotonic() + TIMEOUT_S
    while not (home.out / "latest").exists():
        assert time.monotonic() < limit, home.docflash("nights", "--json").out
        time.sleep(POLL_S * 10)
    return home.rows("FROM quick")


def wait_for_end(home: Home) -> Any:
    """The nights, once no run is at work."""
    limit = time.monotonic() + TIMEOUT_S
    while True:
        found = home.docflash("nights", "--json").json
        if found["last"] and all(
            run["state"] not in {"Running", "Pending"} for run in found["last"]
        ):
            return found
        assert time.monotonic() < limit, found
        time.sleep(1)


def test_it_begins_by_itself_and_does_its_work(deployed: tuple[Home, Any]) -> None:
    home, told = deployed
    assert (told["name"], told["is_new"]) == ("process-folder/documents", True)
    assert (told["server"]["was"], told["worker"]["was"]) == ("started", "started")
    rows = wait_for_rows(home)
    assert [row["path"] for row in rows] == [str(home.documents / "a.txt")]
    assert home.failures() == {"empty.txt": "empty"}

    found = wait_for_end(home)
    assert [one["schedule"] for one in found["deployments"]] == ["every 60 min"]
    (run,) = found["last"]
    assert (run["state"], run["deployment"]) == ("Completed", told["name"])
    assert ", 2 files, 1 answers, 0 failed" in run["message"]
    assert len(found["next"]) >= 2
    assert found["published_runs"][0]["state"] == "done"
    _check_deployment(home, told)
    shown = home.docflash("nights")
    assert (shown.code, "every 60 min" in shown.out) == (0, True)


def _check_deployment(home: Home, told: dict[str, Any]) -> None:
    """What the deployment is in Prefect, whose pages make a form of the schema."""
    found, pool = _deployment(home, told)
    assert found["global_concurrency_limit"]["limit"] == 1
    assert found["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert (found["tags"], found["enforce_parameter_schema"]) == (["docflash"], True)
    assert "docflash deploy" in found["description"]
    schema = found["parameter_openapi_schema"]
    assert (schema["required"], schema["properties"]["until"]["default"]) == (["folder"], None)
    assert "Stop at this time of day" in schema["properties"]["until"]["description"]
    assert (pool["type"], pool["concurrency_limit"]) == ("process", 1)


def _deployment(home: Home, told: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A deployment that was told of, and its work pool, as Prefect has them."""
    place = Path(home.environment["DOCFLASH_STATE"]) / "prefect" / "docflash-server.json"
    user, _, password = json.loads(place.read_text("utf-8"))["password"].partition(":")
    api = f"{told['server']['address']}/api"
    one = httpx.get(f"{api}/deployments/{told['id']}", auth=(user, password)).json()
    return one, httpx.get(f"{api}/work_pools/docflash", auth=(user, password)).json()


def test_prefect_is_private_and_hears_of_no_text(deployed: tuple[Home, Any]) -> None:
    home, told = deployed
    wait_for_rows(home)
    api = f"{told['server']['address']}/api"
    assert httpx.post(f"{api}/flows/count", json={}).status_code == 401
    for headers in ({"Host": "rebound.example"}, {"Origin": "https://example.com"}):
        assert httpx.get(f"{api}/health", headers=headers).status_code == 403
    processes = home.docflash("service", "status", "--json").json["processes"]
    server = psutil.Process(next(one["pid"] for one in processes if one["role"] == "server"))
    listening = [c.laddr.ip for c in server.net_connections() if c.status == "LISTEN"]
    assert listening == ["127.0.0.1"]

    state = Path(home.environment["DOCFLASH_STATE"])
    files = [path for path in state.rglob("*") if path.is_file()]
    assert any(path.name == "prefect.db" for path in files)
    assert not [path for path in files if path.stat().st_mode & 0o077]
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]
    password = (state / "prefect" / "docflash-server.json").read_text("utf-8")
    with closing(sqlite3.connect(state / "prefect" / "prefect.db")) as database:
        text = "\n".join(database.iterdump())
    assert password.split('"')[-2] not in text


def test_the_same_command_with_other_hours_changes_it(deployed: tuple[Home, Any]) -> None:
    home, _ = deployed
    wait_for_rows(home)
    hours = ("--at", "02:30", "--timezone", "Europe/Berlin", "--until", "07:00")
    changed = home.docflash("deploy", home.documents, *hours, *options(home)).json
    assert (changed["is_new"], changed["schedule"]) == (False, "02:30 Europe/Berlin")
    assert (changed["server"]["was"], changed["worker"]["was"]) == ("running", "running")
    parameters = _deployment(home, changed)[0]["parameters"]
    assert (parameters["until"], parameters["timezone"]) == ("07:00", "Europe/Berlin")
    assert any("the clock skips it" in note for note in changed["notes"])

    inner = home.documents / "inner"
    inner.mkdir()
    (inner / "b.txt").write_text("A letter.", "utf-8")
    hours = ("--at", "03:00", "--timezone", "UTC")
    other = home.docflash("deploy", inner, *hours, *options(home)).json
    assert (other["name"], other["is_new"]) == ("process-folder/inner", True)
    assert any("overlap" in note and "process-folder/documents" in note for note in other["notes"])

    limit = time.monotonic() + TIMEOUT_S
    while True:  # Prefect's scheduler looks every five seconds
        found = home.docflash("nights", "--json").json
        due = [run["at"] for run in found["next"] if run["deployment"] == changed["name"]]
        if len(due) == 3:
            break
        assert time.monotonic() < limit, found
    assert all(at[11:16] in {"00:30", "01:30"} for at in due)  # in UTC
    removed = home.docflash("deploy", inner, "--remove", "--json").json
    assert removed == {"removed": [other["name"]], "ended_server_and_worker": False}


def test_a_run_by_hand_is_among_the_nights(deployed: tuple[Home, Any]) -> None:
    home, _ = deployed
    wait_for_rows(home)
    before = wait_for_end(home)["last"]
    done = home.run("--prompts", home.prompts, "--task", "quick")
    assert done.code == 1, done.out + done.err  # the empty file
    after = wait_for_end(home)["last"]
    assert len(after) == len(before) + 1
    assert (after[0]["deployment"], after[0]["state"]) == ("", "Completed")


def test_old_nights_leave_prefects_history(deployed: tuple[Home, Any]) -> None:
    home, _ = deployed
    wait_for_rows(home)
    wait_for_end(home)
    path = Path(home.environment["DOCFLASH_STATE"]) / "prefect" / "prefect.db"
    with closing(sqlite3.connect(path, timeout=60)) as database:
        columns = database.execute("PRAGMA table_info(flow_run)").fetchall()
        names = [name for _, name, *_ in columns]
        new = {"id": "printf('%032x', number)", "idempotency_key": "NULL"}
        values = ", ".join(new.get(name, f"r.{name}") for name in names)
        database.execute(
            f"INSERT INTO flow_run ({', '.join(names)}) "  # noqa: S608
            "WITH RECURSIVE numbers(number) AS "
            "(SELECT 1 UNION ALL SELECT number + 1 FROM numbers LIMIT 300) "
            f"SELECT {values} FROM numbers, "
            "(SELECT * FROM flow_run WHERE state_type = 'COMPLETED' LIMIT 1) r"
        )
        database.commit()
    done = home.run("--prompts", home.prompts, "--task", "quick")
    assert done.code == 1, done.out + done.err  # the empty file
    with closing(sqlite3.connect(path, timeout=60)) as database:
        ended = "SELECT count(*) FROM flow_run WHERE state_type = 'COMPLETED'"
        assert database.execute(ended).fetchone() == (201,)  # and the one that tidied up
        assert database.execute("SELECT count(*) FROM task_run").fetchone()[0] > 0
        # Events would be most of the file, and nobody reads them.
        assert database.execute("SELECT count(*) FROM events").fetchone() == (0,)


def test_a_killed_run_is_cleared_up_and_gone_on_with(shared_home: Home, tmp_path: Path) -> None:
    """The machine stops at night: server, worker and run are gone at once, and start again."""
    from tests.home import LONG

    home = make_home(shared_home, tmp_path)
    home.write_task("long", LONG)
    home.write(**{f"d{number}": f"Letter number {number}." for number in range(24)})
    asked = ("--prompts", home.prompts, "--task", "long", "--model", home.model, "--json")
    answered = home.answered()
    try:
        done = home.docflash("deploy", home.documents, "--every", "60", *asked)
        assert done.code == 0, done.out + done.err
        _wait_for_answers(home, answered + 2)
        _kill_all(home)
        assert home.docflash("service", "start", "--json").json == {
            "server": "started",
            "worker": "started",
        }
        # The next one is ended gently, as by a shutdown, and gone on with as well.
        _wait_for_answers(home, home.answered() + 2)
        stopped = home.docflash("service", "stop", "--json")
        assert stopped.json == {"stopped": ["server", "worker"]}, stopped.out
        published = len(home.rows("SELECT path FROM long"))
        assert 0 < published < 24
        assert home.docflash("service", "start", "--json").code == 0
        limit = time.monotonic() + TIMEOUT_S
        rows: list[Any] = []
        while len(rows) < 24:
            assert time.monotonic() < limit, home.docflash("nights", "--json").out
            time.sleep(1)
            if (home.out / "latest").exists():
                rows = home.rows("SELECT path FROM long")
        states = [run["state"] for run in wait_for_end(home)["last"]]
        assert states == ["Completed", "Cancelled", "Crashed"]
        runs = home.rows("SELECT state, jobs_done FROM runs ORDER BY started_at")
        assert [run["state"] for run in runs] == ["stopped", "stopped", "done"]
        assert runs[-1]["jobs_done"] == 24 - published
    finally:
        removed = home.docflash("deploy", home.documents, "--remove", "--json")
    assert removed.json["ended_server_and_worker"] is True, removed.out
    assert not _processes(home)


def _wait_for_answers(home: Home, answers: int) -> None:
    limit = time.monotonic() + TIMEOUT_S
    while home.answered() < answers:
        assert time.monotonic() < limit, home.docflash("nights", "--json").out
        time.sleep(POLL_S)


def _processes(home: Home) -> list[psutil.Process]:
    """The server, the worker and the runs of a home; not the engine, which others share."""
    state = home.environment["DOCFLASH_STATE"]
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            is_ours = process.environ().get("DOCFLASH_STATE") == state
            if is_ours and "pipeline.engine.serving.host" not in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def _kill_all(home: Home) -> None:
    processes = _processes(home)
    assert len(processes) >= 3
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=60)


class _OtherPrefect(BaseHTTPRequestHandler):
    """What a Prefect server of another version answers, as far as it is asked."""

    def do_GET(self) -> None:
        answers = {"/api/health": b"true", "/api/admin/version": b'"2.20.1"'}
        body = answers.get(self.path, b"")
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class _NoPrefect(_OtherPrefect):
    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()


class _OlderDocflash(_OtherPrefect):
    """A server of docflash's own, of an older Prefect: it takes the password, and asks for it."""

    def do_GET(self) -> None:
        if self.path == "/api/admin/version" and "Authorization" not in self.headers:
            self.send_response(401)
            self.end_headers()
            return
        super().do_GET()


@pytest.fixture
def alone(shared_home: Home, tmp_path: Path) -> Home:
    home = make_home(shared_home, tmp_path)
    home.write(a="A letter.")
    return home


@pytest.mark.parametrize(
    ("who", "message", "what_to_do"),
    [
        (
            _OtherPrefect,
            "a Prefect server of version='2.20.1' that is not docflash's is on port=",
            "choose another port with `--port`",
        ),
        (
            _OlderDocflash,
            "runs Prefect version='2.20.1', and this docflash has ",
            "end it with `docflash service stop`",
        ),
        (
            _NoPrefect,
            "another program listens on port=",
            "choose another port with `--port`",
        ),
    ],
)
def test_what_is_on_the_port_already_is_told(
    alone: Home, who: type[BaseHTTPRequestHandler], message: str, what_to_do: str
) -> None:
    port = int(alone.environment["DOCFLASH_PREFECT_PORT"])
    with ThreadingHTTPServer(("127.0.0.1", port), who) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        done = alone.docflash("deploy", alone.documents, *options(alone))
        other.shutdown()
    assert (done.code, done.error["kind"]) == (2, "InputError")
    assert message in done.error["message"]
    assert what_to_do in done.error["message"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--at", "26:00"), "at='26:00' is not a time of day"),
        (("--timezone", "Europe/Berln"), "did you mean Europe/Berlin"),
        (("--until", "later"), "until='later' is not a time of day"),
        (("--every", "5", "--at", "02:00"), "every=5.0 has no use for --at"),
        (("--every", "5", "--timezone", "UTC"), "no use for --timezone but with --until"),
        (("--task", "quik"), "quik"),
        (("--name", "a/b"), "which Prefect does not take"),
    ],
)
def test_mistakes_are_told_before_anything_is_started(
    alone: Home, arguments: tuple[str, ...], message: str
) -> None:
    done = alone.docflash("deploy", alone.documents, *options(alone), *arguments)
    assert done.code == 2
    assert message in done.error["message"]
    assert not _processes(alone)


def test_a_missing_folder_and_a_server_elsewhere_are_refused(alone: Home) -> None:
    done = alone.docflash("deploy", alone.folder / "nowhere", "--json")
    assert (done.code, "does not exist" in done.error["message"]) == (2, True)
    away = alone.with_environment(PREFECT_API_URL="http://prefect.example:4200/api")
    for arguments in (("deploy", away.documents), ("nights",)):
        done = away.docflash(*arguments, "--json")
        assert (done.code, done.error["kind"]) == (2, "InputError")
        assert "is not on this machine" in done.error["message"]


def test_nights_without_any(alone: Home) -> None:
    found = alone.docflash("nights", "--json")
    assert (found.code, found.json["server"], found.json["last"]) == (0, None, [])
    assert "nothing begins by itself" in alone.docflash("nights").err
    removed = alone.docflash("deploy", alone.documents, "--remove", "--json").json
    assert removed == {"removed": [], "ended_server_and_worker": False}
    status = alone.docflash("service", "status", "--json").json
    assert [one["pid"] for one in status["processes"]] == [None, None]


@pytest.mark.skipif(sys.platform != "linux", reason="of systemd")
def test_services_are_written_and_removed(alone: Home) -> None:
    calls = alone.folder / "calls"
    script = alone.folder / "bin" / "systemctl"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(calls))}\n', "utf-8")
    script.chmod(0o755)
    path = f"{script.parent}{os.pathsep}{alone.environment['PATH']}"
    alone = alone.with_environment(PATH=path)
    written = alone.docflash("service", "install", "--json")
    assert (written.code, written.json["started"]) == (0, True), written.out
    paths = [Path(path) for path in written.json["files"]]
    assert [path.name for path in paths] == ["docflash-server.service", "docflash-worker.service"]
    assert all(path.is_relative_to(alone.folder) and path.is_file() for path in paths)
    assert alone.docflash("service", "status", "--json").json["processes"][0]["file"]
    removed = alone.docflash("service", "remove", "--json").json["removed"]
    assert removed == [str(path) for path in paths]
    assert not any(path.exists() for path in paths)
    names = "docflash-server.service docflash-worker.service"
    told = calls.read_text("utf-8").splitlines()
    assert f"--user enable {names}" in told
    assert told[-1] == f"--user disable --now {names}"
