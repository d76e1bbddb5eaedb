"""FER+, with its pictures in folders and in the original fer2013.csv."""

import cv2
import numpy as np
import pytest
from test_datasets import write_picture

from face_mtl_ros.datasets.crops import cache_key, dataset_crop, load_crops, read_crop
from face_mtl_ros.datasets.dataset import DatasetError
from face_mtl_ros.datasets.registry import read_dataset

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
ROWS = [
    "Training,fer0000000.png,6,3,1,0,0,0,0,0,0,0",  # neutral; the single vote for surprise is noise
    "Training,fer0000001.png,0,0,0,0,0,0,0,0,0,10",  # no face
    "Training,fer0000002.png,5,5,0,0,0,0,0,0,0,0",  # a tie
    "Training,fer0000003.png,1,1,1,1,1,1,1,1,1,1",  # noise alone
    "Training,,10,0,0,0,0,0,0,0,0,0",  # the published file has rows without a picture
    "PublicTest,fer0028638.png,0,0,0,0,0,0,8,2,0,0",  # fear
    "PrivateTest,fer0032220.png,0,10,0,0,0,0,0,0,0,0",  # happiness
]


@pytest.fixture
def ferplus(tmp_path):
    root = tmp_path / "ferplus"
    for folder, name in (("Train", "0000000"), ("Valid", "0028638"), ("Test", "0032220")):
        write_picture(root / f"FER2013{folder}" / f"fer{name}.png")
    (root / "fer2013new.csv").write_text(HEADER + "\n".join(ROWS) + "\n")
    return root


@pytest.fixture
def original(tmp_path):
    """The labels beside fer2013.csv, whose row i shows a ramp that begins at i."""
    root = tmp_path / "original"
    root.mkdir()
    (root / "fer2013new.csv").write_text(HEADER + "\n".join(ROWS) + "\n")
    lines = [f"0,{' '.join(map(str, ramp(i)))},{row.partition(',')[0]}" for i, row in enumerate(ROWS)]
    (root / "fer2013.csv").write_text("emotion,pixels,Usage\n" + "\n".join(lines) + "\n")
    return root


def ramp(row):
    return (np.arange(48 * 48) // 10 + row).tolist()


def test_majority_votes_and_distributions(ferplus):
    data = read_dataset("ferplus", ferplus, "train")
    assert [path.name for path in data.paths] == ["fer0000000.png"]
    assert data.counts("emotion")["neutral"] == 1 and sum(data.counts("emotion").values()) == 1
    np.testing.assert_allclose(data.distributions["emotion"], [[6 / 9, 3 / 9, 0, 0, 0, 0, 0, 0]])
    assert data.ids == ["ferplus/FER2013Train/fer0000000"]


def test_a_picture_that_is_listed_twice_has_two_ids(ferplus):
    """As three of the published ones are."""
    with (ferplus / "fer2013new.csv").open("a") as file:
        file.write(ROWS[0] + "\n")
    assert read_dataset("ferplus", ferplus, "train").ids == [
        "ferplus/FER2013Train/fer0000000",
        "ferplus/FER2013Train/fer0000000#2",
    ]


def test_splits_are_the_official_ones(ferplus):
    assert read_dataset("ferplus", ferplus, "val").labels["emotion"].tolist() == [6]
    assert read_dataset("ferplus", ferplus, "test").labels["emotion"].tolist() == [1]
    assert len(read_dataset("ferplus", ferplus, "all")) == 3


@pytest.mark.parametrize("row", ["Training,a.png,1,2", "Nonsense,a.png" + ",1" * 10, "Training,a.png,x" + ",1" * 9])
def test_the_line_that_is_malformed_is_named(ferplus, row):
    with (ferplus / "fer2013new.csv").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(DatasetError, match=r"fer2013new.csv line 9: expected"):
        read_dataset("ferplus", ferplus, "train")


def test_what_is_no_label_file_is_refused(ferplus):
    (ferplus / "fer2013new.csv").write_text("emotion,pixels,Usage\n")
    with pytest.raises(DatasetError, match=r"fer2013new.csv line 1: expected the columns of fer2013new.csv, found"):
        read_dataset("ferplus", ferplus, "train")
    (ferplus / "fer2013new.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match=r"fer2013new.csv is no text: .* at byte 0"):
        read_dataset("ferplus", ferplus, "train")


def test_what_is_missing_is_named(ferplus):
    (ferplus / "FER2013Valid" / "fer0028638.png").unlink()
    with pytest.raises(DatasetError, match="fer0028638.png not found"):
        read_dataset("ferplus", ferplus, "val")
    (ferplus / "FER2013Valid").rmdir()
    with pytest.raises(DatasetError, match="FER2013Valid not found: .* or fer2013.csv"):
        read_dataset("ferplus", ferplus, "val")
    (ferplus / "fer2013new.csv").unlink()
    with pytest.raises(DatasetError, match="fer2013new.csv not found"):
        read_dataset("ferplus", ferplus, "train")


def test_a_split_without_pictures_is_named(ferplus):
    (ferplus / "fer2013new.csv").write_text(HEADER + ROWS[0] + "\n")
    with pytest.raises(DatasetError, match="no labelled picture of split 'test'"):
        read_dataset("ferplus", ferplus, "test")


def test_pictures_fill_the_crop_as_they_are(ferplus):
    """The template is FER+'s own framing, so its crop is the picture enlarged."""
    data = read_dataset("ferplus", ferplus, "train")
    smooth = cv2.GaussianBlur(cv2.imread(str(data.paths[0]), 0), (0, 0), 4)
    cv2.imwrite(str(data.paths[0]), smooth)
    crop = read_crop(data.paths[0], data.framing)
    difference = np.abs(crop.astype(int) - cv2.resize(smooth, (128, 128)))
    assert difference.mean() < 2


def test_the_original_csv_serves_in_place_of_folders(original, ferplus):
    data = read_dataset("ferplus", original, "all")
    folders = read_dataset("ferplus", ferplus, "all")
    assert data.ids == folders.ids
    np.testing.assert_array_equal(data.labels["emotion"], folders.labels["emotion"])
    for i, row in enumerate((0, 5, 6)):  # the rows whose majority is an emotion
        assert data.read(i).dtype == np.uint8
        np.testing.assert_array_equal(data.read(i), np.reshape(ramp(row), (48, 48)))


def test_folders_go_before_the_original_csv(original):
    write_picture(original / "FER2013Train" / "fer0000000.png")
    assert read_dataset("ferplus", original, "train").read is None


def test_crops_of_the_original_csv_are_those_of_its_pictures(original, tmp_path):
    data = read_dataset("ferplus", original, "all")
    cv2.imwrite(str(tmp_path / "row5.png"), np.reshape(ramp(5), (48, 48)).astype(np.uint8))
    expected = read_crop(tmp_path / "row5.png", data.framing, margin=16)
    np.testing.assert_array_equal(dataset_crop(data, 1, 16), expected)


def test_crops_of_the_original_csv_are_kept_until_it_changes(original, home):
    data = read_dataset("ferplus", original, "all")
    crops = load_crops(data)
    assert crops.shape == (3, 160, 160)
    np.testing.assert_array_equal(crops[2], dataset_crop(data, 2, 16))
    keys = {cache_key(read_dataset("ferplus", original, split), 16) for split in ("train", "val", "test", "all")}
    assert len(keys) == 4  # one file, but other rows of it
    table = original / "fer2013.csv"
    table.write_text(table.read_text().replace("0,5 5 5", "0,9 9 9"))
    changed = read_dataset("ferplus", original, "all")
    assert cache_key(changed, 16) not in keys
    assert not np.array_equal(load_crops(changed)[1], crops[1])


def rewrite(file, line, old, new):
    lines = file.read_text().splitlines()
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    file.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("line", "old", "new", "message"),
    [
        (1, "pixels", "picture", "line 1: expected the columns emotion,pixels,Usage"),
        (4, " 3 ", " ", "line 4: expected an emotion, 2304 pixels and a usage"),
        (7, "PublicTest", "Training", "line 7: usage 'Training', but 'PublicTest' in fer2013new.csv"),
    ],
)
def test_malformed_lines_of_the_original_csv_are_named(original, line, old, new, message):
    rewrite(original / "fer2013.csv", line, old, new)
    with pytest.raises(DatasetError, match=f"fer2013.csv {message}"):
        read_dataset("ferplus", original, "train")


@pytest.mark.parametrize("pixel", ["256", "-1", "x"])
def test_a_pixel_that_is_none_is_named_with_its_line(original, pixel):
    rewrite(original / "fer2013.csv", 7, "0,5 ", f"0,{pixel} ")
    data = read_dataset("ferplus", original, "val")
    with pytest.raises(DatasetError, match=f"fer2013.csv line 7: expected pixels from 0 to 255, found '{pixel}'"):
        data.read(0)


def test_labels_of_other_pictures_are_refused(original):
    rewrite(original / "fer2013new.csv", 8, ROWS[-1], ROWS[-1] + "\n" + ROWS[-1])
    with pytest.raises(DatasetError, match="fer2013.csv has 7 rows and fer2013new.csv 8"):
        read_dataset("ferplus", original, "train")
