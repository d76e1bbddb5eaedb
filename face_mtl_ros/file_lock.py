"""What only one process may do at a time."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)


@contextmanager
def claimed(file: Path) -> Iterator[bool]:
    """Whether the lock is this process's for the time being; nobody is waited for. Otherwise as `alone`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        try:
            _flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


@contextmanager
def alone(file: Path, work: str) -> Iterator[None]:
    """Hold a lock file, which is made if need be; a process that was killed holds none.

    Args:
        file: the lock; it stays behind, empty, for whoever removed it would let a third process in.
        work: what is done under it, for the log line of a process that has to wait.

    Raises:
        OSError: the file cannot be made, or its filesystem knows no locks.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        try:
            _flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for another process: %s", work)
            _flock(lock, fcntl.LOCK_EX)
        yield


def _flock(lock: IO, operation: int) -> None:
    try:
        fcntl.flock(lock, operation)
    except BlockingIOError:
        raise
    except OSError as error:  # which names no file
        raise OSError(
            f"{lock.name} cannot be locked ({error.strerror}): put its folder on a filesystem that honours flock"
        ) from error
