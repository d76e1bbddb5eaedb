"""Readers, on small files of the published layouts that the tests write."""

import cv2
import numpy as np
import pytest

from face_mtl_ros.datasets.crops import load_crops, read_crop
from face_mtl_ros.datasets.dataset import DatasetError, split_of
from face_mtl_ros.datasets.registry import READERS, read_dataset
from face_mtl_ros.datasets.utkface import AGES, age_group
from face_mtl_ros.vision.alignment import TEMPLATE

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FACE_MTL_HOME", str(tmp_path / "home"))


def write_picture(path, size=48, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.random.default_rng(seed).integers(0, 255, (size, size), np.uint8)
    assert cv2.imwrite(str(path), picture)


@pytest.fixture
def ferplus(tmp_path):
    root = tmp_path / "ferplus"
    rows = [
        "Training,fer0000000.png,6,3,1,0,0,0,0,0,0,0",  # neutral; the single vote for surprise is noise
        "Training,fer0000001.png,0,0,0,0,0,0,0,0,0,10",  # no face
        "Training,fer0000002.png,5,5,0,0,0,0,0,0,0,0",  # a tie
        "Training,fer0000003.png,1,1,1,1,1,1,1,1,1,1",  # noise alone
        "Training,,10,0,0,0,0,0,0,0,0,0",  # the published file has rows without a picture
        "PublicTest,fer0028638.png,0,0,0,0,0,0,8,2,0,0",  # fear
        "PrivateTest,fer0032220.png,0,10,0,0,0,0,0,0,0,0",  # happiness
    ]
    for folder, name in (("Train", "0000000"), ("Valid", "0028638"), ("Test", "0032220")):
        write_picture(root / f"FER2013{folder}" / f"fer{name}.png")
    (root / "fer2013new.csv").write_text(HEADER + "\n".join(rows) + "\n")
    return root


def test_ferplus_majority_votes_and_distributions(ferplus):
    data = read_dataset("ferplus", ferplus, "train")
    assert [path.name for path in data.paths] == ["fer0000000.png"]
    assert data.counts("emotion")["neutral"] == 1 and sum(data.counts("emotion").values()) == 1
    np.testing.assert_allclose(data.distributions["emotion"][0][:3], [6 / 9, 3 / 9, 0])
    assert data.ids == ["ferplus/FER2013Train/fer0000000"]


def test_ferplus_splits_are_the_official_ones(ferplus):
    assert read_dataset("ferplus", ferplus, "val").labels["emotion"].tolist() == [6]
    assert read_dataset("ferplus", ferplus, "test").labels["emotion"].tolist() == [1]
    assert len(read_dataset("ferplus", ferplus, "all")) == 3


@pytest.mark.parametrize("row", ["Training,a.png,1,2", "Nonsense,a.png" + ",1" * 10, "Training,a.png,x" + ",1" * 9])
def test_ferplus_names_the_line_that_is_malformed(ferplus, row):
    with (ferplus / "fer2013new.csv").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(DatasetError, match=r"fer2013new.csv line 9: expected"):
        read_dataset("ferplus", ferplus, "train")


def test_ferplus_names_what_is_missing(ferplus, tmp_path):
    with pytest.raises(DatasetError, match="fer2013new.csv not found"):
        read_dataset("ferplus", tmp_path, "train")
    (ferplus / "FER2013Valid" / "fer0028638.png").unlink()
    with pytest.raises(DatasetError, match="fer0028638.png not found"):
        read_dataset("ferplus", ferplus, "val")


@pytest.fixture
def lfw(tmp_path):
    root = tmp_path / "lfw"
    lists = {"male": [], "female": []}
    for i in range(60):
        gender = "male" if i % 3 else "female"
        for picture in (1, 2):
            name = f"Person_{i}_{picture:04d}.jpg"
            write_picture(root / f"Person_{i}" / name, 128)
            lists[gender].append(name)
    lists["male"].append("Not_There_0001.jpg")
    for gender, names in lists.items():
        (root / f"{gender}_names.txt").write_text("\n".join(names) + "\n\n")
    return root


def test_lfw_gender_never_splits_a_person(lfw):
    people = {}
    for split in ("train", "val", "test"):
        people[split] = {path.parent.name for path in read_dataset("lfw-gender", lfw, split).paths}
    assert sum(len(names) for names in people.values()) == len(set.union(*people.values())) == 60
    assert len(read_dataset("lfw-gender", lfw, "all")) == 120


def test_lfw_gender_balanced_has_as_many_of_each_and_stays_the_same(lfw):
    data = read_dataset("lfw-gender", lfw, "all", balanced=True)
    assert data.counts("gender") == {"male": 40, "female": 40}
    assert read_dataset("lfw-gender", lfw, "all", balanced=True).ids == data.ids


def test_lfw_gender_names_the_line_that_is_malformed(lfw):
    (lfw / "male_names.txt").write_text("Person_1_0001.jpg\nnonsense\n")
    with pytest.raises(DatasetError, match="male_names.txt line 2: .*'nonsense'"):
        read_dataset("lfw-gender", lfw, "train")


@pytest.mark.parametrize(
    ("years", "group"),
    [(0, "0-2"), (3, "0-2"), (4, "4-6"), (7, "4-6"), (14, "8-13"), (22, "15-20"), (23, "25-32"), (35, "25-32")]
    + [(36, "38-43"), (45, "38-43"), (46, "48-53"), (56, "48-53"), (57, "60+"), (116, "60+")],
)
def test_ages_go_into_the_nearest_of_adience_s_groups(years, group):
    assert AGES[age_group(years)] == group


def test_utkface_reads_age_and_gender_from_the_name(tmp_path):
    for name in ("30_0_1_20170101.jpg.chip.jpg", "5_1_2_20170102.jpg.chip.jpg", "61_1_20170103.jpg.chip.jpg"):
        write_picture(tmp_path / name, 128)
    data = read_dataset("utkface", tmp_path, "all")
    assert len(data) == 2  # the third lacks a part, as three of the published ones do
    assert [AGES[i] for i in data.labels["age"]] == ["25-32", "4-6"]
    assert data.labels["gender"].tolist() == [0, 1]


def test_folder_takes_each_folder_for_a_class(tmp_path):
    for label in ("cat", "dog"):
        for i in range(5):
            write_picture(tmp_path / label / f"{i}.png", 64)
    (tmp_path / "dog" / "notes.txt").write_text("no picture")
    data = read_dataset("folder", tmp_path, "all")
    assert data.classes == {"label": ("cat", "dog")}
    assert data.counts("label") == {"cat": 5, "dog": 5}


def test_what_does_not_exist_is_named(tmp_path):
    with pytest.raises(DatasetError, match="'imagenet' is unknown; choose one of ferplus"):
        read_dataset("imagenet", tmp_path)
    with pytest.raises(DatasetError, match="split 'dev' is unknown"):
        read_dataset("folder", tmp_path, "dev")
    for name in READERS:
        with pytest.raises(DatasetError, match="not found|needs pictures|has no"):
            read_dataset(name, tmp_path / "nowhere")


def test_hashed_splits_are_about_80_10_10_and_stable():
    splits = [split_of(f"key {i}") for i in range(5000)]
    assert 0.08 < splits.count("val") / 5000 < 0.12 and 0.08 < splits.count("test") / 5000 < 0.12
    assert splits[:3] == [split_of(f"key {i}") for i in range(3)]


def test_crops_are_made_once_and_again_when_a_picture_changes(ferplus):
    data = read_dataset("ferplus", ferplus, "all")
    crops = load_crops(data)
    assert crops.shape == (3, 160, 160) and crops.dtype == np.uint8
    again = load_crops(data)
    np.testing.assert_array_equal(again, crops)
    write_picture(data.paths[0], seed=7)
    assert not np.array_equal(load_crops(data)[0], crops[0])


def test_a_picture_that_cannot_be_read_is_named(ferplus):
    data = read_dataset("ferplus", ferplus, "train")
    data.paths[0].write_text("no picture")
    with pytest.raises(DatasetError, match="fer0000000.png"):
        load_crops(data)


def test_ferplus_pictures_fill_the_crop_as_they_are(ferplus):
    """The template is FER+'s own framing, so its crop is the picture enlarged."""
    file = ferplus / "FER2013Train" / "fer0000000.png"
    smooth = cv2.GaussianBlur(cv2.imread(str(file), 0), (0, 0), 4)
    cv2.imwrite(str(file), smooth)
    crop = read_crop(file, TEMPLATE)
    difference = np.abs(crop.astype(int) - cv2.resize(smooth, (128, 128)))
    assert difference.mean() < 2
