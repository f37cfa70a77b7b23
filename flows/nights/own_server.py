"""The password of a Prefect server of the user's own, kept for the services that work for it.

A unit's or an agent's text can be read by whoever may list services, so the password is not in it:
it is in a file of mode 0600 in docflash's state folder, with the address that it is for.
"""

import json
import os
from pathlib import Path

from flows.nights.home import write_private
from pipeline.settings import private_folder, state_folder

_FILE_NAME = "own-prefect-server.json"
_ADDRESS, _PASSWORD = "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"


def password_file() -> Path:
    """The private file."""
    return private_folder(state_folder()) / _FILE_NAME


def keep_password() -> bool:
    """Keeps the password that this environment has for the user's own server, or none.

    Returns:
        Whether there is one.
    """
    kept = {name: os.environ.get(name, "") for name in (_ADDRESS, _PASSWORD)}
    if not all(kept.values()):
        forget_password()
        return False
    write_private(password_file(), kept)
    return True


def forget_password() -> None:
    """Removes what was kept."""
    password_file().unlink(missing_ok=True)


def use_password() -> None:
    """Lets this process in to the server of its environment, if that is the one of the file."""
    if os.environ.get(_PASSWORD):
        return
    try:
        kept = json.loads(password_file().read_text(encoding="utf-8"))
        if kept[_ADDRESS] == os.environ.get(_ADDRESS):
            os.environ[_PASSWORD] = str(kept[_PASSWORD])
    except (OSError, ValueError, KeyError, TypeError):
        return  # then the server says that it wants one
