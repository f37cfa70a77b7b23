"""`docflash watch`: runs at once, and again when a file has changed; Ctrl-C ends it gently."""

import signal
import subprocess
import sys
import time

import pytest

from tests.home import DOCFLASH, TIMEOUT_S, Home

pytestmark = pytest.mark.flow


def test_it_runs_again_when_a_file_comes(home: Home) -> None:
    home.write(a="A letter.")
    options = ("--prompts", home.prompts, "--task", "quick", "--model", home.model)
    words = ("watch", home.documents, "--settle", "0.2", "--out", home.out, *options)
    watch = subprocess.Popen(
        [sys.executable, "-c", DOCFLASH, *map(str, words)],
        cwd=home.folder,
        env=home.environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        _wait_for(home, watch, 1)
        home.write(b="Another letter.")
        _wait_for(home, watch, 2)
    finally:
        watch.send_signal(signal.SIGINT)
        try:
            _, err = watch.communicate(timeout=TIMEOUT_S)
        finally:
            watch.kill()
    assert watch.returncode == 130
    assert b"watching the folder" in err
    assert b"the folder has changed" in err


def _wait_for(home: Home, watch: "subprocess.Popen[bytes]", answers: int) -> None:
    limit = time.monotonic() + TIMEOUT_S
    while not (home.out / "latest").exists() or len(home.rows("FROM quick")) < answers:
        assert watch.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.5)
