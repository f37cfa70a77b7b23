"""A whole run, watched: what it connects to, what it writes where, and who may read that.

The run has everything of its own, a Prefect server and an engine included, and an umask that hides
nothing. Its processes report each connection (by Python's audit hooks, and by strace where there is
one), and where the kernel lets us, they are in a network of their own that leads nowhere.
"""

import json
import os
import re
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.home import DOCFLASH, QUICK, TIMEOUT_S, Home, bare_environment
from tests.pdfs import make_pdf

pytestmark = pytest.mark.flow

NAME = f"letter-{secrets.token_hex(8)}"
CANARY = f"Zebrafink-{secrets.token_hex(12)}"

# Python reads this at its start, wherever it is found: each process of the run writes what it
# connects to, and whose names it asks for.
WATCH = """
    import os, sys

    def watch(event, arguments):
        if event in ("socket.connect", "socket.sendto", "socket.bind"):
            note(event, repr(arguments[1]))
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            note(event, repr(arguments[0]))

    def note(event, what):
        line = f"{event} {what}\\n".encode()
        file = os.open(os.environ["WATCHED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, line)
        os.close(file)

    sys.addaudithook(watch)
"""

# With a loopback interface that is up, in a network namespace that has nothing else.
LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
with socket.socket() as line:
    fcntl.ioctl(line, 0x8914, struct.pack("16sh", b"lo", 1 | 64))  # SIOCSIFFLAGS: UP, RUNNING
os.execvp(sys.argv[1], sys.argv[1:])
"""

STARTED = """
import os
os.umask(0)
"""


@dataclass(frozen=True, slots=True)
class Watched:
    """A run that has ended, and what was seen."""

    home: Home
    output: str
    heard: list[str]
    traced: str
    alone: bool

    @property
    def places(self) -> list[Path]:
        """All that docflash may write to, and all that other programs like to write to."""
        return [self.home.folder / name for name in ("out", "state", "runtime", "cache", "user")]

    @property
    def files(self) -> list[Path]:
        return [path for place in self.places for path in [place, *place.rglob("*")]]


@pytest.fixture(scope="module")
def watched(shared_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    user = folder / "user"
    for place in ("hook", "documents", "user/tmp"):
        (folder / place).mkdir(parents=True, mode=0o700)
    user.chmod(0o700)
    (folder / "hook" / "sitecustomize.py").write_text(textwrap.dedent(WATCH))
    environment = bare_environment(folder)
    own = {
        "PYTHONPATH": f"{folder / 'hook'}:{environment['PYTHONPATH']}",
        "WATCHED": str(folder / "heard"),
        "HOME": str(user),
        "TMPDIR": str(user / "tmp"),
        "DOCFLASH_ENGINE_IDLE_S": "5",
    }
    environment = {k: v for k, v in environment.items() if not k.startswith("XDG_")} | own
    home = Home(folder, shared_home.model, environment)
    home.write_task("quick", QUICK)
    write_documents(home)
    command, alone = in_isolation(folder)
    options = ["--out", home.out, "--model", home.model, "--prompts", home.prompts]
    words = ["run", home.documents, *options, "--task", "quick", "--task", "summary", "--json"]
    done = subprocess.run(
        [*command, sys.executable, "-c", f"{STARTED}\n{DOCFLASH}", *map(str, words)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    output = (done.stdout + done.stderr).decode()
    assert done.returncode in {0, 1}, output
    trace = folder / "trace"
    yield Watched(
        home,
        output,
        (folder / "heard").read_text().splitlines(),
        trace.read_text(errors="replace") if trace.exists() else "",
        alone,
    )
    end_left(folder)


def write_documents(home: Home) -> None:
    """Documents of each kind with the secret in them, whole and broken."""
    text = f"A letter. The word is {CANARY}."
    home.write(**{NAME: text})
    for name, data in {
        "page.pdf": make_pdf(text),
        "page.html": f"<title>{CANARY}</title><p>{text}".encode(),
        "mail.eml": f"Subject: {CANARY}\nX-Odd: =?x?{CANARY}\n\n{text}".encode(),
        "broken.pdf": f"%PDF-1.7\n{CANARY} 1 0 obj << {CANARY} endobj".encode(),
        "binary.txt": CANARY.encode() + bytes(range(32)) * 200,
        "empty.txt": b"",
    }.items():
        (home.documents / name).write_bytes(data)


def in_isolation(folder: Path) -> tuple[list[str], bool]:
    """What to put before a command, and whether it then has no way out."""
    command: list[str] = []
    own_network = ["unshare", "--net", *(["--map-root-user"] if os.geteuid() else [])]
    alone = works([*own_network, sys.executable, "-c", LOOPBACK_UP, "true"])
    if alone:
        command += [*own_network, sys.executable, "-c", LOOPBACK_UP]
    trace = ["strace", "--follow-forks", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,bind"]
    if works([*trace, "-o", os.devnull, "true"]):
        command += [*trace, "-o", str(folder / "trace")]
    return command, alone


def works(command: list[str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return not subprocess.run(command, capture_output=True, check=False, timeout=60).returncode


def end_left(folder: Path) -> None:
    """The engine, if its idle time is not over yet."""
    for process in psutil.process_iter(["environ"]):
        runtime = (process.info["environ"] or {}).get("DOCFLASH_RUNTIME", "")
        if runtime == str(folder / "runtime"):
            process.send_signal(signal.SIGKILL)


def test_all_was_done(watched: Watched) -> None:
    told, _ = json.JSONDecoder().raw_decode(watched.output)
    assert told["run"]["jobs_done"] >= 3, watched.output
    assert watched.home.rows("SELECT kind FROM failures ORDER BY kind")


def test_nothing_is_connected_to_but_this_machine(watched: Watched) -> None:
    addresses = [
        line.split(" ", 1)[1] for line in watched.heard if not line.startswith("socket.get")
    ]
    assert any("engine.sock" in address for address in addresses)
    assert any("127.0.0.1" in address for address in addresses)
    strange = [
        address
        for address in addresses
        if not address.startswith(("('127.0.0.1',", "('::1',", "'/", "b'/", "''", "b''"))
    ]
    assert strange == []
    names = {line.split(" ", 1)[1] for line in watched.heard if line.startswith("socket.get")}
    assert names <= {"'127.0.0.1'", "'localhost'", "b'127.0.0.1'", "b'localhost'", "'::1'", "None"}


def test_the_kernel_saw_no_other_connection(watched: Watched) -> None:
    if not watched.traced:
        pytest.skip("there is no strace here; the processes were watched from inside")
    calls = [line for line in watched.traced.splitlines() if "sa_family=" in line]
    assert any("AF_UNIX" in call for call in calls)
    local = re.compile(r"AF_UNIX|AF_NETLINK|inet_addr\(\"127\.0\.0\.1\"\)|\"::1\"|AF_UNSPEC")
    assert [call for call in calls if not local.search(call)] == []


def test_no_text_is_anywhere_but_in_the_tables(watched: Watched) -> None:
    assert CANARY not in watched.output
    tables = {watched.home.out / "store.duckdb", *(watched.home.out / "snapshots").rglob("*")}
    files = [path for path in watched.files if path.is_file() and not path.is_symlink()]
    assert len(files) > 10
    assert any(path.name.endswith((".db", ".sqlite")) for path in files)
    found = [path for path in files if CANARY.encode() in path.read_bytes()]
    assert [path for path in found if path not in tables] == []
    [row] = watched.home.rows("SELECT count(*) AS n FROM pages WHERE contains(text, 'Zebrafink-')")
    assert row["n"] >= 4


def test_all_is_private_whatever_the_umask(watched: Watched) -> None:
    open_to_others = [
        f"{stat.filemode(mode)} {path}"
        for path in watched.files
        if not path.is_symlink() and (mode := path.lstat().st_mode) & 0o077
    ]
    assert open_to_others == []


def test_a_purge_leaves_no_trace_in_any_file(watched: Watched) -> None:
    """Last, since it takes away what the others look at."""
    wanted = [NAME.encode(), CANARY.encode()]

    def found() -> list[Path]:
        files = [path for path in watched.files if path.is_file() and not path.is_symlink()]
        return [path for path in files if any(word in path.read_bytes() for word in wanted)]

    assert {"store.duckdb", "prefect.db"} <= {path.name for path in found()}
    home = watched.home
    done = home.docflash("purge", home.documents, "--yes", "--json", "--out", home.out)
    assert done.code == 0, done.out
    assert str(home.documents / f"{NAME}.txt") in done.json["paths"]
    assert found() == []
    assert home.rows("SELECT path FROM files") == home.rows("SELECT path FROM failures") == []
