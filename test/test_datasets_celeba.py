"""CelebA: its official lists, flat and in the folders of its publication."""

import numpy as np
import pytest
from test_datasets import write_picture

from face_mtl_ros.datasets.dataset import DatasetError
from face_mtl_ros.datasets.registry import read_dataset

ATTRIBUTES = ["5_o_Clock_Shadow", "Male", "Young"]
ROWS = ["000001.jpg -1 -1  1", "000002.jpg -1  1  1", "000003.jpg  1 -1 -1", "000004.jpg -1  1 -1"]
FOLDERS = {"img_align_celeba": "Img", "list_attr_celeba.txt": "Anno", "list_eval_partition.txt": "Eval"}


@pytest.fixture
def celeba(tmp_path):
    for row in ROWS:
        write_picture(tmp_path / "img_align_celeba" / row.split(" ")[0])
    write_attributes(tmp_path, ROWS)
    (tmp_path / "list_eval_partition.txt").write_text(
        "000001.jpg 0\n000002.jpg 0\n000003.jpg 1\n000004.jpg 2\n",
    )
    return tmp_path


def write_attributes(root, rows, count=4):
    lines = [str(count), " ".join(ATTRIBUTES) + " ", *rows]
    (root / "list_attr_celeba.txt").write_text("\r\n".join(lines) + "\r\n")


def test_gender_and_the_official_splits(celeba):
    data = read_dataset("celeba", celeba, "train")
    assert data.ids == ["celeba/000001", "celeba/000002"]
    assert data.classes == {"gender": ("male", "female")}
    assert data.labels["gender"].tolist() == [1, 0]
    assert read_dataset("celeba", celeba, "val").ids == ["celeba/000003"]
    assert read_dataset("celeba", celeba, "test").ids == ["celeba/000004"]
    assert len(read_dataset("celeba", celeba, "all")) == 4


def test_the_folders_of_its_publication_are_read(celeba):
    expected = read_dataset("celeba", celeba, "all")
    for name, folder in FOLDERS.items():
        (celeba / folder).mkdir()
        (celeba / name).rename(celeba / folder / name)
    data = read_dataset("celeba", celeba, "all")
    assert data.ids == expected.ids and all(path.exists() for path in data.paths)


def test_landmarks_are_those_of_the_aligned_pictures(celeba):
    data = read_dataset("celeba", celeba, "all")
    eyes = data.framing[:2] * np.array([178, 218])
    np.testing.assert_allclose(eyes, [[69, 111], [108, 111]], rtol=1e-5)


@pytest.mark.parametrize("name", FOLDERS)
def test_what_is_missing_is_named(celeba, name):
    (celeba / name).rename(celeba / "elsewhere")
    with pytest.raises(DatasetError, match=f"{name} not found: CelebA's"):
        read_dataset("celeba", celeba, "train")


def test_pictures_that_are_not_unpacked_are_named(celeba):
    (celeba / "img_align_celeba" / "000003.jpg").unlink()
    with pytest.raises(DatasetError, match="000003.jpg not found: .*img_align_celeba.zip"):
        read_dataset("celeba", celeba, "val")


@pytest.mark.parametrize("row", ["000005.jpg 1 1", "000005.jpg 1 0 1"])
def test_a_malformed_attribute_line_is_named(celeba, row):
    write_attributes(celeba, [*ROWS, row], count=5)
    with pytest.raises(DatasetError, match="list_attr_celeba.txt line 7: expected a picture and 3 attributes"):
        read_dataset("celeba", celeba, "train")


@pytest.mark.parametrize("text", ["", "4\n", "four\nMale Young\n", "4\nSmiling Young\n"])
def test_a_list_without_its_head_is_refused(celeba, text):
    (celeba / "list_attr_celeba.txt").write_text(text)
    with pytest.raises(DatasetError, match="list_attr_celeba.txt lines 1 and 2: expected the number of pictures"):
        read_dataset("celeba", celeba, "train")


def test_a_list_that_is_cut_short_is_refused(celeba):
    write_attributes(celeba, ROWS[:3])
    with pytest.raises(DatasetError, match="list_attr_celeba.txt line 1: 4 pictures, but 3 follow"):
        read_dataset("celeba", celeba, "train")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("000005.jpg 3", "line 5: expected a picture and 0, 1 or 2, found '000005.jpg 3'"),
        ("000005.jpg", "line 5: expected a picture and 0, 1 or 2"),
        ("000005.jpg 1", "line 5: 000005.jpg is not in .*list_attr_celeba.txt"),
    ],
)
def test_a_malformed_partition_line_is_named(celeba, line, message):
    with (celeba / "list_eval_partition.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DatasetError, match=f"list_eval_partition.txt {message}"):
        read_dataset("celeba", celeba, "train")


def test_a_split_without_pictures_is_named(celeba):
    (celeba / "list_eval_partition.txt").write_text("000001.jpg 0\n")
    with pytest.raises(DatasetError, match="list_eval_partition.txt has no picture of split 'val'"):
        read_dataset("celeba", celeba, "val")
