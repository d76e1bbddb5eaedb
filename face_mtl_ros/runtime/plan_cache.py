"""Compiled engines on disk, each behind a line that says what it is: only what was asked for, and whole, is loaded."""

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from .. import __version__
from ..bundle.bundle import Bundle
from ..bundle.files import write_atomically
from ..file_lock import alone
from ..paths import cache_dir
from .buckets import BUCKETS
from .bundle_key import bundle_key
from .engine_cache import InUse, hold
from .int8_model import GPU, read_int8

logger = logging.getLogger(__name__)

LONGEST_HEADER = 1 << 16
Key = dict[str, str]  # all that an engine was made from and for


def plan_key(bundle: Bundle, library: ModuleType, precision: str, target: str) -> Key:
    """What an engine compiled by TensorRT is known by.

    Args:
        library: what tensorrt_library.load_library gave.
        target: with TensorRT for RTX the kind of GPU that it was compiled for, whichever of that kind it runs on; with
            TensorRT the very GPU, by capability and name.

    Raises:
        EngineError: in "int8" there is no INT8 model, which decides the engine too.
    """
    calibrated = {"calibrated": hashlib.sha256(read_int8(bundle, GPU)).hexdigest()} if precision == "int8" else {}
    return {
        **calibrated,
        "model": bundle_key(bundle),
        "package": __version__,
        "library": library.__name__,
        "version": library.__version__,
        "precision": precision,
        "target": target,
        "batches": f"1 to {BUCKETS[-1]}",
    }


def plans_dir() -> Path:
    """Where engines lie, also those that were compiled elsewhere; RuntimeError where the user has no home folder."""
    return cache_dir() / "tensorrt"


def file_name(key: Key, suffix: str = "engine") -> str:
    """The precision to read and 24 hex digits of the key's sha256 to tell all else apart."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return f"{key['precision']}-{digest[:24]}.{suffix}"


def write_plan(file: Path, key: Key, plan: bytes) -> None:
    """Write an engine, atomically; OSError where that cannot be done."""
    header = {**key, "sha256": hashlib.sha256(plan).hexdigest()}
    write_atomically(file, json.dumps(header, sort_keys=True).encode() + b"\n" + plan)


def read_plan(file: Path, key: Key) -> bytes | None:
    """The engine in a file, None where there is none; one of another key, or not whole, is logged and None too."""
    try:
        with file.open("rb") as data:
            line, plan = data.readline(LONGEST_HEADER), data.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("%s cannot be read: %s; compiling anew", file, error.strerror)
        return None
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        logger.warning("%s is no engine of this package; compiling anew", file)
        return None
    digest = header.pop("sha256", None)
    if header != key:
        names = ", ".join(sorted(name for name in key if header.get(name) != key[name])) or "its key"
        logger.warning("%s is an engine for something else (%s); compiling anew", file, names)
        return None
    if hashlib.sha256(plan).hexdigest() != digest:
        logger.warning("%s is cut or corrupt; compiling anew", file)
        return None
    return plan


def cached_plan(key: Key, build: Callable[[], bytes], engine: str = "tensorrt", suffix: str = "engine") -> bytes:
    """The engine from FACE_MTL_HOME/cache/<engine>, or built and put there, by one process at a time.

    Where the folder cannot be written, a warning says so and nothing is kept.
    """
    try:
        file = cache_dir() / engine / file_name(key, suffix)
    except RuntimeError as error:  # the user has no home folder
        return _unkept(error, build)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(alone(file.with_suffix(".lock"), f"compiling {file.name}"))
        except OSError as error:
            return read_plan(file, key) or _unkept(error, build)
        plan = read_plan(file, key)
        if plan is None:
            plan = build()
            try:
                write_plan(file, key, plan)
            except OSError as error:
                _warn(error)
        return plan


def replace_plan(key: Key, plan: bytes, engine: str, suffix: str) -> None:
    """Put another engine where `cached_plan` found one that was whole and yet is not taken."""
    try:
        write_plan(cache_dir() / engine / file_name(key, suffix), key, plan)
    except OSError as error:
        _warn(error)


def load(key: Key, suffix: str) -> bytes | None:
    """What `keep` kept beside the engines; None where there is nothing of this key."""
    try:
        return read_plan(plans_dir() / file_name(key, suffix), key)
    except RuntimeError:
        return None


def keep(key: Key, suffix: str, data: bytes) -> None:
    """Keep what saves time at the next start, where the folder can be written."""
    try:
        write_plan(plans_dir() / file_name(key, suffix), key, data)
    except (OSError, RuntimeError) as error:
        logger.debug("%s are not kept: %s", suffix, error)


def held(key: Key, suffix: str = "engine", engine: str = "tensorrt") -> InUse | None:
    """What was kept, not to be removed as long as the returned object lives; None where nothing was."""
    try:
        return hold(cache_dir() / engine / file_name(key, suffix))
    except RuntimeError:
        return None


def _unkept(error: Exception, build: Callable[[], bytes]) -> bytes:
    _warn(error)
    return build()


def _warn(error: Exception) -> None:
    logger.warning(
        "compiled engines are not kept, so each start compiles anew: %s; set FACE_MTL_HOME to a folder that can be "
        "written",
        error,
    )
