"""Aligned crops: made once, kept, and never half."""

import logging

import numpy as np
import pytest
from test_datasets import write_picture

from face_mtl_ros.datasets import crops as module
from face_mtl_ros.datasets.crops import cache_key, dataset_crop, load_crops, read_crop
from face_mtl_ros.datasets.dataset import DatasetError
from face_mtl_ros.datasets.registry import read_dataset


@pytest.fixture
def data(tmp_path, home):
    for i in range(6):
        write_picture(tmp_path / "pets" / ("cat" if i % 2 else "dog") / f"{i}.png", 64, seed=i)
    return read_dataset("folder", tmp_path / "pets", "all")


def test_crops_are_made_once_and_again_when_a_picture_changes(data):
    crops = load_crops(data)
    assert crops.shape == (6, 160, 160) and crops.dtype == np.uint8
    for i, path in enumerate(data.paths):
        np.testing.assert_array_equal(crops[i], read_crop(path, data.framing, 16))
    again = load_crops(data)
    np.testing.assert_array_equal(again, crops)
    write_picture(data.paths[0], seed=7)
    assert not np.array_equal(load_crops(data)[0], crops[0])


def test_the_key_changes_with_margin_and_framing(data):
    key = cache_key(data, 16)
    assert cache_key(data, 32) != key
    data.framing = data.framing + 0.01
    assert cache_key(data, 16) != key


def test_one_sample_is_read_like_all(data):
    np.testing.assert_array_equal(dataset_crop(data, 3, 16), load_crops(data)[3])


def test_a_picture_that_cannot_be_read_is_named_and_nothing_half_is_kept(data, home):
    data.paths[2].write_text("no picture")
    with pytest.raises(DatasetError, match=f"{data.paths[2].name} is missing or cannot be read"):
        load_crops(data)
    assert not list((home / "cache" / "crops").iterdir())
    data.paths[2].unlink()
    with pytest.raises(DatasetError, match=f"{data.paths[2].name} is listed .* missing"):
        load_crops(data)


def test_a_full_disk_is_noticed_beforehand(data, home, monkeypatch):
    usage = module.shutil.disk_usage
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(path)._replace(free=1000))
    with pytest.raises(OSError, match="crops has 0 MB left .* set FACE_MTL_HOME"):
        load_crops(data)
    assert not list((home / "cache" / "crops").iterdir())


def test_progress_is_logged(data, monkeypatch, caplog):
    monkeypatch.setattr(module, "REPORT_EVERY_S", 0.0)
    with caplog.at_level(logging.INFO):
        load_crops(data)
    assert "crops of folder all: 6 of 6" in caplog.messages
    caplog.clear()
    load_crops(data)  # kept, so there is nothing to wait for
    assert not caplog.messages
