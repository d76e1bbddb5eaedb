"""UTKFace (Zhang et al. 2017): aligned crops with age and gender in the file name; ages in Adience's eight groups."""

from pathlib import Path

import numpy as np

from .dataset import AbsentSplitError, Dataset, check_split, require, split_of
from .labels import AGE_VALUES as AGE_VALUES
from .labels import AGES, GENDERS, age_group

RACES = ("White", "Black", "Asian", "Indian", "Other")  # in the order of the digit, and as its publisher calls them
# Median landmarks of the published crops, measured with YuNet.
FRAMING = np.array([[0.28, 0.288], [0.685, 0.288], [0.48, 0.488], [0.308, 0.676], [0.634, 0.676]], np.float32)


def read_utkface(root: Path, split: str = "train") -> Dataset:
    """Read a folder of <age>_<gender>_<race>_<date>.jpg.chip.jpg pictures; groups "sex" and "race".

    No official split is published: 80 / 10 / 10 % by a hash of the file name. Pictures whose name lacks a part, of
    which the published set has three, are left out.

    Raises:
        DatasetError: the folder is missing, or holds no picture of that form.
    """
    check_split(split)
    require(root, "a folder of UTKFace pictures")
    samples = [
        (path, *parts)
        for path in sorted(root.glob("*.jpg"))
        if (parts := parse_name(path.name)) and split in (split_of(path.name), "all")
    ]
    if not samples:
        raise AbsentSplitError(f"{root} has no picture <age>_<gender>_<race>_<date>.jpg* of split '{split}'")
    paths, ages, genders, races = (list(column) for column in zip(*samples, strict=True))
    return Dataset(
        name="utkface",
        split=split,
        paths=paths,
        ids=[f"utkface/{path.name.split('.')[0]}" for path in paths],
        classes={"age": AGES, "gender": GENDERS},
        labels={"age": np.array([age_group(years) for years in ages], np.int64), "gender": np.array(genders, np.int64)},
        groups={"sex": np.array(GENDERS)[genders], "race": np.array(RACES)[races]},
        framing=FRAMING,
    )


def parse_name(name: str) -> tuple[int, int, int] | None:
    """Age in years, gender and race of a file name; None where it lacks a part."""
    parts = name.split("_")
    if len(parts) != 4 or not parts[0].isdecimal() or parts[1] not in ("0", "1") or parts[2] not in tuple("01234"):
        return None
    return int(parts[0]), int(parts[1]), int(parts[2])
