"""Models in the Hugging Face cache of this machine, and the download of another one.

`pull_model` is the only function of docflash that may use the network.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.settings import EMBEDDED_MODEL, cache_folder

FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FOLDER_PREFIX = "models--"


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model or drafter on this machine.

    Attributes:
        name: As it is called on the hub, or "embedded".
        kind: "model" or "drafter".
        folder: What `--model` or `--drafter` takes.
        size_bytes: Of its weights.
    """

    name: str
    kind: str
    folder: str
    size_bytes: int


def found_models() -> list[FoundModel]:
    """The embedded model, if it was used before, and all whole models in the cache."""
    found = list(_snapshots())
    for folder in sorted((cache_folder() / "models").glob("*/")):
        size = _weights_bytes(folder)
        if size:
            found.insert(0, FoundModel(EMBEDDED_MODEL, "model", EMBEDDED_MODEL, size))
            break
    return found


def pull_model(name: str) -> str:
    """Downloads a model into the Hugging Face cache; returns its folder.

    Raises:
        InputError: The name is wrong, or the hub can't be reached or has no such model.
    """
    if not NAME.fullmatch(name):
        raise InputError(f"name={name!r} must be OWNER/NAME, as on the Hugging Face hub")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise InputError(
            "`docflash model pull` needs the package huggingface_hub; install it, or copy the "
            "model's folder here by other means and give its path to --model"
        ) from error
    try:
        return str(snapshot_download(name, allow_patterns=list(FILES)))
    except Exception as error:
        raise InputError(
            f"the model name={name!r} could not be downloaded ({type(error).__name__}); check the "
            "name, the network and HF_HUB_OFFLINE, or copy the folder here by other means and "
            "give its path to --model"
        ) from error


def _snapshots() -> Iterator[FoundModel]:
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    for config in sorted(hub.glob(f"{FOLDER_PREFIX}*/snapshots/*/config.json")):
        folder = config.parent
        size = _weights_bytes(folder)
        if size:
            name = folder.parents[1].name.removeprefix(FOLDER_PREFIX).replace("--", "/", 1)
            kind = "drafter" if "dflash_config" in _read(config) else "model"
            yield FoundModel(name, kind, str(folder), size)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _weights_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors") if file.exists())
