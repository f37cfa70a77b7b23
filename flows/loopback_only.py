"""Keeps web pages away from docflash's Prefect server: it answers this machine's own names only.

In: an ASGI app. Out: the same behind a check of `Host` and `Origin`. Prefect checks neither: a page
of any site could send it requests from the user's browser, or, after changing what its own name
means (DNS rebinding), even read the answers; and a worker runs what the server tells it.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class LoopbackOnly:
    """An ASGI app that refuses what comes under another name, or from a page of another site."""

    def __init__(self, app: App, port: int) -> None:
        self._app = app
        self._port = port

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it with 403."""
        if scope["type"] == "lifespan" or self._is_welcome(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            body = b"this server answers requests of this machine only\n"
            await send({"type": "http.response.body", "body": body})

    def _is_welcome(self, scope: Message) -> bool:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        hosts = [value for name, value in headers if name == b"host"]
        origins = [value for name, value in headers if name == b"origin"]
        return (
            len(hosts) == 1
            and self._is_mine(f"http://{hosts[0].decode('latin-1')}")
            and all(self._is_mine(origin.decode("latin-1")) for origin in origins)
        )

    def _is_mine(self, url: str) -> bool:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return False
        return (
            parts.scheme == "http"
            and parts.hostname in _HOSTS
            and port == self._port
            and parts.username is None
        )
