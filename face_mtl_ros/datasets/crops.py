"""A dataset's pictures as aligned crops, made once and kept on disk."""

import hashlib
import logging
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from ..paths import cache_dir
from ..vision.alignment import CROP_SIZE, align
from .dataset import Dataset, DatasetError

MARGIN = 16  # pixels around the crop in which augmentation may turn, shift and shrink
REPORT_EVERY_S = 10.0
log = logging.getLogger(__name__)


def load_crops(dataset: Dataset, margin: int = MARGIN) -> np.ndarray:
    """Read and align all pictures; what takes long is reported through logging.

    The result is kept under FACE_MTL_HOME/cache/crops, under a key over the files' names, sizes and times, the framing
    and the crop's size; nothing else of a dataset is ever copied.

    Returns:
        uint8 (n, 128 + 2 margin, 128 + 2 margin) grey, mapped from disk, read-only.

    Raises:
        DatasetError: a picture cannot be read.
        OSError: the disk is too full for the crops.
    """
    file = cache_dir() / "crops" / f"{dataset.name}-{dataset.split}-{cache_key(dataset, margin)}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}-{id(dataset)}.partial")
        try:
            _write_crops(dataset, margin, partial)
            partial.replace(file)  # only a whole file gets the name under which it is looked for
        finally:
            partial.unlink(missing_ok=True)
    return np.load(file, mmap_mode="r")


def _write_crops(dataset: Dataset, margin: int, file: Path) -> None:
    shape = (len(dataset), CROP_SIZE + 2 * margin, CROP_SIZE + 2 * margin)
    needed, free = int(np.prod(shape)), shutil.disk_usage(file.parent).free
    if needed > free:  # asked first, since writing to a mapped file on a full disk ends the process
        raise OSError(f"{file.parent} has {free >> 20} MB left and the crops need {needed >> 20}: set FACE_MTL_HOME")
    crops = np.lib.format.open_memmap(file, "w+", np.uint8, shape)

    def write(i: int) -> None:
        crops[i] = dataset_crop(dataset, i, margin)

    reported = time.monotonic()
    with ThreadPoolExecutor() as pool:
        for done, _ in enumerate(pool.map(write, range(len(dataset))), start=1):
            if time.monotonic() - reported >= REPORT_EVERY_S:
                reported = time.monotonic()
                log.info("crops of %s %s: %d of %d", dataset.name, dataset.split, done, len(dataset))
    crops.flush()


def dataset_crop(dataset: Dataset, i: int, margin: int = 0) -> np.ndarray:
    """Sample i as an aligned crop, uint8 (128 + 2 margin, 128 + 2 margin); DatasetError where it cannot be read."""
    if dataset.read is None:
        return read_crop(dataset.paths[i], dataset.framing, margin)
    return _align(dataset.read(i), dataset.framing, margin)


def some_crops(dataset: Dataset, limit: int, rows: np.ndarray | None = None) -> np.ndarray:
    """At most `limit` pictures of the dataset, or of its rows, in a fixed order of chance, as uint8 (n, 128, 128)."""
    order = np.random.default_rng(0).permutation(np.arange(len(dataset)) if rows is None else rows)
    return np.stack([dataset_crop(dataset, int(row)) for row in order[:limit]])


def read_crop(path: Path, framing: np.ndarray, margin: int = 0) -> np.ndarray:
    """One picture file to an aligned crop, uint8 (128 + 2 margin, 128 + 2 margin).

    Raises:
        DatasetError: the file is missing or no picture.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise DatasetError(f"{path} is missing or cannot be read as a picture")
    return _align(picture, framing, margin)


def _align(picture: np.ndarray, framing: np.ndarray, margin: int) -> np.ndarray:
    height, width = picture.shape
    return align(picture, framing * np.array([width, height], np.float32), margin=margin)


def cache_key(dataset: Dataset, margin: int) -> str:
    """What a cache over the dataset's crops is filed under: it changes with the files, the framing and the margin."""
    digest = hashlib.sha256(f"{margin}{dataset.framing.tolist()}".encode())
    # Where one file holds all pictures it is asked once, and the ids say which of them.
    paths = dataset.paths if dataset.read is None else list(dict.fromkeys(dataset.paths))
    for path in paths:
        try:
            stat = path.stat()
        except FileNotFoundError:
            raise DatasetError(f"{path} is listed by the dataset's labels and missing") from None
        digest.update(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    if dataset.read is not None:
        digest.update("\n".join(dataset.ids).encode())
    return digest.hexdigest()[:16]
