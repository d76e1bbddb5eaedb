"""Presets without normalisation are trained with one, which is folded into the convolutions at the end."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which the train extra installs")

from tiny_world import QUICK, TINY, draw_pictures, know_tiny, quiet  # noqa: E402

from face_mtl_ros.datasets.folder import read_folder  # noqa: E402
from face_mtl_ros.networks.encoder import Encoder  # noqa: E402
from face_mtl_ros.networks.normalization import fold_normalization, normalised  # noqa: E402
from face_mtl_ros.networks.presets import PRESETS  # noqa: E402
from face_mtl_ros.training.encoder_production import make_encoder  # noqa: E402
from face_mtl_ros.training.production import ColumnOrder, make_column  # noqa: E402

PLAIN = replace(TINY, name="plain", normalization="none")


@pytest.fixture(autouse=True)
def plain(monkeypatch, home):
    know_tiny(monkeypatch)
    monkeypatch.setitem(PRESETS, PLAIN.name, PLAIN)


def test_folding_leaves_what_a_network_computes():
    encoder, crops = Encoder(normalised(PLAIN)), torch.randn(4, 1, 64, 64)
    for _ in range(3):
        encoder(torch.randn(8, 1, 64, 64))  # other statistics than the initial ones
    for layer in encoder.layers:
        torch.nn.init.uniform_(layer.norm.weight, 0.5, 2)
        torch.nn.init.uniform_(layer.norm.bias, -1, 1)
    encoder.eval()
    before = encoder(crops)
    fold_normalization(encoder)
    assert encoder.state_dict().keys() == Encoder(PLAIN).state_dict().keys()
    torch.testing.assert_close(encoder(crops), before, rtol=1e-3, atol=1e-3)


def test_a_plain_preset_learns_and_its_bundle_has_no_normalisation(tmp_path):
    data = draw_pictures(tmp_path / "data")
    train, val = (read_folder(data, split) for split in ("train", "val"))
    make_encoder(tmp_path / "mine", "mine", "plain", [train], QUICK, "", quiet)
    order = ColumnOrder(task="label", datasets=[train], validation=[val])
    bundle = make_column(tmp_path / "mine", order, QUICK, "", quiet)
    assert not [name for name in (*bundle.encoder, *bundle.columns["label"]) if "norm" in name]
    assert bundle.manifest.column("label").metrics["folder/val/accuracy"] == 1
