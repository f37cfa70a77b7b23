"""The process that parses documents is locked in: tried out by a parser that was taken over."""

import json
import os
import platform
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pipeline import confine, seccomp
from tests.home import ROOT

linux = pytest.mark.skipif(sys.platform != "linux", reason="of Linux")

# A reader's whole life, but for its parser, which is an attacker's: each line of ATTACKS is run in
# it, and what came of each is the text of the document.
TAKEN_OVER = """
    import json, os, socket, sys
    from pathlib import Path
    from pipeline import readserver
    from pipeline.contents import Contents, RawPage
    from pipeline.orders import Order

    attacks, private = json.loads(sys.argv[1]), sys.argv[2]
    outcomes = {}

    def attack(data, suffix):
        for name, code in attacks.items():
            try:
                outcomes[name] = repr(eval(code))
            except BaseException as error:
                outcomes[name] = type(error).__name__
        return Contents("text/plain", (RawPage(json.dumps(outcomes), "text"),))

    readserver.read_contents = attack
    file = os.memfd_create("document")
    os.write(file, b"bytes")
    file = os.open(f"/proc/self/fd/{file}", os.O_RDONLY)
    ours, theirs = socket.socketpair()
    other = os.fork()
    if other == 0:
        readserver._live(Order(".txt", 20.0, 1 << 30, 1 << 20), file, theirs.detach())
    theirs.close()
    answer = b""
    while piece := ours.recv(1 << 16):
        answer += piece
    print(os.waitpid(other, 0)[1])
    sys.stdout.write(json.loads(answer.partition(b"\\n")[2])[1][0][1])
"""

ATTACKS = {
    "connect": "socket.create_connection(('127.0.0.1', 9), 1)",
    "unix socket": "socket.socket(socket.AF_UNIX)",
    "socket pair": "socket.socketpair()",
    "datagram": "socket.socket(type=socket.SOCK_DGRAM)",
    "fork": "os.fork()",
    "spawn": "os.posix_spawn('/bin/sh', ['sh', '-c', 'true'], {})",
    "exec": "os.execv('/bin/true', ['true'])",
    "thread": "__import__('threading').Thread(target=print).start()",
    "write": "open(private, 'ab')",
    "write to the temporary folder": "open('/tmp/docflash-attack', 'wb')",
    "truncate": "os.truncate(private, 0)",
    "rename": "os.rename(private, private + '2')",
    "delete": "os.unlink(private)",
    "make a folder": "os.mkdir(private + '-folder')",
    "link": "os.symlink(private, private + '-link')",
    "mode": "os.chmod(private, 0o777)",
    "read": "open(private, 'rb').read()",
    "list": "os.listdir(os.path.dirname(private))",
    "signal": "os.kill(os.getppid(), 0)",
    "stay": "__import__('signal').setitimer(0, 0)",
    "limits": "__import__('resource').setrlimit(1, (1, 1))",
    "pass a file on": "socket.send_fds(socket.socket(fileno=1), [b'x'], [0])",
    "memory file": "os.memfd_create('x')",
}


def _attack(tmp_path: Path) -> tuple[str, dict[str, str]]:
    private = tmp_path / "private.txt"
    private.write_text("a secret")
    code = textwrap.dedent(TAKEN_OVER)
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(ATTACKS), str(private)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert private.read_text() == "a secret"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["private.txt"]
    status, _, outcomes = done.stdout.partition("\n")
    return status, json.loads(outcomes)


@linux
def test_a_parser_that_was_taken_over_can_do_nothing(tmp_path: Path) -> None:
    gaps = confine.find_gaps()
    if gaps:
        pytest.skip(f"this kernel does not let us: {gaps}")
    status, outcomes = _attack(tmp_path)
    assert status == "0"
    assert outcomes.keys() == ATTACKS.keys()
    refused = {"PermissionError", "OSError", "RuntimeError", "itimer_error", "ValueError"}
    assert {name: outcome for name, outcome in outcomes.items() if outcome not in refused} == {}
    assert outcomes["read"] == outcomes["list"] == outcomes["connect"] == "PermissionError"


@linux
def test_what_a_reader_is_denied_is_tried_out() -> None:
    """The probe behind `docflash doctor` finds gaps where nothing is locked."""
    free = subprocess.run(
        [sys.executable, "-c", "from pipeline.confine import *; print(try_to_escape())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    for gap in ("open a connection", "start a process", "write a file", "end a process"):
        assert gap in free.stdout


@linux
def test_where_the_kernel_refuses_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    assert seccomp.filter_system_calls() == "no system call filter for the machine='vax'"


@pytest.mark.parametrize(("place", "arch"), [(0, 0xC000003E), (1, 0xC00000B7)])
def test_the_filter_of_each_machine_ends_all_ways(place: int, arch: int) -> None:
    code = seccomp.build_filter(place, arch)
    steps = [struct.unpack("=HBBI", code[at : at + 8]) for at in range(0, len(code), 8)]
    assert len(steps) < 4096  # BPF_MAXINSNS
    for at, (kind, if_true, if_false, _) in enumerate(steps):
        if kind & 7 == 5:  # a jump stays inside
            assert at + 1 + max(if_true, if_false) < len(steps)
    assert steps[-1][0] == 0x06
    # The calls that make connections, processes and files, by their numbers.
    forbidden = {0: (41, 42, 56, 57, 59, 87, 101, 435), 1: (198, 203, 220, 221, 35, 117, 435)}
    asked = {value for kind, _, _, value in steps if kind == 0x15}
    assert not asked & set(forbidden[place])


def test_the_profile_for_macos_is_whole() -> None:
    profile = confine.seatbelt_profile()
    assert profile.count("(") == profile.count(")")
    for denied in ("network*", "file-write*", "process-exec*", "process-fork"):
        assert f"(deny {denied})" in profile
    assert f'(subpath "{os.path.realpath(sys.prefix)}")' in profile
    # The last rule that fits counts: what Python needs comes after what is denied.
    assert profile.rindex("(allow file-read*") > profile.rindex("(deny file-read*")
