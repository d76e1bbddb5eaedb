"""What the tests of on-site training share: a small model with an embedding, a store with samples, jobs and workers."""

import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_world import SHAPES, TINY

from face_mtl_ros.bundle.bundle import Bundle, Tensors, load_bundle, with_column, write_manifest
from face_mtl_ros.bundle.files import write_tensors
from face_mtl_ros.bundle.versions import ModelVersions
from face_mtl_ros.runtime.descriptor import DescriptorSpec, install_descriptor
from face_mtl_ros.runtime.random_bundle import write_random_bundle
from face_mtl_ros.samples.sample import Picture
from face_mtl_ros.samples.store import SampleStore
from face_mtl_ros.site_model import SiteModel
from face_mtl_ros.training.onsite import OnsiteTrainer
from face_mtl_ros.training.onsite_jobs import Order, Progress
from face_mtl_ros.training.onsite_worker import run_job
from face_mtl_ros.vision.alignment import TEMPLATE

# The worker process as it is, but that it knows the preset `tiny`.
TINY_WORKER = (
    sys.executable,
    "-c",
    f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r});"
    "from tiny_world import TINY; from face_mtl_ros.networks.presets import PRESETS; PRESETS['tiny'] = TINY;"
    "from face_mtl_ros.training.onsite_worker import main; sys.exit(main(sys.argv[1:]))",
)


def write_model(root: Path) -> Bundle:
    """A bundle of random weights: two classifiers, of which one draws on the other, and an embedding.

    The first and the embedding have a skip connection.
    """
    columns = {"emotion": (["neutral", "happiness"], []), "gender": (["male", "female"], ["emotion"])}
    bundle = write_random_bundle(root, TINY.name, columns, name="default", skips=["emotion"])
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


# Jobs


class Listener:
    """Hears the progress, as a worker's reporter does."""

    def __init__(self):
        self.said: list[Progress] = []
        self.resumed = False

    def __call__(self, progress):
        self.said.append(progress.model_copy())


class LongListener(Listener):
    """Hears that of the long recipes too."""

    def training(self, epochs):
        self.epochs = epochs

    def say(self, line):
        assert line

    def log(self, step, figures):
        assert step >= 1 and figures


def order_of(store, base, task="shapes", kind="classification", sources=("emotion",), **changes) -> Order:
    """What a worker is given for a task's samples."""
    labels = sorted({count.label for count in store.counts(task)})
    ids = [sample.id for sample in store.find(task)[::-1]]
    given = {
        "labels": labels,
        "values": [],
        "recipe": "fast",
        "time_budget_s": 30.0,
        "seed": 1,
        "requested_by": "a test",
    }
    given |= {"store": store.file, "threads": 1, "nice": 0, "sources": list(sources), **changes}
    return Order(task=task, kind=kind, base=base, sample_ids=ids, **given)


def make(store, base, work, **order) -> tuple[Bundle, Listener]:
    """A job's bundle, made in this process."""
    listener = Listener()
    work.mkdir(parents=True, exist_ok=True)
    return run_job(order_of(store, base, **order), work, listener), listener


# Workers of a few milliseconds: the job's folder is their argument.
SLEEP = (sys.executable, "-S", "-c", "import time; time.sleep(60)")
COPY = (
    "import shutil, pathlib, sys; shutil.copytree({}, pathlib.Path(sys.argv[1], 'work', 'bundle'), dirs_exist_ok=True);"
)


def worker_that(*code, **values):
    """A worker that says how far it is, and then does something."""
    says = f"import json, pathlib, sys; pathlib.Path(sys.argv[1], 'progress.json').write_text(json.dumps({values!r}));"
    return (sys.executable, "-S", "-c", says + "".join(code))


def finishing(bundle, **values):
    """A worker that has made a bundle."""
    return worker_that(COPY.format(repr(str(bundle.root))), state="evaluating", **values)


# Fixtures, which a test's module names as its own


@pytest.fixture
def store(home):
    return SampleStore()


@pytest.fixture
def site(home, tmp_path):
    """A model in use, of random weights."""
    ModelVersions("default").install(write_model(tmp_path / "model").root)
    return SiteModel("default")


@pytest.fixture
def start(store, site):
    """A trainer with a worker of one's choice, closed at the end."""
    opened = []

    def open_trainer(worker=SLEEP, **options):
        opened.append(OnsiteTrainer(store, site, threads=1, nice=0, worker=worker, **options))
        return opened[-1]

    yield open_trainer
    for trainer in opened:
        trainer.close()


@pytest.fixture
def grown(store, site, tmp_path):
    """A bundle with a column `shapes`, as the worker makes it."""
    collect(store, "shapes", count=5)
    return make(store, site.bundle().root, tmp_path / "grown")[0]


# A foreign descriptor


def install_random_descriptor(name: str, folder: Path, dimensions: int = 4, seed: int = 0) -> DescriptorSpec:
    """Install one of random products of the picture's 32x32 pixels; its ONNX file is written to the folder."""
    weight = np.random.default_rng(seed).normal(size=(dimensions, 32 * 32)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["face"], ["flat"]), helper.make_node("Gemm", ["flat", "w"], ["y"], transB=1)],
        "random",
        [helper.make_tensor_value_info("face", TensorProto.FLOAT, [1, 1, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, dimensions])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    file = folder / f"{name}-{seed}.onnx"
    onnx.save(model, str(file))
    config = {
        "dimensions": dimensions,
        "size": [32, 32],
        "channels": "grey",
        "mean": [128.0],
        "std": [64.0],
        "template": TEMPLATE.tolist(),
        "source": "this test",
    }
    return install_descriptor(name, config, file)
