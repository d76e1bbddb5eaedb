"""Which detectors there are, how one is chosen by name, and how YuNet's model gets onto the machine."""

import contextlib
import hashlib
import logging
import os
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from ..paths import detectors_dir
from .detection import Detector
from .detector_input import DetectorError
from .haar import HaarDetector
from .yunet import YUNET_FILE, YUNET_SHA256, YUNET_SIZE, YUNET_URL, YuNetDetector

__all__ = ["DETECTORS", "DetectorError", "install_yunet", "make_detector", "yunet_path"]

DETECTORS = ("auto", "haar", "yunet")

_REMEDY = "run `face-mtl detector install [--from FILE]`"
_TIMEOUT_S = 30
_CHUNK = 1 << 16

_logger = logging.getLogger(__name__)


def yunet_path() -> Path:
    """Where YuNet's model is installed, whether or not it is there."""
    return detectors_dir() / YUNET_FILE


def make_detector(name: str, **options: Any) -> Detector:
    """Make the detector of that name.

    Args:
        name: `haar` (embedded), `yunet` (must be installed), or `auto`: yunet where it is installed, else haar.
        options: passed to `HaarDetector` or `YuNetDetector`, of which `min_face` and `max_side` suit both.

    Raises:
        DetectorError: the name is unknown, or the detector's model is missing, corrupt or cannot be loaded.
        TypeError, ValueError: an option is unknown to the detector or out of its range.
    """
    if name not in DETECTORS:
        raise DetectorError(f"detector: {name!r} is unknown, choose one of {', '.join(DETECTORS)}")
    if name == "auto":
        installed = yunet_path().is_file()
        name = "yunet" if installed else "haar"
        why = f"{yunet_path()} is installed" if installed else f"{yunet_path()} is not installed ({_REMEDY})"
        _logger.info("detector auto takes %s: %s", name, why)
    return HaarDetector(**options) if name == "haar" else YuNetDetector(_verified_yunet(), **options)


def _verified_yunet() -> Path:
    path = yunet_path()
    if not path.is_file():
        raise DetectorError(f"detector yunet: its model {path} is not installed: {_REMEDY}")
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DetectorError(f"detector yunet: its model {path} cannot be read: {error.strerror}") from error
    if digest != YUNET_SHA256:
        raise DetectorError(
            f"detector yunet: its model {path} is corrupt (sha256 {digest}, expected {YUNET_SHA256}): {_REMEDY} again"
        )
    return path


def install_yunet(source: Path | None = None, progress: Callable[[int, int], None] | None = None) -> Path:
    """Put YuNet's model in place, verified; an installed one stays as it is if anything fails.

    Args:
        source: the model's file, already on this machine; None fetches it from YUNET_URL.
        progress: called with the bytes done and the bytes in all.

    Returns:
        The installed file.

    Raises:
        DetectorError: no network, no such file, the wrong file, or the target cannot be written.
    """
    target = yunet_path()
    with _opened(source) as stream, _writing(target) as part:
        digest = _copy(stream, part, str(source or YUNET_URL), progress)
        if digest != YUNET_SHA256:
            raise DetectorError(
                f"{source or YUNET_URL}: not YuNet's model {YUNET_FILE} (sha256 {digest}, expected {YUNET_SHA256})"
            )
    _logger.info("installed %s", target)
    return target


@contextlib.contextmanager
def _opened(source: Path | None) -> Iterator[IO[bytes]]:
    if source is None:
        _logger.info("fetching %s", YUNET_URL)
        try:
            stream = urllib.request.urlopen(YUNET_URL, timeout=_TIMEOUT_S)
        except OSError as error:  # URLError and time-outs are OSErrors
            reason = getattr(error, "reason", error)
            raise DetectorError(
                f"{YUNET_URL}: cannot be fetched ({reason}): get the file elsewhere and run "
                "`face-mtl detector install --from FILE`"
            ) from error
    else:
        if source.is_dir():
            raise DetectorError(f"{source}: is a folder, the file {YUNET_FILE} is expected")
        try:
            stream = source.open("rb")
        except OSError as error:
            raise DetectorError(f"{source}: cannot be read: {error.strerror}") from error
    with stream:
        yield stream


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[IO[bytes]]:
    """A file beside the target that takes its name when the block ends well, and disappears otherwise."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False)  # noqa: SIM115
    except OSError as error:
        raise DetectorError(f"{target.parent}: cannot be written: {error.strerror}") from error
    try:
        with part:
            yield part
            part.flush()
            os.fsync(part.fileno())
        os.chmod(part.name, 0o644)
        os.replace(part.name, target)
    except OSError as error:
        raise DetectorError(f"{target}: cannot be written: {error.strerror}") from error
    finally:
        Path(part.name).unlink(missing_ok=True)


def _copy(stream: IO[bytes], part: IO[bytes], name: str, progress: Callable[[int, int], None] | None) -> str:
    """Copy the stream, no more of it than the model is long, and return its sha256."""
    digest, done = hashlib.sha256(), 0
    while done <= YUNET_SIZE:
        try:
            chunk = stream.read(_CHUNK)
        except OSError as error:
            raise DetectorError(f"{name}: broke off after {done} of {YUNET_SIZE} bytes: {error}") from error
        if not chunk:
            break
        digest.update(chunk)
        part.write(chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, YUNET_SIZE)
    return digest.hexdigest()
