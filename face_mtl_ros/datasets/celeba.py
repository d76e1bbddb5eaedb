"""CelebA (Liu et al. 2015): 202,599 aligned portraits, to pre-train on; of its attributes the gender is read."""

from pathlib import Path

import numpy as np

from .dataset import AbsentSplitError, Dataset, DatasetError, check_split, read_lines, require
from .labels import GENDERS

SPLIT_DIGITS = {"0": "train", "1": "val", "2": "test"}
ATTRIBUTE = "Male"
ATTRIBUTE_VALUES = {"1": GENDERS.index("male"), "-1": GENDERS.index("female")}
# Median landmarks of the aligned pictures, of 178x218 pixels.
FRAMING = np.array([[69, 111], [108, 111], [88, 135], [73, 152], [105, 152]], np.float32) / np.array(
    [178, 218], np.float32
)


def read_celeba(root: Path, split: str = "train") -> Dataset:
    """Read img_align_celeba/*.jpg, list_attr_celeba.txt and list_eval_partition.txt, which has the official splits.

    The lists and the pictures' folder lie in <root>, or as they are published in Anno, Eval and Img.

    Raises:
        DatasetError: a file is missing, a line is malformed, or the lists name other pictures.
    """
    check_split(split)
    folder = require(_either(root, "Img", "img_align_celeba"), "CelebA's aligned pictures")
    table = _either(root, "Anno", "list_attr_celeba.txt")
    genders = _read_genders(table)
    paths, labels = [], []
    partition = _either(root, "Eval", "list_eval_partition.txt")
    for number, line in enumerate(read_lines(partition, "CelebA's official splits"), start=1):
        row = line.split()
        if len(row) != 2 or row[1] not in SPLIT_DIGITS:
            raise DatasetError(f"{partition} line {number}: expected a picture and 0, 1 or 2, found '{line}'")
        if row[0] not in genders:
            raise DatasetError(f"{partition} line {number}: {row[0]} is not in {table}")
        if split in (SPLIT_DIGITS[row[1]], "all"):
            paths.append(folder / row[0])
            labels.append(genders[row[0]])
    if not paths:
        raise AbsentSplitError(f"{partition} has no picture of split '{split}'")
    require(paths[0], "the first CelebA picture of the split; unpack img_align_celeba.zip")
    return Dataset(
        name="celeba",
        split=split,
        paths=paths,
        ids=[f"celeba/{path.stem}" for path in paths],
        classes={"gender": GENDERS},
        labels={"gender": np.array(labels, np.int64)},
        framing=FRAMING,
    )


def _either(root: Path, folder: str, name: str) -> Path:
    published = root / folder / name
    return published if published.exists() else root / name


def _read_genders(table: Path) -> dict[str, int]:
    """Each picture's index in GENDERS: a line with their count, one with the attributes, and one a picture."""
    lines = read_lines(table, "CelebA's attributes")
    header = lines[1].split() if len(lines) > 1 else []
    if not lines or not lines[0].strip().isdecimal() or ATTRIBUTE not in header:
        raise DatasetError(f"{table} lines 1 and 2: expected the number of pictures and the attributes' names")
    column = header.index(ATTRIBUTE) + 1
    genders = {}
    for number, line in enumerate(lines[2:], start=3):
        row = line.split()
        if len(row) != len(header) + 1 or row[column] not in ATTRIBUTE_VALUES:
            raise DatasetError(f"{table} line {number}: expected a picture and {len(header)} attributes of 1 or -1")
        genders[row[0]] = ATTRIBUTE_VALUES[row[column]]
    if len(genders) != int(lines[0]):
        raise DatasetError(f"{table} line 1: {lines[0].strip()} pictures, but {len(genders)} follow; is it cut short?")
    return genders
