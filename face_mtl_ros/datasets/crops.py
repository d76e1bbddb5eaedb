"""A dataset's pictures as aligned crops, made once and kept on disk."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from ..paths import cache_dir
from ..vision.alignment import CROP_SIZE, align
from .dataset import Dataset, DatasetError

MARGIN = 16  # pixels around the crop in which augmentation may turn, shift and shrink


def load_crops(dataset: Dataset, margin: int = MARGIN) -> np.ndarray:
    """Read and align all pictures.

    The result is kept under FACE_MTL_HOME/cache/crops, under a key over the files' names, sizes and times, the framing
    and the crop's size; nothing else of a dataset is ever copied.

    Returns:
        uint8 (n, 128 + 2 margin, 128 + 2 margin) grey, mapped from disk, read-only.

    Raises:
        DatasetError: a picture cannot be read.
    """
    file = cache_dir() / "crops" / f"{dataset.name}-{dataset.split}-{_key(dataset, margin)}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        side = CROP_SIZE + 2 * margin
        partial = file.with_suffix(f".{id(dataset)}.partial")
        crops = np.lib.format.open_memmap(partial, "w+", np.uint8, (len(dataset), side, side))
        with ThreadPoolExecutor() as pool:
            aligned = pool.map(lambda path: read_crop(path, dataset.framing, margin), dataset.paths)
            for i, crop in enumerate(aligned):
                crops[i] = crop
        crops.flush()
        partial.replace(file)  # only a whole file gets the name under which it is looked for
    return np.load(file, mmap_mode="r")


def read_crop(path: Path, framing: np.ndarray, margin: int = 0) -> np.ndarray:
    """One picture file to an aligned crop, uint8 (128 + 2 margin, 128 + 2 margin).

    Raises:
        DatasetError: the file is missing or no picture.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise DatasetError(f"{path} is missing or cannot be read as a picture")
    height, width = picture.shape
    return align(picture, framing * np.array([width, height], np.float32), margin=margin)


def _key(dataset: Dataset, margin: int) -> str:
    digest = hashlib.sha256(f"{margin}{dataset.framing.tolist()}".encode())
    for path in dataset.paths:
        try:
            stat = path.stat()
        except FileNotFoundError:
            raise DatasetError(f"{path} is listed by the dataset's labels and missing") from None
        digest.update(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
