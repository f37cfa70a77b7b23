"""The DuckDB file under the store: opened by one process, written by one thread at a time.

In: SQL and rows from the store's rooms. Out: rows, or an error that says what to do. Publishing
reads from a snapshot of its own, so that nobody's writing waits for it.
"""

import os
import shutil
import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pipeline.errors import BusyError, InputError
from pipeline.settings import private_folder
from pipeline.store.migrations import MIGRATIONS, Migration, migrate
from pipeline.store.ownership import take_lock
from pipeline.store.texts import storable
from pipeline.tables import quoted

FILE_NAME = "store.duckdb"
_NEW_FILE_NAME = "store.new.duckdb"
_SPILL_NAME = "spill"
MEMORY_MB = 256
"""What the store may have at first; see `pipeline.store.memory`."""
_OPTIONS = {
    "memory_limit": f"{MEMORY_MB}MB",
    "threads": "2",  # the engine's threads are more urgent
    "checkpoint_threshold": "64MB",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_MACHINE_ERRORS = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.OutOfMemoryException,
    duckdb.SerializationException,
    duckdb.TransactionException,  # a commit that could not be written
)


class Session:
    """SQL on one connection, as the store's rooms see it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self.memory_mb = MEMORY_MB
        self._views: list[str] = []

    def run(self, sql: str, *values: Any) -> None:
        """Runs a statement with values for its `?`."""
        self.connection.execute(sql, values or None)

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query. Times must be asked for as `epoch_us(...)`."""
        return self.connection.execute(sql, values or None).fetchall()

    def count(self, sql: str, *values: Any) -> int:
        """The one number that a query or a change gives."""
        return int(self.rows(sql, *values)[0][0])

    def offer(self, name: str, columns: Any, rows: Iterable[Sequence[Any]]) -> None:
        """Makes rows readable as the view `name` until the end of the transaction.

        Row by row DuckDB is slow; a whole batch at once as an Arrow table is not.

        Args:
            name: The view.
            columns: A pyarrow schema.
            rows: Values in the order of the columns.
        """
        values = list(zip(*rows, strict=True)) or [()] * len(columns)
        arrays = [
            pa.array(column, field.type) for column, field in zip(values, columns, strict=True)
        ]
        self.connection.register(name, pa.Table.from_arrays(arrays, schema=columns))
        self._views.append(name)

    def forget_views(self) -> None:
        """Drops the views that were offered."""
        for name in self._views:
            with suppress(duckdb.Error):
                self.connection.unregister(name)
        self._views.clear()


class Database:
    """The open file. All methods may be called from any thread.

    Attributes:
        out: The library's folder.
    """

    def __init__(self, out: Path, migrations: Sequence[Migration] = MIGRATIONS) -> None:
        """Takes the library's lock and opens its store, new or brought to the newest schema.

        From here to `close` the process makes all its files private (umask 077): DuckDB makes
        files of its own when it likes.

        Raises:
            BusyError: Another process has the store.
            InputError: It can't be opened; the message says why.
        """
        self.out = out = out.absolute()
        _check_name(out)
        private_folder(out)
        self._mutex = threading.RLock()
        self._migrations = migrations
        self._session: Session | None = None
        self._lock_file = take_lock(out)
        self._umask = os.umask(0o077)
        try:
            self._session = Session(_open(out, migrations))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Writes everything to the file and gives the lock back. Twice is once."""
        with self._mutex:
            if self._lock_file < 0:
                return
            try:
                if self._session is not None:
                    self._session.connection.close()
            finally:
                self._session = None
                shutil.rmtree(self.out / _SPILL_NAME, ignore_errors=True)
                os.umask(self._umask)
                os.close(self._lock_file)
                self._lock_file = -1

    def compact(self) -> int:
        """As `Store.compact`."""
        path = self.out / FILE_NAME
        with self._mutex:
            before = path.stat().st_size
            self._copy(self.out / _NEW_FILE_NAME)
            self._open_session().connection.close()
            self._session = None
            (self.out / _NEW_FILE_NAME).replace(path)
            sync(self.out)
            self._session = Session(_open(self.out, self._migrations))
            return before - path.stat().st_size

    def copy_to(self, path: Path) -> None:
        """As `Store.copy_to`."""
        building = path.with_name(f".{path.name}.building")
        with self._mutex:
            self._copy(building)
        try:
            building.replace(path)
            sync(path.parent)
        except OSError as error:
            building.unlink(missing_ok=True)
            raise InputError(
                f"the copy path={str(path)!r} can't be written ({error.strerror}); choose another"
            ) from error

    def _copy(self, path: Path) -> None:
        """Copies every row into a new file, and waits until it is on the disk."""
        session = self._open_session()
        path.unlink(missing_ok=True)
        try:
            session.run(f"ATTACH {quoted(str(path))} AS copied")
            try:
                session.run(f"COPY FROM DATABASE {Path(FILE_NAME).stem} TO copied")
            finally:
                session.run("DETACH copied")
            path.chmod(0o600)
            sync(path)
        except (duckdb.Error, OSError) as error:
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
            raise InputError(
                f"the store can't be copied to path={str(path)!r} ({first_line(error)}); check the "
                "free disk space and the permissions"
            ) from error

    @contextmanager
    def transaction(self) -> Generator[Session]:
        """All that is run inside happens, or nothing; one thread at a time.

        Raises:
            InputError: The store can't be written: the disk is full, say.
        """
        with self._mutex, self._transaction(self._open_session()) as session:
            yield session

    @contextmanager
    def snapshot(self) -> Generator[Session]:
        """Reads the store as it is now, whatever others write meanwhile; holds up nobody.

        Raises:
            InputError: As `transaction`.
        """
        with self._mutex:
            session = Session(self._open_session().connection.cursor())
        try:
            with self._transaction(session):
                yield session
        finally:
            session.connection.close()

    def _open_session(self) -> Session:
        if self._session is None:
            raise InputError(f"the store in out={str(self.out)!r} was closed; open it again")
        return self._session

    @contextmanager
    def _transaction(self, session: Session) -> Generator[Session]:
        try:
            session.run("BEGIN")
            yield session
            session.run("COMMIT")
        except BaseException as error:
            with suppress(duckdb.Error):
                session.run("ROLLBACK")
            if isinstance(error, RuntimeError) and "nterrupted" in str(error):
                raise KeyboardInterrupt from None  # what DuckDB makes of Ctrl-C
            if isinstance(error, _MACHINE_ERRORS):
                raise InputError(
                    f"the store in out={str(self.out)!r} can't be read or written "
                    f"({first_line(error)}); check the free disk space and memory and run again: "
                    "what was finished before is kept"
                ) from error
            raise
        finally:
            session.forget_views()


def _check_name(out: Path) -> None:
    """Refuses names that DuckDB takes for something else; it puts its log before a "?"."""
    if "?" in str(out) or storable(str(out)) != str(out):
        raise InputError(
            f"the store can't be in out={os.fsencode(out)!r}: its name has a question mark or is "
            "not valid UTF-8; choose another with --out"
        )


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return str(error).partition("\n")[0][:400]


def _open(out: Path, migrations: Sequence[Migration]) -> duckdb.DuckDBPyConnection:
    path = out / FILE_NAME
    shutil.rmtree(out / _SPILL_NAME, ignore_errors=True)  # of a run that was killed
    for left in (out / _NEW_FILE_NAME, out / f"{_NEW_FILE_NAME}.wal"):
        left.unlink(missing_ok=True)
    try:
        if not path.exists():
            _make(out, path, migrations)
        connection = _connect(path, out)
        try:
            migrate(connection, migrations)
        except BaseException:
            connection.close()
            raise
    except duckdb.Error as error:
        if "lock on file" in str(error):
            raise BusyError(
                f"another program has the store open: path={str(path)!r} "
                f"({first_line(error)}); close it and run again"
            ) from error
        raise InputError(
            f"the store can't be opened: path={str(path)!r} ({first_line(error)}); check the "
            "permissions and the free disk space. If the file is damaged, move it away: the next "
            "run makes a new one, and the published tables stay until then"
        ) from error
    path.chmod(0o600)
    return connection


def _make(out: Path, path: Path, migrations: Sequence[Migration]) -> None:
    """Makes a new store under another name first: killed here, there is none, not half of one."""
    new = out / _NEW_FILE_NAME
    connection = _connect(new, out)
    try:
        migrate(connection, migrations)
    finally:
        connection.close()
    new.replace(path)


def _connect(path: Path, out: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(path), config=dict(_OPTIONS))
    set_up(connection)
    connection.execute(f"SET temp_directory = {quoted(str(out / _SPILL_NAME))}")
    return connection


def set_up(connection: duckdb.DuckDBPyConnection) -> None:
    """What holds for every connection to a store, whatever it is opened for."""
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET python_enable_replacements = false")
    # In a program without a file (`python -c`) it would write into --json.
    connection.execute("SET enable_progress_bar = false")


def sync(path: Path) -> None:
    """Waits until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
