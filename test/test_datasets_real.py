"""The readers on the published data, where FACE_MTL_DATA names a folder that has it: ferplus, lfw and UTKFace."""

import os
from pathlib import Path

import numpy as np
import pytest

from face_mtl_ros.datasets.crops import dataset_crop
from face_mtl_ros.datasets.dataset import check_classes
from face_mtl_ros.datasets.registry import read_dataset

ROOTS = {"ferplus": "ferplus", "lfw": "lfw", "lfw-identity": "lfw", "lfw-gender": "lfw", "utkface": "UTKFace"}
TASKS = {"ferplus": "emotion", "lfw": "gender", "lfw-identity": "identity", "lfw-gender": "gender", "utkface": "age"}


@pytest.fixture
def root():
    folder = os.environ.get("FACE_MTL_DATA")

    def of(name):
        if not folder or not (Path(folder) / ROOTS[name]).is_dir():
            pytest.skip(f"FACE_MTL_DATA names no folder with the published data of {name}")
        return Path(folder) / ROOTS[name]

    return of


@pytest.mark.parametrize("name", ROOTS)
def test_every_published_split_trains_and_shows_faces(root, name):
    seen = set()
    for split in ("train", "val"):
        data = read_dataset(name, root(name), split)
        check_classes([data], TASKS[name])
        assert len(set(data.ids)) == len(data) == len(data.labels[TASKS[name]])
        assert not seen & set(data.ids)
        seen |= set(data.ids)
        for i in np.random.default_rng(0).choice(len(data), 20, replace=False):
            crop = dataset_crop(data, int(i))
            assert crop.shape == (128, 128) and crop.std() > 4


@pytest.mark.parametrize("name", ROOTS)
def test_aligned_faces_have_their_eyes_where_the_template_has_them(root, name):
    """The mean face is darker at the eyes than between them and on the cheeks."""
    data = read_dataset(name, root(name), "val")
    chosen = np.random.default_rng(0).choice(len(data), min(len(data), 200), replace=False)
    face = np.mean([dataset_crop(data, int(i)) for i in chosen], axis=0)
    eyes = face[44:53, 35:44].mean(), face[44:53, 85:94].mean()
    between, cheeks = face[44:53, 60:69].mean(), (face[70:79, 35:44].mean(), face[70:79, 85:94].mean())
    assert max(eyes) < between and max(eyes) < min(cheeks)


def test_ferplus_has_its_published_numbers(root):
    data = read_dataset("ferplus", root("ferplus"), "val")
    assert 3000 < len(data) <= 3579
    np.testing.assert_allclose(data.distributions["emotion"].sum(1), 1, rtol=1e-6)
    assert (data.distributions["emotion"].argmax(1) == data.labels["emotion"]).all()


def test_lfw_has_62_people_with_twenty_pictures(root):
    data = read_dataset("lfw-identity", root("lfw-identity"), "all", people=None)
    assert len(data.classes["identity"]) == 62 and len(data) == 62 * 20
    tested = set(read_dataset("lfw-identity", root("lfw-identity"), "test", people=None).ids)
    for name in ("lfw", "lfw-gender"):
        assert not tested & set(read_dataset(name, root(name), "train").ids)


def test_utkface_has_groups(root):
    data = read_dataset("utkface", root("utkface"), "test")
    assert set(data.groups["sex"]) == {"male", "female"}
    assert set(data.groups["race"]) == {"White", "Black", "Asian", "Indian", "Other"}
