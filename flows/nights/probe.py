"""What answers on the lasting server's port: docflash's own server, another Prefect, or no such.

In: the home. Out: the version of Prefect that answers, or what is wrong with it, in words. Knows
nothing of Prefect but its two addresses, and so costs milliseconds.
"""

import base64
import http.client
import importlib.metadata
import json
import socket
from dataclasses import dataclass

from flows.nights.home import NightHome

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the port answered.

    Attributes:
        is_prefect: Whether it is a server of Prefect.
        is_ours: Whether it took docflash's password.
        version: Of Prefect, if it is ours.
    """

    is_prefect: bool
    is_ours: bool = False
    version: str = ""


def probe(home: NightHome) -> Answer | None:
    """Asks the port who is there; None if nobody listens."""
    health = _ask(home, "/api/health")
    if health is None:
        return None
    if health != (http.client.OK, "true"):
        return Answer(is_prefect=False)
    status, version = _ask(home, "/api/admin/version") or (0, "")
    if status != http.client.OK:
        return Answer(is_prefect=True)
    try:
        # A server that asks for no password lets anybody in: it is not docflash's.
        is_ours = _ask(home, "/api/admin/version", with_password=False) != (status, version)
        return Answer(is_prefect=True, is_ours=is_ours, version=str(json.loads(version)))
    except ValueError:
        return Answer(is_prefect=False)


def installed_version() -> str:
    """The version of Prefect that docflash runs."""
    return importlib.metadata.version("prefect")


def is_ready(home: NightHome) -> bool:
    """Whether docflash's own server answers, and with the Prefect that is installed here."""
    answer = probe(home)
    return answer is not None and answer.is_ours and answer.version == installed_version()


def describe_port(home: NightHome) -> str:
    """Why docflash's server can't be on its port now; empty if nothing else is there."""
    answer = probe(home)
    other = "choose another port with `--port`, or set DOCFLASH_PREFECT_PORT"
    if answer is None or (answer.is_ours and answer.version == installed_version()):
        return ""
    if answer.is_ours:
        return (
            f"docflash's server on port={home.port!r} runs Prefect version={answer.version!r}, and "
            f"this docflash has {installed_version()!r}; end it with `docflash service stop`"
        )
    if answer.is_prefect:
        version = f" of version={answer.version!r}" if answer.version else ""
        return (
            f"a Prefect server{version} that is not docflash's is on port={home.port!r}; {other}, "
            "or name that server in PREFECT_API_URL to use it"
        )
    return f"another program listens on port={home.port!r} of 127.0.0.1; {other}"


def _ask(home: NightHome, path: str, *, with_password: bool = True) -> tuple[int, str] | None:
    connection = http.client.HTTPConnection("127.0.0.1", home.port, timeout=_TIMEOUT_S)
    token = base64.b64encode(home.password.encode()).decode()
    headers = {"Authorization": f"Basic {token}"} if with_password else {}
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(1000).decode(errors="replace").strip()
    except (ConnectionRefusedError, socket.gaierror):
        return None
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()
