"""LFW three ways: all its people, gender balanced, and the identities with most pictures."""

import cv2
import numpy as np
import pytest
from test_datasets import write_picture

from face_mtl_ros.datasets.dataset import UNLABELLED, DatasetError, split_of
from face_mtl_ros.datasets.registry import read_dataset, read_source

FAMOUS = ("Ann_Veneman", "Serena_Williams", "Tony_Blair")  # by a hash of the name: val, train, train
PICTURES = 23  # of each of them; LFW-identity takes twenty


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """60 people with two pictures, and FAMOUS."""
    root = tmp_path_factory.mktemp("lfw")
    numbers = {f"Person_{i}": 2 for i in range(60)} | dict.fromkeys(FAMOUS, PICTURES)
    lists = {"male": [], "female": []}
    for i, (person, pictures) in enumerate(numbers.items()):
        for number in range(1, pictures + 1):
            name = f"{person}_{number:04d}.jpg"
            write_picture(root / person / name, 16)
            lists["male" if i % 3 else "female"].append(name)
    lists["male"].append("Not_There_0001.jpg")
    for gender, names in lists.items():
        (root / f"{gender}_names.txt").write_text("\n".join(names) + "\n\n")
    return root


@pytest.fixture
def lfw(written, tmp_path):
    """The same, whose lists a test may change."""
    root = tmp_path / "lfw"
    root.mkdir()
    for path in written.iterdir():
        if path.is_dir():
            (root / path.name).symlink_to(path)
        else:
            (root / path.name).write_text(path.read_text())
    return root


@pytest.mark.parametrize("name", ["lfw", "lfw-gender"])
def test_a_person_is_never_split(lfw, name):
    people = [{path.parent.name for path in read_dataset(name, lfw, s).paths} for s in ("train", "val", "test")]
    assert sum(len(names) for names in people) == len(set.union(*people)) == 63
    assert len(read_dataset(name, lfw, "all")) == 120 + 3 * PICTURES


@pytest.mark.parametrize("name", ["lfw", "lfw-gender"])
def test_what_identity_tests_on_is_in_no_training_split(lfw, name):
    tested = set(read_dataset("lfw-identity", lfw, "test", people=None).ids)
    assert len(tested) == 3 * 4
    assert not tested & set(read_dataset(name, lfw, "train").ids)
    assert tested <= set(read_dataset(name, lfw, "all").ids)
    kept = [i for i in read_dataset(name, lfw, "train").ids if i.startswith("lfw/Tony_Blair")]
    assert len(kept) == PICTURES - 4


def test_all_people_have_identity_and_where_it_is_listed_gender(lfw):
    data = read_dataset("lfw", lfw, "val")
    names = [data.classes["identity"][i] for i in data.labels["identity"]]
    assert names == [path.parent.name for path in data.paths] and "Ann_Veneman" in names
    assert all(split_of(name) == "val" for name in names)
    assert UNLABELLED not in data.labels["gender"]
    for gender in ("male", "female"):
        (lfw / f"{gender}_names.txt").unlink()
    assert set(read_dataset("lfw", lfw, "val").labels["gender"]) == {UNLABELLED}


def test_gender_balanced_has_as_many_of_each_and_stays_the_same(lfw):
    counts = read_dataset("lfw-gender", lfw, "all").counts("gender")
    assert counts["male"] != counts["female"]
    data = read_source(f"lfw-gender:balanced=true={lfw}", "all", "gender")
    assert data.counts("gender") == dict.fromkeys(("male", "female"), min(counts.values()))
    assert read_dataset("lfw-gender", lfw, "all", balanced=True).ids == data.ids


def test_gender_is_read_from_the_lists(lfw):
    (lfw / "male_names.txt").write_text("Tony_Blair_0001.jpg\n")
    (lfw / "female_names.txt").write_text("Serena_Williams_0001.jpg\n")
    data = read_dataset("lfw-gender", lfw, "train")
    assert dict(zip(data.ids, data.labels["gender"].tolist(), strict=True)) == {
        "lfw/Tony_Blair_0001": 0,
        "lfw/Serena_Williams_0001": 1,
    }


def test_the_line_that_is_malformed_is_named(lfw):
    (lfw / "male_names.txt").write_text("Person_1_0001.jpg\nnonsense\n")
    with pytest.raises(DatasetError, match="male_names.txt line 2: .*'nonsense'"):
        read_dataset("lfw-gender", lfw, "train")


def test_a_missing_list_is_named(lfw):
    (lfw / "female_names.txt").unlink()
    with pytest.raises(DatasetError, match="female_names.txt not found"):
        read_dataset("lfw-gender", lfw, "train")


@pytest.mark.parametrize(
    ("split", "numbers"), [("train", range(1, 15)), ("val", (15, 16)), ("test", range(17, 21)), ("all", range(1, 21))]
)
def test_identity_splits_each_person_s_first_twenty_pictures(lfw, split, numbers):
    data = read_dataset("lfw-identity", lfw, split, people=3)
    assert data.classes == {"identity": FAMOUS}
    assert data.ids == [f"lfw/{name}_{number:04d}" for name in FAMOUS for number in numbers]
    assert data.labels["identity"].tolist() == [i for i in range(3) for _ in numbers]


def test_identity_takes_the_first_people_of_the_alphabet(lfw):
    assert read_dataset("lfw-identity", lfw, "test", people=2).classes == {"identity": FAMOUS[:2]}
    assert read_source(f"lfw-identity:people=2={lfw}", "test", "identity").classes == {"identity": FAMOUS[:2]}
    assert read_source(f"lfw-identity:people=all={lfw}", "test", "identity").classes == {"identity": FAMOUS}


@pytest.mark.parametrize(("options", "asked"), [({}, 50), ({"people": 4}, 4)])
def test_identity_says_how_many_people_there_are(lfw, options, asked):
    with pytest.raises(DatasetError, match=f"has 3 people with at least 20 pictures .*, {asked} are asked for"):
        read_dataset("lfw-identity", lfw, "train", **options)


@pytest.mark.parametrize("name", ["lfw", "lfw-identity", "lfw-gender"])
def test_landmarks_lie_where_the_pictures_were_cut(tmp_path, name):
    """LFW as it is published, of 250 pixels a side, shows the face smaller than its customary centre crop."""
    for i, person in enumerate(("Serena_Williams", "Tony_Blair")):
        for number in range(1, 21):
            write_picture(tmp_path / "cut" / person / f"{person}_{number:04d}.jpg", 166, seed=i)
            write_picture(tmp_path / "uncut" / person / f"{person}_{number:04d}.jpg", 250, seed=i)
    for root in ("cut", "uncut"):
        (tmp_path / root / "male_names.txt").write_text("Tony_Blair_0001.jpg\n")
        (tmp_path / root / "female_names.txt").write_text("Serena_Williams_0001.jpg\n")
    options = {"people": 2} if name == "lfw-identity" else {}
    cut, uncut = (read_dataset(name, tmp_path / root, "train", **options) for root in ("cut", "uncut"))
    np.testing.assert_allclose(uncut.framing * 250, cut.framing * 166 + 42, atol=1e-3)
    assert cv2.imread(str(uncut.paths[0])).shape == (250, 250, 3)
