"""The engine process as users meet it: started on demand, killed at random, stopped, left alone."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.engine.client import EngineClient
from pipeline.engine.interface import Message, Request
from pipeline.engine.journal import log_path
from pipeline.engine.serving.endpoint import lock_holder, socket_path
from pipeline.engine.serving.launch import engine_status, start_engine, stop_engine
from pipeline.errors import EngineError, InputError, RequestError
from tests.scripted_core import WAIT_S
from tests.tiny import write_llama

pytestmark = [
    pytest.mark.model,
    # httpcore leaves a socket to the garbage collector when the engine dies while it connects.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket"),
]

WORD = "Xylophone-4711"
LONG = {"type": "string", "minLength": 700, "maxLength": 900}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    return [str(write_llama(folder / f"tiny{seed}", seed=seed)) for seed in range(2)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folders of this test's own; no engine survives it."""
    for name in ("CACHE", "STATE", "RUNTIME"):
        monkeypatch.setenv(f"DOCFLASH_{name}", str(tmp_path / name.lower()))
    yield tmp_path
    stop_engine(now=True)


def question(model: str, request_id: str = "q", *, long: bool = False) -> Request:
    text = f"What is the total of invoice {WORD}?"
    schema = LONG if long else {"type": "boolean"}
    tokens = 900 if long else 20
    return Request(request_id, model, (Message("user", text),), schema, max_tokens=tokens)


def wait_until_busy() -> int:
    """The engine's process id, once it works on a request."""
    limit = time.monotonic() + WAIT_S
    while time.monotonic() < limit:
        status = engine_status()
        if status is not None and status.stats.running:
            return status.pid
    raise AssertionError("the engine never began")


def test_many_starters_make_one_engine(home: Path, models: list[str]) -> None:
    told: list[str] = []
    code = (
        f"from pipeline.engine.serving.launch import start_engine as s; print(s({models[0]!r}).pid)"
    )
    others = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    with ThreadPoolExecutor(18) as pool:
        started = pool.map(
            lambda _: start_engine(models[0], lambda what, _: told.append(what)), range(18)
        )
        pids = {status.pid for status in started}
    pids.update(int(other.communicate(timeout=WAIT_S)[0]) for other in others)
    assert pids == {lock_holder()}
    assert "starting the engine" in told or any(other.returncode == 0 for other in others)
    assert log_path().read_text(encoding="utf-8").count("engine_started") == 1
    assert stat.S_IMODE(socket_path().stat().st_mode) == 0o600
    assert stat.S_IMODE(socket_path().parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(log_path().stat().st_mode) == 0o600


def test_a_second_host_leaves_quietly(home: Path, models: list[str]) -> None:
    pid = start_engine(models[0]).pid
    second = subprocess.run(
        [sys.executable, "-m", "pipeline.engine.serving.host"],
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (second.returncode, second.stdout, second.stderr) == (0, b"", b"")
    status = engine_status()
    assert status is not None
    assert status.pid == pid


def test_a_killed_engine_is_started_again_and_the_request_repeated(
    home: Path, models: list[str]
) -> None:
    with EngineClient() as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.complete, question(models[0], long=True))
        killed = wait_until_busy()
        os.kill(killed, signal.SIGKILL)
        completion = asked.result(WAIT_S)
        assert completion.id == "q"
        assert len(json.loads(completion.text)) >= 700
        assert lock_holder() not in (None, killed)


def test_a_killed_engine_is_told_when_nothing_is_to_be_repeated(
    home: Path, models: list[str]
) -> None:
    with EngineClient(restarts=0) as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.complete, question(models[0], long=True))
        os.kill(wait_until_busy(), signal.SIGKILL)
        with pytest.raises(EngineError, match=r"engine was lost .*engine\.log.*run again") as lost:
            asked.result(WAIT_S)
        assert not isinstance(lost.value, RequestError)


def test_a_signal_lets_started_requests_finish(home: Path, models: list[str]) -> None:
    with EngineClient() as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.complete, question(models[0], long=True))
        os.kill(wait_until_busy(), signal.SIGTERM)
        assert asked.result(WAIT_S).completion_tokens > 100
    limit = time.monotonic() + WAIT_S
    while lock_holder() is not None:
        assert time.monotonic() < limit
    assert not socket_path().exists()


def test_stopping_now_ends_requests_and_the_client_does_not_start_again(
    home: Path, models: list[str]
) -> None:
    with EngineClient() as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.complete, question(models[0], long=True))
        wait_until_busy()
        assert stop_engine(now=True)
        with pytest.raises(EngineError, match="was stopped"):
            asked.result(WAIT_S)
        with pytest.raises(EngineError, match="was stopped"):
            client.complete(question(models[0]))
    assert engine_status() is None
    assert not stop_engine()


def test_an_idle_engine_leaves(
    home: Path, models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCFLASH_ENGINE_IDLE_S", "2")
    start_engine(models[0])
    limit = time.monotonic() + WAIT_S
    while lock_holder() is not None:
        assert time.monotonic() < limit
    assert engine_status() is None
    # The next request finds none, and starts one.
    with EngineClient() as client:
        assert client.complete(question(models[0])).text in ("true", "false")


def test_models_take_turns(home: Path, models: list[str]) -> None:
    with EngineClient() as client, ThreadPoolExecutor(4) as pool:
        asked = [question(models[number % 2], str(number)) for number in range(4)]
        answers = list(pool.map(client.complete, asked))
    assert [answer.text in ("true", "false") for answer in answers] == [True] * 4


@pytest.mark.parametrize("model_type", ["no_such_architecture", "mamba"])
def test_a_model_that_cant_be_loaded_is_told_by_the_client(
    home: Path, tmp_path: Path, model_type: str
) -> None:
    folder = write_llama(tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    with pytest.raises(InputError, match="odd"):
        start_engine(str(folder))
    with EngineClient() as client, pytest.raises(InputError, match="odd"):
        client.complete(question(str(folder)))


def test_a_stale_socket_and_a_hanging_engine_are_dealt_with(home: Path, models: list[str]) -> None:
    pid = start_engine(models[0]).pid
    os.kill(pid, signal.SIGSTOP)
    killer = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
    killer.start()
    assert stop_engine(now=True)
    killer.join()
    assert socket_path().exists()
    assert engine_status() is None
    assert start_engine(models[0]).pid != pid


def test_no_text_reaches_the_log(home: Path, models: list[str]) -> None:
    with EngineClient() as client:
        answer = client.complete(question(models[0], long=True))
        with pytest.raises(RequestError):
            client.complete(
                Request("r", models[0], (Message("user", WORD),), schema={"type": WORD})
            )
        with pytest.raises(RequestError):
            client.complete(Request("r", models[0], (Message("user", WORD * 9000),)))
    stop_engine()
    log = "".join(path.read_text(encoding="utf-8") for path in (home / "state").iterdir())
    assert "request_done" in log
    assert "request_failed" in log
    assert "Xylophone" not in log
    assert answer.text[1:20] not in log
    lines = log_path().read_text(encoding="utf-8").splitlines()
    assert all(json.loads(line)["time"] for line in lines)


def test_a_socket_in_another_place_is_not_trusted(home: Path) -> None:
    socket_path().parent.mkdir(exist_ok=True)
    socket_path().write_text("no socket", encoding="utf-8")
    with pytest.raises(InputError, match="is not a socket of this user"):
        engine_status()
    socket_path().unlink()


def test_a_path_too_long_for_a_socket_is_told(
    home: Path, models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("DOCFLASH_RUNTIME", str(home / ("x" * 120)))
        with pytest.raises(InputError, match="DOCFLASH_RUNTIME to a folder with a shorter path"):
            start_engine(models[0])
