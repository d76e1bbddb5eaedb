"""UTKFace and Adience, whose ages fall into the same eight groups."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_datasets import write_picture

from face_mtl_ros.datasets.adience import FRAMING, folds_of, parse_age
from face_mtl_ros.datasets.dataset import UNLABELLED, DatasetError
from face_mtl_ros.datasets.labels import AGE_GROUPS, AGE_VALUES, AGES, age_group
from face_mtl_ros.datasets.registry import read_dataset, read_source

COLUMNS = "user_id original_image face_id age gender x y dx dy tilt_ang fiducial_yaw_angle fiducial_score"
HEADER = COLUMNS.replace(" ", "\t")


@pytest.mark.parametrize(
    ("years", "group"),
    [(0, "0-2"), (3, "0-2"), (4, "4-6"), (7, "4-6"), (14, "8-13"), (22, "15-20"), (23, "25-32"), (35, "25-32")]
    + [(36, "38-43"), (45, "38-43"), (46, "48-53"), (56, "48-53"), (57, "60+"), (116, "60+")],
)
def test_ages_go_into_the_nearest_of_adience_s_groups(years, group):
    assert AGES[age_group(years)] == group


@given(st.floats(0, 130), st.floats(0, 130))
def test_age_groups_are_ordered_and_nearest(first, second):
    low, high = sorted((first, second))
    assert age_group(low) <= age_group(high)
    distance = [max(a - low, low - b, 0) for a, b in AGE_GROUPS]
    assert distance[age_group(low)] == min(distance)


@given(st.integers(0, 7), st.data())
def test_ages_within_a_group_stay_in_it(group, data):
    low, high = AGE_GROUPS[group]
    first = data.draw(st.integers(low, high))
    last = data.draw(st.integers(first, high))
    assert parse_age(f"({first}, {last})") == age_group(first) == age_group(last) == group
    assert age_group(AGE_VALUES[group]) == group


@pytest.mark.parametrize(
    ("text", "group"),
    [("(0, 2)", "0-2"), ("(8, 12)", "8-13"), ("(25, 32)", "25-32"), ("(60, 100)", "60+")]  # the usual ones
    + [
        ("35", "25-32"),
        ("2", "0-2"),
        ("58", "60+"),
        ("(38, 42)", "38-43"),
        ("(8, 23)", "15-20"),
        ("(27, 32)", "25-32"),
    ],
)
def test_published_ages_have_a_group(text, group):
    assert AGES[parse_age(text)] == group


def test_an_age_that_is_none_is_unlabelled():
    assert parse_age("None") == parse_age("") == UNLABELLED


@given(st.integers(0, 4))
def test_each_fold_serves_once_in_each_protocol(fold):
    splits = [folds_of(split, fold) for split in ("train", "val", "test")]
    assert [len(folds) for folds in splits] == [3, 1, 1]
    assert sorted(sum(splits, [])) == folds_of("all", fold) == [0, 1, 2, 3, 4]
    assert splits[2] == [fold] and splits[1] == [(fold + 1) % 5]


def test_utkface_reads_age_gender_and_race_from_the_name(tmp_path):
    names = ["30_0_1_20170101.jpg.chip.jpg", "5_1_2_20170102.jpg.chip.jpg", "61_1_4_20170103.jpg.chip.jpg"]
    lacking = ["61_1_20170103.jpg.chip.jpg", "24_0_9_20170103.jpg.chip.jpg", "x_0_1_20170101.jpg", "note_a.jpg"]
    for name in names + lacking:
        write_picture(tmp_path / name, 16)
    data = read_dataset("utkface", tmp_path, "all")
    assert data.ids == [f"utkface/{name.partition('.')[0]}" for name in names]
    assert [AGES[i] for i in data.labels["age"]] == ["25-32", "4-6", "60+"]
    assert data.labels["gender"].tolist() == [0, 1, 1]
    assert data.groups["sex"].tolist() == ["male", "female", "female"]
    assert data.groups["race"].tolist() == ["Black", "Asian", "Other"]


def row(user, image, face, age, gender):
    return "\t".join([user, image, str(face), age, gender, "0\t414\t1086\t1383\t-115\t30\t17"])


@pytest.fixture(params=["faces", "aligned"])
def adience(request, tmp_path):
    """A subject a fold, two faces each; the ages and genders of the second are odd."""
    prefix = {"faces": "coarse_tilt_aligned_face", "aligned": "landmark_aligned_face"}[request.param]
    odd = [("35", "f"), ("(8, 23)", "u"), ("None", "m"), ("(38, 42)", ""), ("", "u")]
    for fold, (age, gender) in enumerate(odd):
        user = f"{fold}0601258@N03"
        rows = [row(user, "first_o.jpg", 1, "(25, 32)", "f"), row(user, "second_o.jpg", 2, age, gender)]
        (tmp_path / f"fold_{fold}_data.txt").write_text("\n".join([HEADER, *rows]) + "\n")
        write_picture(tmp_path / request.param / user / f"{prefix}.1.first_o.jpg", 32)
        write_picture(tmp_path / request.param / user / f"{prefix}.2.second_o.jpg", 32)
    return tmp_path


def test_adience_reads_folds(adience):
    data = read_dataset("adience", adience, "all")
    assert len(data) == len(set(data.ids)) == 10 and all(path.exists() for path in data.paths)
    ages = [AGES[i] if i != UNLABELLED else None for i in data.labels["age"][1::2]]
    assert ages == ["25-32", "15-20", None, "38-43", None]
    assert data.labels["gender"][1::2].tolist() == [1, UNLABELLED, 0, UNLABELLED, UNLABELLED]
    assert data.ids[0] == "adience/00601258@N03/1.first_o"


def test_adience_rotates_its_folds(adience):
    def folds(split, fold):
        data = read_source(f"adience:fold={fold}={adience}", split, "age")
        return sorted({int(path.parent.name[0]) for path in data.paths})

    assert (folds("train", 0), folds("val", 0), folds("test", 0)) == ([2, 3, 4], [1], [0])
    assert (folds("train", 4), folds("val", 4), folds("test", 4)) == ([1, 2, 3], [0], [4])
    with pytest.raises(DatasetError, match="fold 5 of Adience is unknown; choose one of 0 to 4"):
        folds("train", 5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("30601258@N03\tfirst_o.jpg\t1", "line 4: expected 12 tab-separated values"),
        (row("a", "b.jpg", 1, "(25, 32)", "x"), "line 4: expected 12 tab-separated values with gender m, f or u"),
        (row("a", "b.jpg", 1, "young", "f"), r"line 4: expected an age such as \(25, 32\), 35 or None, found 'young'"),
    ],
)
def test_adience_names_the_line_that_is_malformed(adience, line, message):
    with (adience / "fold_3_data.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DatasetError, match=f"fold_3_data.txt {message}"):
        read_dataset("adience", adience, "train")


def test_adience_names_what_is_missing(adience):
    data = read_dataset("adience", adience, "val")
    data.paths[0].unlink()
    with pytest.raises(DatasetError, match="face.1.first_o.jpg not found"):
        read_dataset("adience", adience, "val")
    (adience / "fold_2_data.txt").write_text("user_id original_image\n")
    with pytest.raises(DatasetError, match="fold_2_data.txt line 1: expected the tab-separated columns user_id"):
        read_dataset("adience", adience, "train")
    (adience / "fold_2_data.txt").unlink()
    with pytest.raises(DatasetError, match="fold_2_data.txt not found"):
        read_dataset("adience", adience, "train")


def test_adience_s_framing_is_a_face():
    """Eyes level and above the nose, which is above the mouth, all inside the picture."""
    right_eye, left_eye, nose, right_mouth, left_mouth = FRAMING
    assert right_eye[0] < nose[0] < left_eye[0] and right_mouth[0] < nose[0] < left_mouth[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1])
    assert np.all((FRAMING > 0) & (FRAMING < 1))
