"""What docflash's lasting Prefect server is found by: a port and a password in a private file.

In: the state folder. Out: `NightHome`, made at the first call. The file is mode 0600: who can read
it can have the worker run anything as this user, and so can, of all users, only this one.
"""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.settings import private_folder, state_folder

DEFAULT_PORT = 4263
POOL = "docflash"
PORT_VARIABLE = "DOCFLASH_PREFECT_PORT"

_FILE_NAME = "docflash-server.json"
_HIGHEST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class NightHome:
    """Where the lasting server is, and how to be let in.

    Attributes:
        port: On 127.0.0.1.
        password: Prefect's auth string, "docflash:..." .
    """

    port: int
    password: str

    @property
    def api_url(self) -> str:
        """The address of its API."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def ui_url(self) -> str:
        """The address of its pages."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Leads Prefect's clients to it."""
        return {"PREFECT_API_URL": self.api_url, "PREFECT_API_AUTH_STRING": self.password}


def prefect_home() -> Path:
    """The folder of Prefect's own files: the user's, or docflash's, made private."""
    chosen = os.environ.get("PREFECT_HOME")
    return Path(chosen) if chosen else private_folder(state_folder() / "prefect")


def home_file() -> Path:
    """The private file with port and password."""
    return prefect_home() / _FILE_NAME


def load_home() -> NightHome | None:
    """The home that was made before; None if there is none, or nothing that can be used."""
    try:
        found = json.loads(home_file().read_text(encoding="utf-8"))
        return NightHome(int(found["port"]), str(found["password"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def make_home(port: int | None = None) -> NightHome:
    """The home, made or moved to another port if need be.

    Args:
        port: The port; None for DOCFLASH_PREFECT_PORT, that of before, or docflash's own.

    Raises:
        InputError: The port is none.
    """
    before = load_home()
    chosen = port or _port_of_environment() or (before.port if before else DEFAULT_PORT)
    if not 0 < chosen <= _HIGHEST_PORT:
        raise InputError(f"port={chosen!r} is no port; give a number from 1024 to {_HIGHEST_PORT}")
    home = NightHome(chosen, before.password if before else f"docflash:{secrets.token_urlsafe(24)}")
    if home != before:
        write_private(home_file(), asdict(home))
    return home


def _port_of_environment() -> int | None:
    text = os.environ.get(PORT_VARIABLE, "")
    if not text:
        return None
    if not text.isdecimal():
        raise InputError(f"{PORT_VARIABLE}={text!r} is no port; give a number such as 4263")
    return int(text)


def write_private(path: Path, values: dict[str, Any]) -> None:
    """Writes JSON that only this user can read, all of it or nothing."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(values, file)
    new.replace(path)
