"""docflash's Prefect server and web pages: only this machine's own names get through."""

import asyncio
from typing import Any

import httpx
import pytest

from flows.loopback_only import LoopbackOnly, Message, Receive, Send

PORT = 4263


async def answer(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"private"})


APP: Any = LoopbackOnly(answer, PORT)


def ask(host: str, **headers: str) -> int:
    async def get() -> int:
        transport = httpx.ASGITransport(APP)
        async with httpx.AsyncClient(transport=transport) as client:
            asked = headers | {"Host": host}
            return (await client.post("http://127.0.0.1/api", headers=asked)).status_code

    return asyncio.run(get())


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"[::1]:{PORT}"])
def test_this_machine_is_answered(host: str) -> None:
    assert ask(host) == 200
    assert ask(host, Origin=f"http://localhost:{PORT}") == 200


@pytest.mark.parametrize(
    "host",
    [
        "rebound.example",
        f"rebound.example:{PORT}",
        f"127.0.0.1.rebound.example:{PORT}",
        f"user@127.0.0.1:{PORT}",
        f"127.0.0.1:{PORT}@rebound.example:{PORT}",
        "127.0.0.1",
        "127.0.0.1:4200",
        "127.0.0.1:99999999",
        "",
    ],
)
def test_another_name_is_refused(host: str) -> None:
    assert ask(host) == 403


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.com",
        "null",
        f"https://127.0.0.1:{PORT}",
        "http://127.0.0.1:8000",
        f"http://127.0.0.1.example.com:{PORT}",
        "http://[",
    ],
)
def test_a_page_of_another_site_is_refused(origin: str) -> None:
    assert ask(f"127.0.0.1:{PORT}", Origin=origin) == 403


def test_two_hosts_are_none() -> None:
    assert _websocket([(b"host", b"127.0.0.1:4263"), (b"host", b"evil.example")]) == "closed"


def test_a_websocket_of_a_page_is_closed() -> None:
    host = (b"host", b"127.0.0.1:4263")
    assert _websocket([host, (b"origin", b"https://example.com")]) == "closed"
    assert _websocket([host]) == "answered"


def _websocket(headers: list[tuple[bytes, bytes]]) -> str:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(APP({"type": "websocket", "headers": headers}, receive, send))
    return "closed" if sent[0]["type"] == "websocket.close" else "answered"
