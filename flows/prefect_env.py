"""Keeps Prefect quiet and at home: its settings for docflash, to be made before it is imported.

In: the user's environment. Out: the same with telemetry off, Prefect's files under docflash's own
state folder (unless the user has their own Prefect), and no server on another machine.
"""

import ipaddress
import os
from urllib.parse import urlsplit

from pipeline.errors import InputError
from pipeline.settings import private_folder, state_folder

ALLOW_REMOTE = "DOCFLASH_ALLOW_REMOTE_PREFECT"

# The server's settings matter to `prefect server start` from the same environment, too. The second
# version of Prefect's UI calls its maker even when analytics are off.
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
}

# For a run in this process, whose figures the command line shows itself.
_SILENT = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}


def quiet_prefect() -> None:
    """Turns off all that Prefect would send anywhere; keeps what the user has set otherwise."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def prepare_prefect() -> bool:
    """Sets the environment for a flow that runs in this process.

    Returns:
        True if the flow needs a server of its own; False if the user has named one.

    Raises:
        InputError: The server that the user has named is on another machine.
    """
    quiet_prefect()
    for name, value in _SILENT.items():
        os.environ.setdefault(name, value)
    api_url = os.environ.get("PREFECT_API_URL", "")
    if api_url:
        refuse_remote(api_url)
        return False
    if not os.environ.get("PREFECT_HOME"):
        os.environ["PREFECT_HOME"] = str(private_folder(state_folder() / "prefect"))
    return True


def refuse_remote(api_url: str) -> None:
    """Stops a run whose file names would go to a Prefect server on another machine.

    Raises:
        InputError: `api_url` is not on this machine, and the user has not allowed it.
    """
    if is_loopback(api_url) or os.environ.get(ALLOW_REMOTE) == "1":
        return
    raise InputError(
        f"the Prefect server PREFECT_API_URL={api_url!r} is not on this machine, and would learn "
        f"the names of your files; unset PREFECT_API_URL, or set {ALLOW_REMOTE}=1 to allow it"
    )


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine's loopback interface."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
