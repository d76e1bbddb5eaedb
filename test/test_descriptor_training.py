"""A column that draws on a foreign face descriptor: trained, evaluated and read by the commands."""

import json

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which the train extra installs")
pytest.importorskip("kornia", reason="augmentation needs kornia, which the train extra installs")
pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics, which the train extra installs")

from onsite_world import install_random_descriptor  # noqa: E402
from tiny_world import draw_pictures, know_tiny, quiet, single_step  # noqa: E402

from face_mtl_ros.cli import main  # noqa: E402
from face_mtl_ros.datasets.registry import read_dataset  # noqa: E402
from face_mtl_ros.runtime.descriptor import DescriptorError  # noqa: E402
from face_mtl_ros.runtime.random_bundle import write_random_bundle  # noqa: E402
from face_mtl_ros.training.production import ColumnOrder, make_column  # noqa: E402


@pytest.fixture(autouse=True)
def descriptor(monkeypatch, home, tmp_path):
    """A descriptor of four numbers, installed: random products of the picture."""
    know_tiny(monkeypatch)
    return install_random_descriptor("four", tmp_path)


@pytest.fixture
def pictures(tmp_path):
    return draw_pictures(tmp_path / "pictures")


def test_it_is_trained_recorded_and_evaluated(descriptor, pictures, tmp_path, capsys):
    bundle = write_random_bundle(tmp_path / "bundle", "tiny", {"older": (["a", "b", "c"], [])})
    train, val = (read_dataset("folder", pictures, split) for split in ("train", "val"))
    order = ColumnOrder("label", [train], [val], sources=["older"], descriptor="four")
    made = make_column(bundle.root, order, single_step(), "face-mtl train", quiet)
    record = made.manifest.column("label")
    assert record.descriptor == descriptor.record()
    assert any(name.endswith("/accuracy") for name in record.metrics)
    # The adapter has left where it began: a scale of sqrt(d) and no bias.
    assert made.columns["label"]["foreign.scale"][0] != 2.0 and made.columns["label"]["foreign.reduce.bias"].any()
    # A column trained beside it evaluates through the same predictor, which has to know the older one's descriptor.
    order = ColumnOrder("shape", [_as(train, "shape")], [_as(val, "shape")], ["label"])
    newer = make_column(bundle.root, order, single_step(), "", quiet)
    assert newer.manifest.column("shape").descriptor is None
    arguments = ["--model", str(made.root), "--task", "label", "--dataset", "folder", "--root", str(pictures)]
    capsys.readouterr()
    assert main(["evaluate", *arguments, "--split", "val", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == len(val)


def test_one_that_is_not_installed_is_named_before_anything_is_trained(pictures, tmp_path):
    bundle = write_random_bundle(tmp_path / "bundle", "tiny", {"older": (["a", "b", "c"], [])})
    order = ColumnOrder("label", [read_dataset("folder", pictures, "train")], descriptor="none")
    with pytest.raises(DescriptorError, match="'none' is not installed"):
        make_column(bundle.root, order, single_step(), "", quiet)


def _as(dataset, task):
    dataset.classes[task], dataset.labels[task] = dataset.classes["label"], dataset.labels["label"]
    return dataset
