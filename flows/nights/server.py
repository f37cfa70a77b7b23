"""docflash's lasting Prefect server, in the foreground: what `docflash service run server` is.

Unlike the server of one run (`flows.api_server`) it has Prefect's scheduler and pages, stays until
it is ended, and is on a port that is known. Like that one it listens on loopback only, asks for its
password, and refuses other names and other sites' pages.
"""

import asyncio
import os
import socket
from pathlib import Path

from flows.api_server import one_migration_at_a_time
from flows.loopback_only import LoopbackOnly
from flows.nights.home import NightHome, make_home, prefect_home
from flows.nights.locks import hold_role
from flows.nights.probe import describe_port
from flows.prefect_env import quiet_prefect
from pipeline.errors import InputError

_GRACE_S = 5  # for requests that run when it is ended
_QUEUE = 128

_SETTINGS = {
    "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",  # done here, under a lock
    # Of each document it would keep 20 KB of events, which say no more than its tasks do. What is
    # older than 90 days goes: runs with all that is kept of them (`flows.tidying` is stricter).
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "flow_runs",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
    "PREFECT__SERVER_FINAL": "1",
}


def serve_nights(port: int | None = None) -> None:
    """Serves until a signal ends it.

    Raises:
        InputError: The port is taken; the message says by what.
        BusyError: docflash's server is running already.
    """
    quiet_prefect()
    os.environ["PREFECT_HOME"] = str(prefect_home())
    home = make_home(port)
    with hold_role("server"):
        listener = _listen(home)
        own = {
            "PREFECT_SERVER_API_AUTH_STRING": home.password,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{home.ui_url},http://localhost:{home.port}",
            "PREFECT_UI_API_URL": home.api_url,
            **home.environment,
        }
        os.environ.update(own)
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        _serve(listener, home)


def _listen(home: NightHome) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", home.port))
    except OSError as error:
        listener.close()
        raise InputError(describe_port(home) or _refused(home, error)) from error
    listener.listen(_QUEUE)
    return listener


def _refused(home: NightHome, error: OSError) -> str:
    return (
        f"port={home.port!r} of 127.0.0.1 can't be used ({error.strerror}); choose another with "
        "--port"
    )


def _serve(listener: socket.socket, home: NightHome) -> None:
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.server.database import provide_database_interface

    os.umask(0o077)  # the database is made here
    with one_migration_at_a_time():
        asyncio.run(provide_database_interface().create_db())
    _make_private(Path(os.environ["PREFECT_HOME"]))
    app = LoopbackOnly(create_app(final=True), home.port)
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_level="warning",
        timeout_graceful_shutdown=_GRACE_S,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _make_private(home: Path) -> None:
    """A database that an earlier version left readable is not any more."""
    for path in home.glob("prefect.db*"):
        path.chmod(0o600)
