"""UTKFace (Zhang et al. 2017): aligned crops with age and gender in the file name; ages in Adience's eight groups."""

from pathlib import Path

import numpy as np

from .dataset import Dataset, DatasetError, check_split, require, split_of
from .lfw_gender import GENDERS

# Adience's groups (Eidinger et al. 2014), first and last year of each.
AGE_GROUPS = ((0, 2), (4, 6), (8, 13), (15, 20), (25, 32), (38, 43), (48, 53), (60, 116))
AGES = tuple("60+" if low == 60 else f"{low}-{high}" for low, high in AGE_GROUPS)
# Years that stand for a group when its expectation is taken: the middle, and for the last the mean of UTKFace's ages.
AGE_VALUES = (1.0, 5.0, 10.5, 17.5, 28.5, 40.5, 50.5, 70.0)
# Median landmarks of the published crops, measured with YuNet.
FRAMING = np.array([[0.28, 0.288], [0.685, 0.288], [0.48, 0.488], [0.308, 0.676], [0.634, 0.676]], np.float32)


def age_group(years: int) -> int:
    """Index of the Adience group of an age; between two groups the nearer one, and the younger at equal distance."""
    distances = [max(low - years, years - high, 0) for low, high in AGE_GROUPS]
    return int(np.argmin(distances))


def read_utkface(root: Path, split: str = "train") -> Dataset:
    """Read a folder of <age>_<gender>_<race>_<date>.jpg.chip.jpg pictures.

    No official split is published: 80 / 10 / 10 % by a hash of the file name. Pictures whose name lacks a part, of
    which the published set has three, are left out.

    Raises:
        DatasetError: the folder is missing, or holds no picture of that form.
    """
    check_split(split)
    require(root, "a folder of UTKFace pictures")
    paths, ages, genders = [], [], []
    for path in sorted(root.glob("*.jpg")):
        parts = path.name.split("_")
        if len(parts) != 4 or not parts[0].isdigit() or parts[1] not in ("0", "1"):
            continue
        if split in (split_of(path.name), "all"):
            paths.append(path)
            ages.append(age_group(int(parts[0])))
            genders.append(int(parts[1]))
    if not paths:
        raise DatasetError(f"{root} has no picture <age>_<gender>_<race>_<date>.jpg* of split '{split}'")
    return Dataset(
        name="utkface",
        split=split,
        paths=paths,
        ids=[f"utkface/{path.name.split('.')[0]}" for path in paths],
        classes={"age": AGES, "gender": GENDERS},
        labels={"age": np.array(ages, np.int64), "gender": np.array(genders, np.int64)},
        framing=FRAMING,
    )
