"""Fixtures that several rooms' tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def clean_environment(tmp_path: Path) -> dict[str, str]:
    """An environment for child processes in which all of docflash's folders are this test's own."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "DOCFLASH_"))
    }
    for name in ("OUT", "STATE", "RUNTIME"):
        environment[f"DOCFLASH_{name}"] = str(tmp_path / name.lower())
    return environment
