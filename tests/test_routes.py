"""The engine over its socket: a real server and a real client, with a scripted core."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
import uvicorn

from pipeline.engine import client as client_module
from pipeline.engine.client import EngineClient
from pipeline.engine.serving.calls import CallBounds
from pipeline.engine.serving.endpoint import listen
from pipeline.engine.serving.engine_thread import EngineThread
from pipeline.engine.serving.launch import open_http
from pipeline.engine.serving.routes import Routes
from pipeline.errors import EngineError, InputError, RequestError
from tests.scripted_core import WAIT_S, ScriptedLoader, ask

STOPPED = RequestError("stopped", "the engine was stopped")


class Served:
    """A server in a thread of this process."""

    def __init__(self) -> None:
        self.loader = ScriptedLoader()
        self.stops: list[bool] = []
        self.thread = EngineThread(self.loader, CallBounds(waiting=2, started=2), lambda _: None)
        self.thread.start()
        routes = Routes(self.thread, lambda: {"pid": 1}, self.stops.append, lambda: 1.5)
        config = uvicorn.Config(routes.application(), log_config=None, lifespan="off")
        self.server = uvicorn.Server(config)
        self.listener = listen()
        self._serving = threading.Thread(target=self._serve)
        self._serving.start()

    def _serve(self) -> None:
        asyncio.run(self.server.serve(sockets=[self.listener]))

    def close(self) -> None:
        self.loader.gate.set()
        self.thread.stop(STOPPED, now=True)
        assert self.thread.join(WAIT_S)
        self.server.should_exit = True
        self._serving.join(WAIT_S)
        self.listener.close()

    def in_flight(self, wanted: int) -> None:
        limit = time.monotonic() + WAIT_S
        while self.thread.status().in_flight != wanted:
            assert time.monotonic() < limit


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCFLASH_RUNTIME", f"{folder}/r")
        patch.setenv("DOCFLASH_STATE", f"{folder}/s")
        served = Served()
        yield served
        served.close()


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    with open_http(WAIT_S) as http:
        yield http


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "embedded", "messages": [{"role": "user", "content": text}], **more}


def chat(http: httpx.Client, text: str, **more: Any) -> httpx.Response:
    return http.post("/v1/chat/completions", json=body(text, **more))


def code_of(response: httpx.Response) -> str:
    return str(response.json()["error"]["code"])


def test_a_chat_is_answered_in_openais_shape(http: httpx.Client) -> None:
    answer = chat(http, "say good morning", request_id="a").json()
    assert answer["id"] == "chatcmpl-a"
    assert answer["choices"][0]["message"]["content"] == "good morning embedded"
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 2
    assert answer["docflash"].keys() == {"finish_reason", "queue_s", "prefill_s", "decode_s"}


def test_a_stream_sends_text_then_usage(http: httpx.Client) -> None:
    options = {"include_usage": True}
    response = chat(http, "say a b", stream=True, stream_options=options)
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in response.text.split("\n") if line]
    assert lines.pop() == "[DONE]"
    *chunks, end, usage = [json.loads(line) for line in lines]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta["content"] for delta in deltas) == "a b "
    assert end["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 7)


def test_refusals_have_a_status_and_a_code(http: httpx.Client) -> None:
    for text, more, status, code in [
        ("refuse", {}, 400, "context_too_long"),
        ("refuse", {"stream": True}, 400, "context_too_long"),
        ("say a", {"top_p": 5}, 400, "bad_parameter"),
        ("say a", {"model": "/bad"}, 404, "bad_model"),
        ("break", {}, 500, "engine_failed"),
        # Were it held, its time would be over before the client's, with another code.
        ("hold", {"timeout": 5, "model": "/never loaded/bad"}, 404, "bad_model"),
    ]:
        response = chat(http, text, **more)
        assert (response.status_code, code_of(response)) == (status, code)
        assert "secret" not in response.text


def test_bodies_paths_methods_and_origins_are_checked(http: httpx.Client) -> None:
    path = "/v1/chat/completions"
    origin = {"Origin": "https://example.org"}
    for response, status, code in [
        (http.post(path, content=b"{"), 400, "bad_json"),
        (http.post(path, content=b" " * ((16 << 20) + 1)), 413, "body_too_large"),
        (http.get(path), 405, "bad_method"),
        (http.get("/v1/nothing"), 404, "not_found"),
        (http.get("/health", headers=origin), 403, "forbidden_origin"),
        (http.post(path, json=body("say a"), headers=origin), 403, "forbidden_origin"),
    ]:
        assert (response.status_code, code_of(response)) == (status, code)


def test_a_client_that_leaves_ends_its_request(served: Served, http: httpx.Client) -> None:
    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/chat/completions", json=body("hold"), timeout=0.05)
    served.in_flight(0)


def test_a_client_that_leaves_a_stream_ends_its_request(served: Served, http: httpx.Client) -> None:
    request = body("hold", stream=True)
    with http.stream("POST", "/v1/chat/completions", json=request) as stream:
        lines = stream.iter_lines()
        assert "assistant" in next(lines)
        served.in_flight(1)
    served.in_flight(0)


def test_an_error_inside_a_stream_is_its_last_event(served: Served, http: httpx.Client) -> None:
    request = body("hold", stream=True, request_id="held")
    with http.stream("POST", "/v1/chat/completions", json=request) as stream:
        lines = (line for line in stream.iter_lines() if line)
        assert "assistant" in next(lines)
        http.post("/admin/cancel", json={"request_id": "held"})
        assert '"..."' in next(lines)
        assert json.loads(next(lines).removeprefix("data: "))["error"]["code"] == "cancelled"
        assert list(lines) == []


def test_models_health_metrics_and_stop(served: Served, http: httpx.Client) -> None:
    chat(http, "say a")
    assert http.get("/v1/models").json()["data"][0] == {
        "id": "embedded",
        "object": "model",
        "owned_by": "docflash",
        "loaded": True,
    }
    assert http.get("/health").json() == {"pid": 1}
    metrics = http.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "\ndocflash_engine_ready 1\n" in metrics.text
    assert "\n# TYPE docflash_engine_requests_finished_total counter\n" in metrics.text
    assert http.post("/admin/stop").status_code == 202
    assert http.post("/admin/stop", json={"now": True}).json()["now"] is True
    assert served.stops == [False, True]


def test_the_client_answers_from_many_threads(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than wait and run at once: some are told to come again.
    with EngineClient(start=False) as client, ThreadPoolExecutor(12) as pool:
        monkeypatch.setattr(client_module, "LONGEST_PAUSE_S", 0.01)
        asked = [ask(f"say {number}", str(number), top_logprobs=2) for number in range(24)]
        answers = list(pool.map(client.complete, asked))
    assert [answer.text for answer in answers] == [f"{n} embedded" for n in range(24)]
    assert answers[0].logprobs[0].top[1] == ("x", -9999.0)


def test_the_client_gives_up_on_a_full_queue_in_time(served: Served) -> None:
    served.loader.gate.clear()
    with EngineClient(start=False) as client, ThreadPoolExecutor(2) as pool:
        waiting = [
            pool.submit(client.complete, ask("say a", f"w{n}", model="/other")) for n in range(2)
        ]
        served.in_flight(2)
        try:
            with pytest.raises(RequestError, match="queue was full") as refused:
                client.complete(ask("say a", timeout_s=0.5))
        finally:
            served.loader.gate.set()
        assert refused.value.kind == "timeout"
        assert all(future.result(WAIT_S).text == "a /other" for future in waiting)


def test_the_client_tells_refusals_bad_models_and_lost_engines_apart(served: Served) -> None:
    with EngineClient(start=False, restarts=0) as client:
        with pytest.raises(RequestError) as refused:
            client.complete(ask("refuse"))
        assert refused.value.kind == "context_too_long"
        with pytest.raises(InputError, match="has no weights"):
            client.complete(ask("say a", model="/bad"))
        with pytest.raises(EngineError, match="lost while it answered") as lost:
            client.complete(ask("break"))
        assert not isinstance(lost.value, RequestError)
        with pytest.raises(RequestError, match="16777216 bytes"):
            client.complete(ask("x" * (17 << 20)))
        with pytest.raises(RequestError, match="surrogate"):
            client.complete(ask("say \ud800"))


def test_a_closed_client_ends_its_requests(served: Served) -> None:
    client = EngineClient(start=False)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(client.complete, ask("hold", "mine"))
        served.in_flight(1)
        client.close()
        with pytest.raises(EngineError, match="this client was closed"):
            held.result(WAIT_S)
    with pytest.raises(EngineError, match="this client was closed"):
        client.complete(ask("say a"))


def test_without_an_engine_the_client_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCFLASH_RUNTIME", str(tmp_path))
    monkeypatch.setenv("DOCFLASH_STATE", str(tmp_path))
    with EngineClient(start=False) as client, pytest.raises(EngineError, match="engine start"):
        client.complete(ask("say a"))
