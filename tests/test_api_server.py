"""The run's own Prefect server: asks for its password, and leaves with its parent."""

import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.flow

_PARENT = """
import os, sys
from flows.prefect_env import prepare_prefect
from flows.api_server import start_server
assert prepare_prefect()
server = start_server()
server.wait_ready()
print(server.pid, os.environ["PREFECT_API_URL"], flush=True)
sys.stdin.read()
"""


def test_server_is_private_and_leaves_when_its_parent_is_killed(
    tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT],
        env=clean_environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert parent.stdout is not None
        pid, url = parent.stdout.readline().split()
        server = psutil.Process(int(pid))
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{url}/flows/count", data=b"{}", timeout=60)  # noqa: S310
        refused.value.close()
        assert refused.value.code == 401
        listening = [c.laddr.ip for c in server.net_connections() if c.status == "LISTEN"]
        assert listening == ["127.0.0.1"]
    finally:
        parent.kill()
        parent.communicate()
    _, alive = psutil.wait_procs([server], timeout=60)
    assert not alive
