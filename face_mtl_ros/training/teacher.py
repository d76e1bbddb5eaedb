"""The descriptors that the embedding column learns from: dlib's ResNet over a dataset, computed once and kept."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch

from ..datasets.crops import cache_key, dataset_crop
from ..datasets.dataset import Dataset
from ..file_lock import alone
from ..paths import cache_dir
from ..vision.alignment import CROP_SIZE, TEMPLATE
from .dlib_resnet import DIMENSIONS, SIZE, DlibResNet, dat_file

MARGIN = 32  # pixels of surroundings that a chip needs around our tighter crop
BATCH = 8


def teacher_descriptors(dataset: Dataset, report: Callable[[str], None] = print) -> np.ndarray:
    """dlib's descriptor of every picture, kept under FACE_MTL_HOME/cache/descriptors.

    Returns:
        float32 (n, 128), as dlib gives them: two of one person lie closer than 0.6.

    Raises:
        ModuleNotFoundError: the `teacher` extra is not installed.
    """
    file = cache_dir() / "descriptors" / f"dlib-{dataset.name}-{dataset.split}-{cache_key(dataset, MARGIN)}.npy"
    with alone(file.parent / ".lock", f"descriptors of {dataset.name} {dataset.split}"):
        if not file.exists():
            _describe(dataset, file, report)
    return np.load(file)


def _describe(dataset: Dataset, file: Path, report: Callable[[str], None]) -> None:
    network = _compiled()
    found = np.empty((len(dataset), DIMENSIONS), np.float32)
    for start, chips in _chips(dataset):
        found[start : start + len(chips)] = network(chips.transpose(0, 3, 1, 2).astype(np.float32))
        if start % (64 * BATCH) == 0:
            report(f"descriptors of {dataset.name} {dataset.split}: {start} of {len(dataset)}")
    partial = file.with_suffix(".partial.npy")
    np.save(partial, found)
    partial.replace(file)


def _compiled() -> Callable[[np.ndarray], np.ndarray]:
    """The network compiled by OpenVINO, float32 (n, 3, 150, 150) to (n, 128)."""
    import openvino

    example = torch.zeros(2, 3, SIZE, SIZE)
    model = openvino.convert_model(DlibResNet(dat_file()), example_input=example, input=[-1, 3, SIZE, SIZE])
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda chips: compiled(chips)[0]


def _chips(dataset: Dataset) -> Iterator[tuple[int, np.ndarray]]:
    """Batches of uint8 RGB (n, 150, 150, 3) chips with the index of their first picture."""
    import dlib

    predictor = dlib.shape_predictor(str(dat_file("shape_predictor_5_face_landmarks.dat")))
    box = _box(dlib)

    def chip(i: int) -> np.ndarray:
        picture = cv2.cvtColor(dataset_crop(dataset, i, MARGIN), cv2.COLOR_GRAY2RGB)
        return dlib.get_face_chip(picture, predictor(picture, box), size=SIZE, padding=0.25)

    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(dataset), BATCH):
            yield start, np.stack(list(pool.map(chip, range(start, min(start + BATCH, len(dataset))))))


def _box(dlib):
    """Where dlib's detector would frame the face of an aligned crop: from above the brows to below the mouth."""
    eyes, mouth = TEMPLATE[:2].mean(0), TEMPLATE[3:].mean(0)
    height = (mouth[1] - eyes[1]) * 2.1
    centre = eyes * 0.45 + mouth * 0.55
    low, high = (centre - height / 2) * CROP_SIZE + MARGIN, (centre + height / 2) * CROP_SIZE + MARGIN
    return dlib.rectangle(*(int(v) for v in (*low, *high)))
