"""What a column begins with: a head's convolutions, which may also stay as they are."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which the train extra installs")
pytest.importorskip("kornia", reason="augmentation needs kornia, which the train extra installs")
pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics, which the train extra installs")

import tiny_world  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from tiny_world import QUICK, TINY, quiet, single_step  # noqa: E402

from face_mtl_ros.networks.column import Column  # noqa: E402
from face_mtl_ros.runtime.predictor import Predictor  # noqa: E402
from face_mtl_ros.runtime.random_bundle import write_random_bundle  # noqa: E402
from face_mtl_ros.runtime.torch_engine import TorchEngine  # noqa: E402
from face_mtl_ros.training.columns import begin_with  # noqa: E402
from face_mtl_ros.training.encoder_production import make_encoder  # noqa: E402
from face_mtl_ros.training.production import ColumnOrder, make_column  # noqa: E402
from face_mtl_ros.training.scoring import column_logits  # noqa: E402

tiny, pictures, train, val = tiny_world.tiny, tiny_world.pictures, tiny_world.train, tiny_world.val


@pytest.fixture
def bundle(tmp_path):
    """Random weights and one column."""
    return write_random_bundle(tmp_path / "bundle", "tiny", {"older": (["a", "b", "c"], [])})


def test_a_column_begins_with_a_heads_convolutions_also_beside_sources(tmp_path, train, val):
    pre = make_encoder(tmp_path / "pre", "tiny", "tiny", [train], single_step(), "", quiet)
    head = pre.root / "heads" / "label.safetensors"
    weights = load_file(head)
    alone, beside = Column(TINY, 2, 0), Column(TINY, 2, 1)
    lateral = beside.layers[3].conv.weight[:, weights["layers.3.conv.weight"].shape[1] :].detach().clone()
    for column in (alone, beside):
        assert begin_with(column, weights) >= 24
        for i, layer in enumerate(column.layers):
            head_weight = weights[f"layers.{i}.conv.weight"]
            assert torch.equal(layer.conv.weight[:, : head_weight.shape[1]], head_weight)
            assert torch.equal(layer.norm.running_mean, weights[f"layers.{i}.norm.running_mean"])
    torch.testing.assert_close(beside.layers[3].conv.weight[:, -lateral.shape[1] :], 0.1 * lateral)
    still = single_step(learning_rate=1e-9)
    order = ColumnOrder("label", [train], begin=head)
    made = make_column(pre.root, order, still, "", quiet)
    np.testing.assert_allclose(
        made.columns["label"]["layers.5.conv.weight"], weights["layers.5.conv.weight"], atol=1e-6
    )
    # Beside a skip connection the hidden layer is another one.
    skipping = make_column(pre.root, replace(order, skip=True, replace=True), still, "", quiet)
    assert skipping.manifest.column("label").skip
    np.testing.assert_allclose(
        skipping.columns["label"]["layers.5.conv.weight"], weights["layers.5.conv.weight"], atol=1e-6
    )
    assert skipping.columns["label"]["hidden.weight"].shape[1] > weights["hidden.weight"].shape[1]
    assert not np.allclose(skipping.columns["label"]["classifier.weight"], weights["classifier.weight"], atol=1e-3)


@pytest.mark.parametrize("views", [0, 2])
def test_the_last_layers_alone_are_trained_beside_convolutions_that_are_begun_with(bundle, train, views):
    begin = bundle.root / "columns" / "older.safetensors"
    order = ColumnOrder("label", [train], begin=begin, sources=["older"], skip=True, last_layers=True)
    made = make_column(bundle.root, order, replace(QUICK, views=views, augment=True, plain_end=0.5), "", quiet)
    before = {name: value.numpy() for name, value in load_file(begin).items()}
    after = made.columns["label"]
    convolutions = [name for name in before if name.startswith("layers.")]
    assert len(convolutions) > 24
    for name in convolutions:
        own = tuple(slice(size) for size in before[name].shape)  # beside them is what is lateral
        np.testing.assert_array_equal(after[name][own], before[name], err_msg=name)
        assert after[name].sum() == pytest.approx(before[name].sum(), abs=1e-3), name  # what is lateral has no say
    predictor = Predictor(made, TorchEngine(made, "cpu"))
    logits, labels = column_logits(predictor, "label", train)
    assert (logits.argmax(1) == labels).mean() > 0.8
    assert made.manifest.column("label").provenance.begun_from is not None
    for missing in ({"begin": None}, {"retrain_encoder": True}):
        with pytest.raises(ValueError, match="last_layers: give it `begin`"):
            replace(order, **missing)


def test_what_cannot_be_begun_with_is_refused(bundle, tmp_path, train):
    save_file({"layers.0.conv.weight": torch.zeros(2, 2, 3, 3)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    for file, says in (
        ("other", "none of its 1 weights fits the column"),
        ("text", "text.safetensors is no safetensors file"),
        ("none", "none.safetensors is no safetensors file that can be read"),
    ):
        order = ColumnOrder("label", [train], begin=tmp_path / f"{file}.safetensors")
        with pytest.raises(ValueError, match=f"^begin: .*{says}"):
            make_column(bundle.root, order, single_step(), "", quiet)
