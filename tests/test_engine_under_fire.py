"""The engine's socket under fire: nonsense, floods, clients that dawdle or vanish."""

import json
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.engine.client import EngineClient
from pipeline.engine.interface import Event
from pipeline.engine.serving.calls import CallBounds
from pipeline.engine.serving.endpoint import socket_path
from pipeline.engine.serving.engine_thread import EngineThread
from pipeline.engine.serving.launch import engine_status, open_http, start_engine, stop_engine
from pipeline.engine.serving.wire_body import UNDERSTOOD
from pipeline.errors import InputError, RequestError
from tests.scripted_core import WAIT_S, ScriptedLoader, ask
from tests.test_engine_process import question
from tests.test_routes import STOPPED, Served, body, chat
from tests.tiny import write_llama

SEVERAL = 40
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: docflash\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCFLASH_RUNTIME", f"{folder}/r")
        patch.setenv("DOCFLASH_STATE", f"{folder}/s")
        served = Served()
        yield served
        served.close()


@pytest.fixture(scope="module")
def http(served: Served) -> Iterator[httpx.Client]:
    with open_http(20) as http:
        yield http


def connect() -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(20)
    line.connect(str(socket_path()))
    return line


def request_bytes(text: str, **more: Any) -> bytes:
    data = json.dumps(body(text, **more)).encode()
    return HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(data), data)


def answers(http: httpx.Client) -> bool:
    return chat(http, "say so").status_code == 200


def wait_for_all(served: Served) -> None:
    """Until the server is done with every client that has come, however late it reads them.

    Nothing in flight alone may mean that it has read none yet; those take the queue's few places
    until it sees that they are gone, and whoever asks meanwhile is told to come again (429).
    """
    with open_http(20) as last:  # clients are let in as they come
        assert last.get("/health").status_code == 200
    state, limit = served.server.server_state, time.monotonic() + WAIT_S
    while state.tasks or len(state.connections) > 1:  # the fixture's own stays
        assert time.monotonic() < limit
        time.sleep(0.001)
    served.in_flight(0)


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 4000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 100_000 + b"\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n{}",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}{}{}",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        HEAD + b"Content-Length: 99999999999999999999\r\n\r\n{",
    ],
    ids=[
        *("zeros", "version", "ssh", "tls", "headers", "path", "negative", "two lengths"),
        *("chunks", "huge length"),
    ],
)
def test_what_is_no_request_is_refused_or_hung_up_on(http: httpx.Client, data: bytes) -> None:
    with closing(connect()) as line:
        try:
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            told = line.recv(1 << 16)
        except OSError:
            told = b""
    assert not told.startswith(b"HTTP/1.1 2")
    assert answers(http)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(
    more=st.dictionaries(
        st.sampled_from(sorted(UNDERSTOOD - {"messages", "timeout"})) | st.text(max_size=8),
        VALUES,
        max_size=4,
    ),
    whole=VALUES,
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_breaks_a_route(http: httpx.Client, more: dict[str, Any], whole: Any) -> None:
    for content in (body("say a b") | more, whole, {"messages": whole}):
        response = http.post("/v1/chat/completions", content=json.dumps(content))
        assert response.status_code < 500, content
        if response.status_code != 200:
            error = response.json()["error"]
            assert error["code"]
            assert error["message"]


def test_deep_json_is_refused(http: httpx.Client) -> None:
    deep = b'{"messages": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    assert http.post("/v1/chat/completions", content=deep).status_code == 400
    assert answers(http)


def test_ten_thousand_at_once_are_bounded() -> None:
    """Those that the queue has no room for are told so at once; the others are all answered."""
    loader = ScriptedLoader()
    loader.gate.clear()
    bounds = CallBounds(waiting=256, started=16)
    thread = EngineThread(loader, bounds, lambda _: None)
    thread.start()
    ends: Counter[str] = Counter()
    refused: Counter[str] = Counter()

    def on_event(event: Event) -> None:
        ends[type(event).__name__] += 1

    for number in range(10_000):
        try:
            thread.submit(ask("say", str(number)), on_event)
        except RequestError as error:
            refused[error.kind] += 1
    taken = 10_000 - refused.total()
    assert set(refused) == {"queue_full"}
    assert bounds.waiting <= taken <= bounds.waiting + bounds.started
    assert thread.status().in_flight == taken
    loader.gate.set()
    thread.stop(STOPPED)
    assert thread.join(WAIT_S)
    assert ends.total() == taken
    assert set(ends) <= {"Done", "Failed"}


def test_a_full_queue_tells_when_to_come_again(served: Served, http: httpx.Client) -> None:
    served.loader.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(chat, http, "say a", model="/another") for _ in range(2)]
        served.in_flight(2)
        refusals = [chat(http, "say a", model="/another") for _ in range(200)]
        assert {r.status_code for r in refusals} == {429}
        assert all(int(r.headers["Retry-After"]) > 0 for r in refusals)
        served.loader.gate.set()
        assert [future.result(20).status_code for future in waiting] == [200, 200]
    served.in_flight(0)


def test_clients_that_dawdle_hold_nobody_up(served: Served, http: httpx.Client) -> None:
    whole = request_bytes("say a")
    with ExitStack() as lines:
        for number in range(SEVERAL):
            line = lines.enter_context(closing(connect()))
            line.sendall(whole[: 1 + number * (len(whole) - 2) // SEVERAL])
        assert answers(http)
    assert answers(http)
    served.in_flight(0)


def test_a_reader_that_stops_reading_holds_nobody_up(served: Served, http: httpx.Client) -> None:
    with closing(connect()) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        line.sendall(request_bytes("say " + "word " * 1500, stream=True))
        served.in_flight(1)
        assert answers(http)
    served.in_flight(0)
    assert answers(http)


def test_clients_that_vanish_leave_nothing_behind(served: Served, http: httpx.Client) -> None:
    before = threading.active_count()
    for number in range(SEVERAL):
        with closing(connect()) as line:
            line.sendall(request_bytes("hold", stream=bool(number % 2)))
            if number % 3 == 0:
                line.shutdown(socket.SHUT_RDWR)
    wait_for_all(served)
    assert answers(http)
    assert threading.active_count() <= before + 1


@pytest.mark.model
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket")
def test_a_model_whose_folder_is_deleted_is_told_and_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CACHE", "STATE", "RUNTIME"):
        monkeypatch.setenv(f"DOCFLASH_{name}", str(tmp_path / name.lower()))
    gone, kept = (str(write_llama(tmp_path / name, seed=n)) for n, name in enumerate("ab"))
    try:
        pid = start_engine(gone).pid
        with EngineClient() as client:
            assert client.complete(question(gone)).text in {"true", "false"}
            shutil.rmtree(gone)
            with pytest.raises(InputError, match="/a'"):
                client.complete(question(gone))
            assert client.complete(question(kept)).text in {"true", "false"}
        status = engine_status()
        assert status is not None
        assert status.pid == pid
    finally:
        stop_engine(now=True)
