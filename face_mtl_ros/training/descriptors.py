"""What a foreign face descriptor says of a dataset, computed once and kept on disk, for columns that draw on it."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ..bundle.manifest import DescriptorRecord
from ..datasets.crops import cache_key
from ..datasets.dataset import Dataset, DatasetError
from ..file_lock import alone
from ..paths import cache_dir
from ..runtime.descriptor import Descriptor

REPORT_EVERY = 500  # pictures
Report = Callable[[str], None]
log = logging.getLogger(__name__)


def dataset_descriptors(dataset: Dataset, descriptor: Descriptor, report: Report = log.info) -> np.ndarray:
    """Describe every picture; kept under FACE_MTL_HOME/cache/descriptors.

    It sees the whole picture, in colour where that is in colour, with the landmarks where the dataset's framing has
    them: as much as on a robot, where a detector finds them. Augmentation does not reach it.

    Returns:
        float32 (n, dimensions) of length 1.

    Raises:
        DatasetError: a picture cannot be read.
    """
    which = file_key(descriptor.spec.record())
    name = f"{descriptor.spec.name}-{which}-{dataset.name}-{dataset.split}-{cache_key(dataset, 0)}.npy"
    file = cache_dir() / "descriptors" / name
    with alone(file.parent / ".lock", f"descriptors of {dataset.name} {dataset.split}"):
        if not file.exists():
            _describe(dataset, descriptor, file, report)
    return np.load(file)


def file_key(record: DescriptorRecord) -> str:
    """What tells files of one descriptor's vectors from another's: how a face becomes its input decides too."""
    return hashlib.sha256(json.dumps(record.identity, sort_keys=True).encode()).hexdigest()[:12]


def _describe(dataset: Dataset, descriptor: Descriptor, file: Path, report: Report) -> None:
    found = np.empty((len(dataset), descriptor.spec.dimensions), np.float32)
    for i in range(len(dataset)):
        picture = _picture(dataset, i)
        height, width = picture.shape[:2]
        found[i] = descriptor.describe(picture, [dataset.framing * np.array([width, height], np.float32)])[0]
        if (i + 1) % REPORT_EVERY == 0:
            report(f"{descriptor.spec.name} descriptors of {dataset.name} {dataset.split}: {i + 1} of {len(dataset)}")
    partial = file.with_suffix(".partial.npy")
    np.save(partial, found)
    partial.replace(file)  # only a whole file gets the name under which it is looked for


def _picture(dataset: Dataset, i: int) -> np.ndarray:
    """uint8 (h, w, 3) BGR, or (h, w) grey."""
    if dataset.read is not None:
        return dataset.read(i)
    picture = cv2.imread(str(dataset.paths[i]), cv2.IMREAD_COLOR)
    if picture is None:
        raise DatasetError(f"{dataset.paths[i]} is missing or cannot be read as a picture")
    return picture
