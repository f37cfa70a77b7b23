"""The files that keep server and worker alive are those that systemd and launchd take."""

import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.nights.service_files import ServiceFile, service_files

ODD = 'a "odd" name, 100 % $HOME \\ it\'s'


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    for name in ("OUT", "STATE", "CACHE", "RUNTIME"):
        monkeypatch.setenv(f"DOCFLASH_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("DOCFLASH_OUT", str(tmp_path / ODD))
    monkeypatch.setenv("SECRET", "not for a file")


def test_the_units_are_where_systemd_looks(tmp_path: Path) -> None:
    server, worker = service_files("linux")
    assert server.path == tmp_path / ".config" / "systemd" / "user" / "docflash-server.service"
    assert "After=docflash-server.service" in worker.text
    assert "not for a file" not in server.text + worker.text
    for file in (server, worker):
        for line in ("NoNewPrivileges=yes", "UMask=0077", "Restart=always", "SystemCallFilter="):
            assert line in file.text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong() -> None:
    files = service_files("linux")
    for file in files:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.write_text(file.text, encoding="utf-8")
    done = _verify(files)
    assert (done.returncode, done.stderr) == (0, "")

    broken = files[0]
    broken.path.write_text(broken.text.replace("Restart=always", "Restart=sometimes"), "utf-8")
    assert "restart specifier" in _verify((broken,)).stderr


def _verify(files: tuple[ServiceFile, ...]) -> "subprocess.CompletedProcess[str]":
    runtime = Path(os.environ["HOME"]) / "run"
    runtime.mkdir(exist_ok=True)
    return subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", *(str(file.path) for file in files)],
        env=os.environ | {"XDG_RUNTIME_DIR": str(runtime)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_agents_are_property_lists_that_catch_up(tmp_path: Path) -> None:
    for file, role in zip(service_files("darwin"), ("server", "worker"), strict=True):
        assert file.path == tmp_path / "Library" / "LaunchAgents" / f"org.docflash.{role}.plist"
        agent = plistlib.loads(file.text.encode())
        assert agent["Label"] == file.name == file.path.stem
        assert agent["ProgramArguments"][0] == sys.executable
        assert agent["ProgramArguments"][-2:] == ["run", role]
        # Both are there when the machine wakes: the worker then finds the run that was due.
        assert (agent["KeepAlive"], agent["RunAtLoad"]) == (True, True)
        assert "StartCalendarInterval" not in agent
        assert agent["EnvironmentVariables"]["DOCFLASH_OUT"] == str(tmp_path / ODD)
        assert "SECRET" not in agent["EnvironmentVariables"]
        assert agent["Umask"] == 0o077
        assert os.access(agent["ProgramArguments"][0], os.X_OK)
