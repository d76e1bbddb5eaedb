"""What only one process may do at a time."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)


@contextmanager
def claimed(file: Path) -> Iterator[bool]:
    """Whether the lock is this process's for the time being; nobody is waited for. Otherwise as `alone`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
        OSError: the file cannot be made.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for another process: %s", work)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
