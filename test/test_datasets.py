"""What all readers share: names, options, splits, layouts, counts; on small files that the tests write."""

import functools
import re

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_mtl_ros.datasets.dataset import UNLABELLED, DatasetError, check_classes, split_of
from face_mtl_ros.datasets.layouts import layout_of
from face_mtl_ros.datasets.registry import READERS, read_dataset, read_source


def write_picture(path, size=48, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(path.suffix, size, seed))


@functools.cache
def encoded(suffix, size, seed):
    picture = np.random.default_rng(seed).integers(0, 255, (size, size), np.uint8)
    return cv2.imencode(suffix, picture)[1].tobytes()


@pytest.fixture
def animals(tmp_path):
    for label in ("cat", "dog"):
        for i in range(5):
            write_picture(tmp_path / "animals" / label / f"{i}.png", 64)
    (tmp_path / "animals" / "dog" / "notes.txt").write_text("no picture")
    return tmp_path / "animals"


@pytest.fixture
def utkface(tmp_path):
    write_picture(tmp_path / "UTKFace" / "30_0_1_20170101.jpg.chip.jpg")
    return tmp_path / "UTKFace"


def test_the_names_are_those_that_users_rely_on():
    promised = {"celeba", "ferplus", "lfw-identity", "lfw-gender", "adience", "utkface", "folder"}
    assert promised <= set(READERS)


def test_folder_takes_each_folder_for_a_class(animals):
    data = read_dataset("folder", animals, "all")
    assert data.classes == {"label": ("cat", "dog")}
    assert data.counts("label") == {"cat": 5, "dog": 5}
    assert len(set(data.ids)) == len(data) == 10


def test_what_does_not_exist_is_named(tmp_path):
    with pytest.raises(DatasetError, match="'imagenet' is unknown; choose one of celeba, ferplus"):
        read_dataset("imagenet", tmp_path)
    for name in READERS:
        with pytest.raises(DatasetError, match="nowhere.* not found"):
            read_dataset(name, tmp_path / "nowhere")
        with pytest.raises(DatasetError, match=f"{re.escape(str(tmp_path))}.*(not found|needs pictures|has )"):
            read_dataset(name, tmp_path)  # an empty folder
        with pytest.raises(DatasetError, match="split 'dev' is unknown; choose one of train, val, test, all"):
            read_dataset(name, tmp_path, "dev")


def test_an_archive_is_to_be_unpacked(tmp_path):
    (tmp_path / "ferplus.tar.gz").write_bytes(b"archive")
    with pytest.raises(DatasetError, match="ferplus.tar.gz is a file; unpack it"):
        read_dataset("ferplus", tmp_path / "ferplus.tar.gz")


@pytest.mark.parametrize("name", [name for name in READERS if name != "utkface"])
def test_the_root_of_another_dataset_is_recognised(utkface, name):
    with pytest.raises(DatasetError, match=f"UTKFace is no root of {name}: it looks like utkface"):
        read_dataset(name, utkface)


@pytest.mark.parametrize(
    ("file", "layout"),
    [
        ("fer2013new.csv", "ferplus"),
        ("FER2013Valid/fer0028638.png", "ferplus"),
        ("img_align_celeba/000001.jpg", "celeba"),
        ("fold_0_data.txt", "adience"),
        ("Jane_Doe/Jane_Doe_0001.jpg", "lfw"),
        ("female_names.txt", "lfw"),
        ("30_0_1_20170101.jpg.chip.jpg", "utkface"),
        ("cat/0001.jpg", None),
    ],
)
def test_layouts_are_known_by_their_files(tmp_path, file, layout):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    assert layout_of(tmp_path) == layout


def test_people_s_folders_are_classes_too(tmp_path):
    for name in ("ann", "bob"):
        write_picture(tmp_path / name / f"{name}_0001.jpg")
    assert read_dataset("folder", tmp_path, "all").classes == {"label": ("ann", "bob")}


def test_a_source_is_read_with_its_options(animals):
    assert read_source(f"folder={animals}", "all", "pet").classes == {"pet": ("cat", "dog")}
    assert read_source(f"folder:task=animal={animals}", "all", "pet").classes == {"animal": ("cat", "dog")}


def test_a_root_may_have_any_character(animals):
    odd = animals.rename(animals.with_name("a=b:c,d"))
    assert len(read_source(f"folder:task=animal={odd}", "all", "pet")) == 10


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("folder", "'folder' names no dataset; expected NAME=ROOT"),
        ("=/data", "'=/data' names no dataset"),
        ("folder=", "'folder=' names no dataset"),
        ("lfw-identity:people=/data", "names no dataset; expected NAME=ROOT or NAME:OPTION=VALUE=ROOT"),
        ("lfw-identity:people=62,=/data", "names no dataset"),
        ("imagenet=/data", "'imagenet' is unknown; choose one of"),
        ("lfw-identity:persons=62=/data", "lfw-identity has no option 'persons'; it has people"),
        ("ferplus:fold=1=/data", "ferplus has no option 'fold'; it has none"),
        ("lfw-identity:people=many=/data", "option people=many of lfw-identity: expected a whole number"),
        ("lfw-gender:balanced=maybe=/data", "option balanced=maybe of lfw-gender: expected true or false"),
        ("adience:fold=-1=/data", "option fold=-1 of adience: expected a whole number"),
    ],
)
def test_a_malformed_source_is_refused(entry, message):
    with pytest.raises(DatasetError, match=re.escape(message)):
        read_source(entry, "train", "label")


def test_classes_are_checked_before_training(animals):
    data = read_dataset("folder", animals, "all")
    check_classes([data], "label")
    with pytest.raises(DatasetError, match="folder does not label 'emotion'; it labels label"):
        check_classes([data], "emotion")
    data.classes["label"] = ("cat", "dog", "emu")
    with pytest.raises(DatasetError, match=r"split 'all', have no sample of \['emu'\] for 'label'"):
        check_classes([data], "label")
    data.labels["label"][:] = 1
    with pytest.raises(DatasetError, match=r"samples of \['dog'\] alone for 'label'; a column needs two"):
        check_classes([data], "label")
    data.labels["label"][:] = UNLABELLED
    with pytest.raises(DatasetError, match="samples of no class alone"):
        check_classes([data], "label")


def test_hashed_splits_are_about_80_10_10():
    splits = [split_of(f"key {i}") for i in range(5000)]
    assert 0.08 < splits.count("val") / 5000 < 0.12 and 0.08 < splits.count("test") / 5000 < 0.12


def test_hashed_splits_are_the_same_in_every_release():
    """A sample that moved from test to train would be trained on by a model that is then tested on it."""
    keys = ["Aaron_Eckhart", "Zoran_Djindjic", "Ann_Veneman", "30_0_1_20170101.jpg.chip.jpg", "cat/0.png"]
    assert [split_of(key) for key in keys] == ["train", "test", "val", "test", "train"]


@given(st.text(), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_larger_share_keeps_what_was_in_it(key, val, more):
    """Validation samples stay where they are when the share of validation grows."""
    if split_of(key, val=val, test=0) == "val":
        assert split_of(key, val=val + more, test=0) == "val"
    assert split_of(key, val=0, test=0) == "train" and split_of(key, val=1, test=0) == "val"


def test_new_pictures_do_not_move_the_older_ones(tmp_path):
    def ids():
        return {split: set(read_dataset("folder", tmp_path, split).ids) for split in ("train", "val", "test")}

    for i in range(80):
        write_picture(tmp_path / ("cat" if i % 2 else "dog") / f"{i}.png", 8)
    before = ids()
    for i in range(80, 120):
        write_picture(tmp_path / ("cat" if i % 2 else "ant") / f"{i}.png", 8)
    after = ids()
    assert all(before[split] <= after[split] for split in before)
    assert len(set.union(*after.values())) == sum(map(len, after.values())) == 120
