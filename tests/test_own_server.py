"""The password of a user's own Prefect server: kept for the services, in no text of theirs."""

import os
import stat
from pathlib import Path

import pytest

from flows.nights.own_server import keep_password, password_file, use_password
from flows.nights.service_files import service_files
from flows.nights.worker import join_server
from tests.home import Home, bare_environment

ADDRESS = "http://127.0.0.1:4200/api"
CANARY = "docflash:canary-of-a-password"


@pytest.fixture(autouse=True)
def own_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCFLASH_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PREFECT_API_URL", ADDRESS)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", CANARY)


def test_a_service_is_let_in_and_its_file_does_not_say_how(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0)
    try:
        assert keep_password()
    finally:
        os.umask(before)
    assert stat.S_IMODE(password_file().stat().st_mode) == 0o600
    assert stat.S_IMODE(password_file().parent.stat().st_mode) == 0o700
    texts = [file.text for system in ("linux", "darwin") for file in service_files(system)]
    assert all(ADDRESS in text and "canary" not in text for text in texts)
    # As a service has it: what its file says, and no more.
    monkeypatch.delenv("PREFECT_API_AUTH_STRING")
    assert join_server()
    assert os.environ["PREFECT_API_AUTH_STRING"] == CANARY


def test_another_server_does_not_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_password()
    monkeypatch.delenv("PREFECT_API_AUTH_STRING")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4999/api")
    use_password()
    assert "PREFECT_API_AUTH_STRING" not in os.environ


def test_one_that_is_given_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_password()
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "another")
    use_password()
    assert os.environ["PREFECT_API_AUTH_STRING"] == "another"


@pytest.mark.parametrize("text", ["", "[]", "{}", "{"])
def test_a_damaged_file_is_as_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    password_file().write_text(text)
    monkeypatch.delenv("PREFECT_API_AUTH_STRING")
    use_password()
    assert "PREFECT_API_AUTH_STRING" not in os.environ


@pytest.mark.flow
def test_it_comes_with_install_and_goes_with_remove(tmp_path: Path) -> None:
    own = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path),
    }
    server = {"PREFECT_API_URL": ADDRESS, "PREFECT_API_AUTH_STRING": CANARY}
    home = Home(tmp_path, tmp_path, bare_environment(tmp_path) | own | server)
    assert home.docflash("service", "install").code == 0
    holders = [
        path.name
        for path in tmp_path.rglob("*")
        if path.is_file() and CANARY.encode() in path.read_bytes()
    ]
    assert holders == [password_file().name]
    assert home.docflash("service", "remove").code == 0
    assert not password_file().exists()
