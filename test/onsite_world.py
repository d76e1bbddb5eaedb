"""What the tests of on-site training share: a small model with an embedding, a store with samples, and workers."""

import sys
from pathlib import Path

import cv2
import numpy as np
from tiny_world import SHAPES, TINY

from face_mtl_ros.bundle.bundle import Bundle, Tensors, load_bundle, with_column, write_manifest
from face_mtl_ros.bundle.files import write_tensors
from face_mtl_ros.runtime.random_bundle import write_random_bundle
from face_mtl_ros.samples.sample import Picture
from face_mtl_ros.samples.store import SampleStore

# The worker process as it is, but that it knows the preset `tiny`.
TINY_WORKER = (
    sys.executable,
    "-c",
    f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r});"
    "from tiny_world import TINY; from face_mtl_ros.networks.presets import PRESETS; PRESETS['tiny'] = TINY;"
    "from face_mtl_ros.training.onsite_worker import main; sys.exit(main(sys.argv[1:]))",
)


def write_model(root: Path) -> Bundle:
    """A bundle of random weights: two classifiers, of which one draws on the other, and an embedding."""
    columns = {"emotion": (["neutral", "happiness"], []), "gender": (["male", "female"], ["emotion"])}
    bundle = write_random_bundle(root, TINY.name, columns, name="default")
    return _with_embedding(bundle, bundle.columns["emotion"])


def _with_embedding(bundle: Bundle, like: Tensors) -> Bundle:
    """With an embedding column that is another column without sources, its logits taken for a descriptor."""
    record = bundle.manifest.column("emotion").model_copy(
        update={
            "task": "embedding",
            "kind": "embedding",
            "labels": [],
            "dimensions": len(like["classifier.bias"]),
            "file": write_tensors(bundle.root, "columns/embedding.safetensors", like),
        }
    )
    write_manifest(bundle.root, with_column(bundle.manifest, record))
    return load_bundle(bundle.root)


def crops_of(shape: str, count: int, seed: int = 0) -> list[np.ndarray]:
    """uint8 (160, 160) pictures of a shape, with noise so that no two are alike."""
    rng = np.random.default_rng((seed, len(shape)))
    drawn = [cv2.resize(SHAPES[shape](i, rng), (160, 160)) for i in range(count)]
    return [np.clip(crop + rng.normal(0, 4, crop.shape), 0, 255).astype(np.uint8) for crop in drawn]


def collect(store: SampleStore, task: str, labels=("disc", "stripes"), count: int = 6) -> None:
    """Store `count` pictures of each label, which is a shape."""
    for label in labels:
        store.add(task, label, [Picture(crop) for crop in crops_of(label, count)])
