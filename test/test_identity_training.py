"""Identity columns trained from datasets: whom they call unknown."""

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch, which the train extra installs")
pytest.importorskip("kornia", reason="augmentation needs kornia, which the train extra installs")
pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics, which the train extra installs")

import tiny_world  # noqa: E402
from onsite_world import write_model  # noqa: E402
from tiny_world import QUICK, draw_pictures, quiet, read_as, single_step  # noqa: E402

from face_mtl_ros.bundle.bundle import PROTOTYPES  # noqa: E402
from face_mtl_ros.cli import main  # noqa: E402
from face_mtl_ros.datasets.dataset import DatasetError  # noqa: E402
from face_mtl_ros.datasets.registry import read_dataset  # noqa: E402
from face_mtl_ros.runtime.random_bundle import write_random_bundle  # noqa: E402
from face_mtl_ros.training.production import ColumnOrder, make_column  # noqa: E402

tiny, pictures, train, val = tiny_world.tiny, tiny_world.pictures, tiny_world.train, tiny_world.val


@pytest.fixture
def bundle(tmp_path):
    """Random weights, no column."""
    return write_random_bundle(tmp_path / "bundle", "tiny", {})


def test_an_identity_column_calls_strangers_unknown(tmp_path, pictures, capsys):
    root = write_random_bundle(tmp_path / "bundle", "tiny", {}).root
    # Among the strangers is somebody who is known, and not one of them.
    strangers = draw_pictures(tmp_path / "strangers", ("noise", "stripes"))
    sets = {split: read_dataset("folder", pictures, split, task="identity") for split in ("train", "val")}
    others = read_dataset("folder", strangers, "all", task="identity")
    order = ColumnOrder("identity", [sets["train"]], [sets["val"]], kind="identity", strangers=[others])
    made = make_column(root, order, QUICK, "", quiet)
    rule = made.manifest.column("identity").open_set
    assert rule.method in ("energy", "probability") and rule.strangers_refused >= 0.95
    known = [str(path) for path in sets["val"].paths]
    assert main(["analyze", *known, str(strangers / "noise"), "--model", str(root), "--crops", "--json"]) == 0
    said = [json.loads(line)["faces"][0]["attributes"][0]["label"] for line in capsys.readouterr().out.splitlines()]
    # The rule's shares are what a robot will see, but for a picture at the threshold, which is scaled otherwise there.
    kept = [label == path.parent.name for label, path in zip(said, sets["val"].paths, strict=False)]
    assert abs(np.mean(kept) - rule.known_kept) <= 1 / len(known) + 1e-6
    assert said[len(known) :].count("unknown") >= 27


def test_without_strangers_people_are_strangers_to_each_other(tmp_path):
    root = write_model(tmp_path / "bundle").root
    pictures = draw_pictures(tmp_path / "people", ("disc", "stripes", "bars", "noise"))
    sets = [read_dataset("folder", pictures, split, task="identity") for split in ("train", "val")]
    made = make_column(root, ColumnOrder("identity", sets[:1], sets[1:], kind="identity"), QUICK, "", quiet)
    rule = made.manifest.column("identity").open_set
    assert rule.method == "embedding" and 0 < rule.known_kept <= 1 and 0 <= rule.strangers_refused <= 1
    means = made.columns["identity"][PROTOTYPES]
    assert len(means) == 4
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), 1, rtol=1e-5)


def test_people_may_be_a_task_of_any_name(bundle, tmp_path, train, val):
    others = read_dataset("folder", draw_pictures(tmp_path / "strangers", ("noise", "disc")), "val", task="identity")
    sets = [read_as(dataset, "guest") for dataset in (train, val)]
    order = ColumnOrder("guest", sets[:1], sets[1:], kind="identity", strangers=[others])
    made = make_column(bundle.root, order, single_step(), "", quiet)
    assert made.manifest.column("guest").open_set.strangers_refused >= 0.95


def test_strangers_who_are_all_known_are_refused(bundle, train, val):
    sets = [read_as(dataset, "identity") for dataset in (train, val)]
    order = ColumnOrder("identity", sets[:1], sets[1:], kind="identity", strangers=sets[1:])
    with pytest.raises(DatasetError, match="folder has no stranger: the column knows everybody in its split 'val'"):
        make_column(bundle.root, order, single_step(), "", quiet)
