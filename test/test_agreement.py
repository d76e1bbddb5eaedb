"""Every engine that is here, in every precision that it has, against torch in fp64, with the model that ships.

On crops of the bundled portraits; and with FACE_MTL_DATA, the folder with the published data, on 1,000 real ones.
"""

import os
import re
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest

from face_mtl_ros.bundle.bundle import load_bundle
from face_mtl_ros.runtime.engine import EngineError
from face_mtl_ros.runtime.engines import make_engine
from face_mtl_ros.runtime.predictor import softmax
from face_mtl_ros.vision.alignment import align, normalize
from face_mtl_ros.vision.detectors import make_detector

torch = pytest.importorskip("torch", reason="the reference is torch, which the train extra installs")

MODEL = Path(__file__).parents[1] / "models" / "default"
PRECISIONS = {
    "openvino": ("fp32", "bf16", "fp16"),
    "onnxruntime": ("fp32", "fp16"),
    "torch": ("fp32", "bf16", "fp16"),
    "tensorrt": ("fp32", "bf16", "fp16"),
}
WAYS = [(name, precision) for name, able in PRECISIONS.items() for precision in able]
# Of a probability: at most, and for 9 of 10 faces. bf16 rounds to eight bits, layer upon layer.
LARGEST = {"fp32": 1e-4, "bf16": 4e-2, "fp16": 1e-2}
USUAL = {"fp32": 1e-4, "bf16": 1.5e-2, "fp16": 1e-2}
# Share of faces and tasks with the same first label, at least. Rounding turns those that lie between two classes, so
# eight groups of age, of which the model takes one in three for a neighbour, may lie as much below.
SAME = {"fp32": 1.0, "bf16": 0.995, "fp16": 0.995, "int8": 0.98}
NOT_HERE = "not installed|cannot be had|needs an NVIDIA GPU|needs cuda-bindings|cannot run its engine"
REAL = {"ferplus": "ferplus", "utkface": "UTKFace"}
BATCH = 50


@pytest.fixture(autouse=True)
def own_home(home):
    """Nothing compiled or calibrated before takes part."""


@pytest.fixture(scope="module")
def bundle():
    bundle = load_bundle(MODEL)
    assert not bundle.manifest.descriptors, "the model that ships needs no foreign descriptor"
    return bundle


@pytest.fixture(scope="module")
def portraits():
    """The bundled faces as a tracker cuts them: a little turned, shifted, near and far, dark and noisy."""
    rng = np.random.default_rng(0)
    crops = []
    for name in ("astronaut.jpg", "grace_hopper.jpg"):
        image = cv2.imread(str(files("face_mtl_ros") / "assets" / name))
        points = max(make_detector("haar").detect(image), key=lambda found: found.box[2]).points
        for _ in range(16):
            crop = align(image, points + rng.normal(0, 0.04 * np.ptp(points[:, 0]), points.shape))
            noisy = crop * rng.uniform(0.4, 1) + rng.normal(0, rng.uniform(0, 8), crop.shape)
            crops.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return prepare(crops)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """500 crops each of FER+ and UTKFace for which nothing was trained, and 128 each of the training's."""
    from face_mtl_ros.datasets.crops import dataset_crop
    from face_mtl_ros.datasets.registry import read_dataset

    folder = Path(os.environ.get("FACE_MTL_DATA", "/nowhere"))
    found: dict[str, list[np.ndarray]] = {"val": [], "train": []}
    for name, place in REAL.items():
        if not (folder / place).is_dir():
            pytest.skip(f"FACE_MTL_DATA names no folder with the published data of {name}")
        for split, most in (("val", 500), ("train", 128)):
            dataset = read_dataset(name, folder / place, split)
            rows = np.random.default_rng(0).permutation(len(dataset))[:most]
            found[split] += [dataset_crop(dataset, int(row)) for row in rows]
    return {split: prepare(crops) for split, crops in found.items()}


def prepare(crops):
    return normalize(np.stack(crops)[:, None].astype(np.float32))


def reference(bundle, crops):
    """Task to probabilities, float64 (n, classes)."""
    from face_mtl_ros.bundle.network import build_network

    network = build_network(bundle).double()
    tasks = [column.task for column in bundle.manifest.columns if column.kind != "embedding"]
    with torch.inference_mode():
        parts = [network(torch.from_numpy(crops[i : i + BATCH]).double()) for i in range(0, len(crops), BATCH)]
    return {task: torch.softmax(torch.cat([part[task] for part in parts]), 1).numpy() for task in tasks}


@pytest.fixture(scope="module")
def expected_of_portraits(bundle, portraits):
    return reference(bundle, portraits)


@pytest.fixture(scope="module")
def expected_of_real(bundle, real):
    return reference(bundle, real["val"])


def answers(bundle, name, precision, crops, tasks):
    try:
        engine = make_engine(bundle, name, precision=precision)
    except EngineError as error:
        if not re.search(NOT_HERE, str(error)):
            raise
        pytest.skip(str(error))
    assert engine.precision == precision
    parts = [engine.run(crops[i : i + BATCH]) for i in range(0, len(crops), BATCH)]
    return {task: softmax(np.concatenate([part[task] for part in parts])) for task in tasks}


def assert_agrees(found, expected, precision):
    same = {task: np.mean(found[task].argmax(1) == values.argmax(1)) for task, values in expected.items()}
    assert np.mean(list(same.values())) >= SAME[precision], same
    assert min(same.values()) >= 2 * SAME[precision] - 1, same
    for task, probabilities in expected.items():
        if precision in LARGEST:
            off = np.abs(found[task] - probabilities).max(1)
            assert off.max() <= LARGEST[precision], f"{task}: off by {off.max():.2e}"
            assert np.quantile(off, 0.9) <= USUAL[precision], f"{task}: off by {np.quantile(off, 0.9):.2e}"


@pytest.mark.parametrize(("name", "precision"), WAYS)
def test_portraits(bundle, portraits, expected_of_portraits, name, precision):
    found = answers(bundle, name, precision, portraits, expected_of_portraits)
    assert_agrees(found, expected_of_portraits, precision)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "precision"), WAYS)
def test_real_crops(bundle, real, expected_of_real, name, precision):
    assert len(real["val"]) == 1000
    assert_agrees(answers(bundle, name, precision, real["val"], expected_of_real), expected_of_real, precision)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_real_crops_in_int8(bundle, real, expected_of_real, name):
    """With all columns quantised, also those that export would leave in fp32 for want of labels."""
    pytest.importorskip("onnxruntime", reason="the onnxruntime extra installs it")
    from face_mtl_ros.runtime.int8_model import CPU, int8_dir, int8_name, write_int8
    from face_mtl_ros.runtime.quantization import Quantizer

    model = Quantizer(bundle, real["train"]).quantize(CPU)
    write_int8(int8_dir() / int8_name(bundle, CPU), bundle, CPU, model, {})
    assert_agrees(answers(bundle, name, "int8", real["val"], expected_of_real), expected_of_real, "int8")
