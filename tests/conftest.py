"""Fixtures that several rooms' tests share."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from pipeline.engine.machine.blas import engine_environment
from tests.home import Home, bare_environment, end_engine, serve_prefect

# How fast the machine is just now is no property of the code.
settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-machine")

# Whoever starts the tests in the background has them ignore Ctrl-C, and so would all their
# children (POSIX shell, 2.11); many of these tests are about it.
signal.signal(signal.SIGINT, signal.default_int_handler)


BEFORE = "DOCFLASH_TESTS_BEFORE"
"""Holds what pytest's environment was before it was started anew."""


def pytest_configure(config: pytest.Config) -> None:
    """Has tests multiply by the BLAS that the product multiplies by, several times faster.

    It must be loaded before Python, so pytest starts anew with it. Children of the tests get the
    environment as it was: which BLAS they use is the product's affair.
    """
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    if BEFORE not in os.environ:
        # One thread each: other tests run beside it, and sums are the same on any machine.
        added = engine_environment() | {"OPENBLAS_NUM_THREADS": "1"}
        if "LD_PRELOAD" in added and not is_worker:
            before = {name: os.environ.get(name) for name in added}
            capture: Any = config.pluginmanager.getplugin("capturemanager")
            capture.stop_global_capturing()
            os.execve(  # noqa: S606  itself, with its own arguments
                sys.executable, sys.orig_argv, os.environ | added | {BEFORE: json.dumps(before)}
            )
    elif is_worker or not getattr(config.option, "numprocesses", None):  # workers inherit it first
        for name, value in json.loads(os.environ.pop(BEFORE)).items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


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


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A tiny model, and a Prefect server and an engine for all tests; the engine starts itself."""
    from tests.tiny import write_llama

    folder = tmp_path_factory.mktemp("home")
    model = write_llama(folder / "model", context_tokens=4096)
    environment = bare_environment(folder)
    with serve_prefect(environment) as settings:
        home = Home(folder, model, environment | settings)
        yield home
        end_engine(home)


@pytest.fixture
def home(shared_home: Home, tmp_path: Path) -> Home:
    """A user's home of this test's own, with two tasks: one answered quickly, one at length."""
    from tests.home import LONG

    home = Home(
        tmp_path,
        shared_home.model,
        shared_home.environment | {"DOCFLASH_OUT": str(tmp_path / "out")},
    )
    home.write_task("quick")
    home.write_task("long", LONG)
    home.documents.mkdir()
    return home
