"""Where docflash keeps its things on this machine, and the environment variables that move them.

Everything is private to the user: folders are made 0700, whatever the umask.
"""

import os
import tempfile
from pathlib import Path

import platformdirs

from pipeline.errors import InputError

EMBEDDED_MODEL = "embedded"


def private_folder(path: Path) -> Path:
    """Makes a folder that only this user can enter, and its parents.

    Raises:
        InputError: It can't be made, or belongs to another user.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.stat().st_uid != os.getuid():
            raise InputError(
                f"the folder path={str(path)!r} belongs to another user; "
                "remove it or choose another with the DOCFLASH_* variables"
            )
        path.chmod(0o700)
    except OSError as error:
        raise InputError(
            f"the folder path={str(path)!r} can't be made or used ({error.strerror}); "
            "check its permissions and the free disk space"
        ) from error
    return path


def _folder(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or default).expanduser().absolute()


def cache_folder() -> Path:
    """Converted models and other things that can be made again (`DOCFLASH_CACHE`)."""
    return private_folder(_folder("DOCFLASH_CACHE", platformdirs.user_cache_dir("docflash")))


def out_folder(chosen: Path | None = None) -> Path:
    """Default home of the store and the published tables (`--out`, `DOCFLASH_OUT`). Not made."""
    if chosen is not None:
        return chosen.expanduser().absolute()
    return _folder("DOCFLASH_OUT", platformdirs.user_data_dir("docflash"))


def state_folder() -> Path:
    """Logs and Prefect's own files (`DOCFLASH_STATE`)."""
    return private_folder(_folder("DOCFLASH_STATE", platformdirs.user_state_dir("docflash")))


def runtime_folder() -> Path:
    """The engine's socket and lock (`DOCFLASH_RUNTIME`); a short path, as sockets need."""
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return private_folder(_folder("DOCFLASH_RUNTIME", f"{base}/docflash-{os.getuid()}"))
