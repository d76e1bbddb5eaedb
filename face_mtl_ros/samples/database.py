"""The sample store's SQLite file: opened, migrated, shared with other processes, and scrubbed of what was erased."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from .errors import SampleStoreError, explain

APPLICATION_ID = 0x464D544C  # "FMTL": tells our files from other programs'
SHM_BYTES = 2**16  # what the -shm file takes, and some more

# Script n makes format n + 1 of format n, and the first one makes an empty file format 1. Released ones never change.
MIGRATIONS = (
    """
    CREATE TABLE labels (
        id INTEGER PRIMARY KEY,
        task TEXT NOT NULL,
        name TEXT NOT NULL,
        display_name TEXT NOT NULL,
        UNIQUE (task, name)
    );
    CREATE TABLE samples (
        id INTEGER PRIMARY KEY AUTOINCREMENT,  -- so that a number is never used again
        label_id INTEGER NOT NULL REFERENCES labels,
        face_id TEXT NOT NULL,
        camera TEXT NOT NULL,
        stamp_ns INTEGER NOT NULL,
        quality REAL NOT NULL,
        requested_by TEXT NOT NULL,
        collected_at REAL NOT NULL,
        keep_days REAL,
        expires_at REAL,
        png BLOB NOT NULL  -- last, so that what is before it is read without it
    );
    CREATE INDEX samples_by_label ON samples (label_id);
    CREATE TABLE state (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        clock REAL NOT NULL,  -- the latest time that was ever seen, seconds since 1970
        traces INTEGER NOT NULL  -- how many erasures may have left bytes in the file
    );
    INSERT INTO state VALUES (1, 0, 0);
    """,
)


class Database:
    """One file, opened anew for each transaction, so that threads may share an instance.

    A process that is forked while another thread is in a transaction must not use SQLite: start it anew (spawn).

    Args:
        file: SQLite file, made with its folder at the first writing; both for the user's eyes alone.
        timeout_s: seconds to wait for other processes.
    """

    def __init__(self, file: Path, timeout_s: float):
        self.file = file
        self._timeout_s = timeout_s

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The store as of one moment; empty where there is no file. SampleStoreError where it cannot be read."""
        with self._connection(self._reading_uri()) as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: on disk when the block ends, or nothing of it. SampleStoreError where it cannot be written."""
        with self._connection(self._writing_uri()) as connection, _transaction(connection):
            yield connection

    def scrub(self) -> None:
        """Take the bytes of what was erased out of the file and of the -wal beside it.

        Whoever erases counts state.traces up in the same transaction, so that a process killed before this is made up
        for.

        Raises:
            SampleStoreError: another process reads for longer than the timeout, or the disk is full; it has to be
                called again.
        """
        with self._connection(self._writing_uri()) as connection:
            traces = connection.execute("SELECT traces FROM state").fetchone()[0]
            # secure_delete has overwritten the bytes where they lay; this also gives their room back.
            connection.execute("VACUUM")
            if not self._patiently(lambda: not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]):
                raise SampleStoreError(
                    f"sample store {self.file}: the samples are erased, but another process reads it, so that their "
                    "bytes cannot leave the file yet: repeat in a moment, or wait for the daily retention"
                )
            connection.execute("UPDATE state SET traces = max(0, traces - ?)", (traces,))

    def _patiently(self, attempt: Callable[[], bool]) -> bool:
        """Whether an attempt succeeds within the timeout; a few locks SQLite refuses at once, whatever its own."""
        deadline = time.monotonic() + self._timeout_s
        while not (done := attempt()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return done

    @contextmanager
    def _connection(self, uri: str) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(uri, uri=True, timeout=self._timeout_s, isolation_level=None)
            with closing(connection):
                self._prepare(connection)
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise explain(self.file, error) from error

    def _reading_uri(self) -> str:
        if not self.file.exists():
            return "file::memory:"
        unwritten = self._is_unwritten()
        full = unwritten and shutil.disk_usage(self.file.parent).free < SHM_BYTES
        if os.access(self.file.parent, os.W_OK) and os.access(self.file, os.W_OK) and not full:
            return f"{self.file.absolute().as_uri()}?mode=rw"
        # Readers too write to the -shm beside a file in WAL mode, unless it is said that nobody writes at all.
        return f"{self.file.absolute().as_uri()}?mode=ro" + ("&immutable=1" if unwritten else "")

    def _is_unwritten(self) -> bool:
        """Whether all that was written is in the file itself."""
        try:  # whoever closes it last takes the -wal away, at any moment
            return not os.stat(f"{self.file}-wal").st_size
        except FileNotFoundError:
            return True

    def _writing_uri(self) -> str:
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise explain(self.file, error) from error
        return f"{self.file.absolute().as_uri()}?mode=rwc"

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")  # no face reaches the folder of temporary files
        if self._format(connection) < len(MIGRATIONS):
            if self.file.exists():  # not in memory
                # By name: to open and close it beside SQLite would drop the locks of this process's other threads.
                self.file.chmod(0o600)
            self._patiently(lambda: _use_wal(connection))
            with _transaction(connection):
                # Asked again, since another process may have been faster.
                for script in MIGRATIONS[self._format(connection) :]:
                    for statement in _statements(script):
                        connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _format(self, connection: sqlite3.Connection) -> int:
        """The file's format, 0 where it is empty; SampleStoreError where it is no store, or of a newer format."""
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if empty and not version:
            return 0
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise SampleStoreError(f"{self.file} is another program's database: move it away, or set FACE_MTL_HOME")
        if version > len(MIGRATIONS):
            raise SampleStoreError(
                f"sample store {self.file} is of format {version}, and this version of face_mtl_ros knows formats up "
                f"to {len(MIGRATIONS)}: update face_mtl_ros, or set FACE_MTL_HOME to another place"
            )
        return version


def _use_wal(connection: sqlite3.Connection) -> bool:
    """Put the file into WAL mode, where it stays; False where another process is about to do the same."""
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        return False
    return True


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself rolls back where the disk is full
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """A script's statements one by one: executescript would end the transaction."""
    statement = ""
    for part in script.split(";"):
        statement += f"{part};"
        if part.strip() and sqlite3.complete_statement(statement):
            yield statement
            statement = ""
