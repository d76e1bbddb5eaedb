"""LFW-gender: Labeled Faces in the Wild with hand-verified lists of male and female pictures."""

import zlib
from pathlib import Path

import numpy as np

from .dataset import Dataset, DatasetError, check_split, require, split_of

GENDERS = ("male", "female")
# Median landmarks of the centre crop (42:208 of 250 pixels) that LFW is commonly cut to.
FRAMING = np.array([[0.37, 0.43], [0.634, 0.43], [0.504, 0.577], [0.394, 0.698], [0.622, 0.698]], np.float32)


def read_lfw_gender(root: Path, split: str = "train", balanced: bool = False) -> Dataset:
    """Read LFW's folder a person, with male_names.txt and female_names.txt (one picture's file name a line) beside.

    Split by person, never by picture: 80 / 10 / 10 % of the people by a hash of their name.

    Args:
        balanced: keep as many pictures of each gender, the first by a hash of their name (the paper's recipe).

    Raises:
        DatasetError: a list is missing, a line is no picture's name, or no listed picture is there.
    """
    check_split(split)
    paths, labels = [], []
    for label, gender in enumerate(GENDERS):
        table = require(root / f"{gender}_names.txt", "the list of LFW's pictures by gender")
        for number, line in enumerate(table.read_text().splitlines(), start=1):
            name = line.strip()
            if not name:
                continue
            person, _, index = name.removesuffix(".jpg").rpartition("_")
            if not person or not index.isdigit():
                raise DatasetError(f"{table} line {number}: expected a name such as Jane_Doe_0001.jpg, found '{name}'")
            if split not in (split_of(person), "all"):
                continue
            path = root / person / name
            if path.exists():  # the lists name some pictures that a cropped or partial copy lacks
                paths.append(path)
                labels.append(label)
    if not paths:
        raise DatasetError(f"{root} has no listed picture of split '{split}'; expected <root>/<Name>/<Name>_NNNN.jpg")
    order = _balanced(paths, labels) if balanced else range(len(paths))
    paths, labels = [paths[i] for i in order], [labels[i] for i in order]
    return Dataset(
        name="lfw-gender",
        split=split,
        paths=paths,
        ids=[f"lfw/{path.stem}" for path in paths],
        classes={"gender": GENDERS},
        labels={"gender": np.array(labels, np.int64)},
        framing=FRAMING,
    )


def _balanced(paths: list[Path], labels: list[int]) -> list[int]:
    """Indices of as many samples of each label, chosen by a hash of the name so that the choice is stable."""
    by_label = [
        sorted(
            (i for i, found in enumerate(labels) if found == label), key=lambda i: zlib.crc32(paths[i].name.encode())
        )
        for label in range(len(GENDERS))
    ]
    fewest = min(len(indices) for indices in by_label)
    return sorted(i for indices in by_label for i in indices[:fewest])
