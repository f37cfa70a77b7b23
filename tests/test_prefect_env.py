"""Prefect's settings: nothing leaves the machine, nothing of the user's is overridden."""

import os
from pathlib import Path

import pytest

from flows.prefect_env import is_loopback, prepare_prefect, refuse_remote
from pipeline.errors import InputError


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("PREFECT_") or name == "DO_NOT_TRACK":
            monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ["DOCFLASH_STATE"] = str(tmp_path / "state")


def test_telemetry_is_off_and_files_are_at_home(tmp_path: Path) -> None:
    assert prepare_prefect() is True
    assert os.environ["DO_NOT_TRACK"] == "1"
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert os.environ["PREFECT_SERVER_UI_V2_ENABLED"] == "false"
    home = Path(os.environ["PREFECT_HOME"])
    assert home == tmp_path / "state" / "prefect"
    assert home.stat().st_mode & 0o777 == 0o700


def test_the_users_own_prefect_is_kept(tmp_path: Path) -> None:
    os.environ["PREFECT_HOME"] = str(tmp_path / "mine")
    os.environ["PREFECT_API_URL"] = "http://127.0.0.1:4200/api"
    assert prepare_prefect() is False
    assert os.environ["PREFECT_HOME"] == str(tmp_path / "mine")


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/api",
        "http://192.168.1.5:4200/api",
        "http://127.0.0.1.example.com/api",
        "http://localhost@example.com/api",
        "http://[fe80::1]:4200/api",
        "4200",
    ],
)
def test_a_server_elsewhere_is_refused(url: str) -> None:
    os.environ["PREFECT_API_URL"] = url
    with pytest.raises(InputError, match="DOCFLASH_ALLOW_REMOTE_PREFECT=1"):
        prepare_prefect()
    os.environ["DOCFLASH_ALLOW_REMOTE_PREFECT"] = "1"
    refuse_remote(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:4200/api", "http://localhost:4200/api", "http://[::1]:4200/api"]
)
def test_a_server_here_is_taken(url: str) -> None:
    assert is_loopback(url)
