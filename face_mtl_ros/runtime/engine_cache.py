"""How large the folders grow in which engines keep what they compiled: what was used longest ago goes first.

A robot that learns has a new model every few minutes, and compiled ones take up to some hundred megabytes each. An
entry is a file or a folder below FACE_MTL_HOME/cache/<engine>. It can be made again, unlike an INT8 model
(runtime.int8_model), which needs pictures and is never removed.
"""

import fcntl
import logging
import os
import shutil
import stat
import tempfile
import time
import weakref
from pathlib import Path

from ..file_lock import alone
from ..paths import cache_dir

logger = logging.getLogger(__name__)

ENGINES = ("openvino", "onnxruntime", "tensorrt")
WRITING_S = 3600.0
LIMIT_BYTES = 2 * 2**30  # all engines together
LOCK = ".lock"  # of those who hold and those who remove, and suffix of what runtime.plan_cache locks while it builds


class InUse:
    """An entry that no process removes as long as this object lives. It counts as used now.

    Attributes:
        entry: the file or folder.

    Raises:
        OSError: it is not there, or cannot be locked.
    """

    def __init__(self, entry: Path):
        self.entry = entry
        with alone(cache_dir() / LOCK, "making room for compiled engines"):
            descriptor = os.open(entry, os.O_RDONLY)
            weakref.finalize(self, os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            os.utime(entry)


def hold(entry: Path) -> InUse | None:
    """The entry in use; None where that cannot be said, and what was read of it has to do."""
    try:
        return InUse(entry)
    except OSError as error:
        logger.debug("%s is not held: %s", entry, error)
        return None


def own_folder(engine: str, name: str) -> InUse | None:
    """FACE_MTL_HOME/cache/<engine>/<name>, made if need be; None, with a warning, where it cannot be written.

    OpenVINO fails over such a folder, though it only saves time.
    """
    try:
        folder = cache_dir() / engine / name
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return InUse(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home folder
        logger.warning(
            "compiled models are not kept, so each start compiles anew: %s; set FACE_MTL_HOME to a folder that can be "
            "written",
            error,
        )
        return None


def prune(limit: int) -> list[Path]:
    """Remove what was used longest ago until all engines' entries take no more than `limit` bytes.

    What an engine of any process has in use stays, and so does what cannot be removed.

    Returns:
        The removed.
    """
    removed = []
    try:
        with alone(cache_dir() / LOCK, "making room for compiled engines"):
            sizes = {entry: _bytes(entry) for entry in _entries()}
            surplus = sum(sizes.values()) - limit
            for entry in sorted(sizes, key=_last_use):
                if surplus <= 0:
                    break
                if _remove(entry):
                    surplus -= sizes[entry]
                    removed.append(entry)
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home folder
        logger.debug("compiled engines are not looked through: %s", error)
    if removed:
        logger.info("removed %d compiled engines that were used longest ago", len(removed))
    return removed


def kept_bytes() -> int:
    """What all engines' entries take."""
    return sum(_bytes(entry) for entry in _entries())


def _entries() -> list[Path]:
    found = [entry for engine in ENGINES for entry in (cache_dir() / engine).glob("*")]
    return [entry for entry in found if entry.suffix != LOCK and not _is_being_written(entry)]


def _is_being_written(entry: Path) -> bool:
    """What begins with a dot is, unless a kill left it behind."""
    return entry.name.startswith(".") and time.time() - _last_use(entry) < WRITING_S


def _bytes(entry: Path) -> int:
    files = entry.rglob("*") if entry.is_dir() else [entry]
    return sum(status.st_size for file in files if (status := _status(file)) and stat.S_ISREG(status.st_mode))


def _last_use(entry: Path) -> float:
    status = _status(entry)
    return status.st_mtime if status else 0.0


def _status(file: Path) -> os.stat_result | None:
    """None where another process has removed it meanwhile."""
    try:
        return file.stat()
    except FileNotFoundError:
        return None


def _remove(entry: Path) -> bool:
    try:
        descriptor = os.open(entry, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        finally:
            os.close(descriptor)
    except OSError as error:  # BlockingIOError where it is in use
        logger.debug("%s stays: %s", entry, error)
        return False
    return True
