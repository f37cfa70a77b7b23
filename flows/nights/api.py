"""Prefect's API, with its errors in docflash's words.

In: the environment that leads to a server (`flows.nights.worker.join_server`). Out: a client.
"""

import http
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
from prefect.client.orchestration import get_client

from pipeline.errors import EngineError, InputError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


@contextmanager
def prefect_api() -> Generator["SyncPrefectClient"]:
    """A client of the server.

    Raises:
        InputError: It does not answer, or asks for another password.
        EngineError: It fails.
    """
    url = os.environ.get("PREFECT_API_URL", "")
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in {http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN}:
            raise InputError(
                f"the Prefect server PREFECT_API_URL={url!r} refuses the password; set "
                "PREFECT_API_AUTH_STRING to the one it was started with"
            ) from error
        raise EngineError(
            f"the Prefect server PREFECT_API_URL={url!r} failed, status={status!r}; see its log"
        ) from error
    except httpx.HTTPError as error:
        raise InputError(
            f"the Prefect server PREFECT_API_URL={url!r} does not answer "
            f"({type(error).__name__}); start it, or unset PREFECT_API_URL to use docflash's own"
        ) from error
