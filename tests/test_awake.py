"""Keeping the machine awake: by what there is, for as long as the run works, and no longer."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flows.awake import keep_awake

OBEYS = """#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""
REFUSES = """#!/bin/sh
echo "Failed to connect to bus" >&2
exit 1
"""
_PARENT = """
import sys
from flows.awake import keep_awake
with keep_awake() as keeper:
    print(keeper, flush=True)
    sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="of systemd")


def _inhibit(folder: Path, text: str) -> str:
    """A PATH on which `systemd-inhibit` is this script."""
    script = folder / "systemd-inhibit"
    script.write_text(text, "utf-8")
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_a_machine_that_can_be_kept_awake_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", _inhibit(tmp_path, OBEYS))
    mine = psutil.Process()
    before = set(mine.children())
    with keep_awake() as keeper:
        assert keeper == "systemd-inhibit"
        (helper,) = set(mine.children()) - before
    assert not helper.is_running()


def test_one_that_can_not_is_not_said_to_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", _inhibit(tmp_path, REFUSES))
    with keep_awake() as keeper:
        assert keeper == ""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with keep_awake() as keeper:
        assert keeper == ""


def test_the_helper_leaves_with_a_killed_run(tmp_path: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", _PARENT],
        env=os.environ | {"PATH": _inhibit(tmp_path, OBEYS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert run.stdout is not None
    assert run.stdout.readline() == b"systemd-inhibit\n"
    helpers = psutil.Process(run.pid).children()
    assert len(helpers) == 1
    run.kill()
    run.communicate()
    assert not psutil.wait_procs(helpers, timeout=60)[1]
