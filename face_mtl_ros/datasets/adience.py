"""Adience (Eidinger et al. 2014): faces of Flickr albums with age group and gender, in five folds by subject."""

import re
from pathlib import Path

import numpy as np

from .dataset import UNLABELLED, AbsentSplitError, Dataset, DatasetError, check_split, read_lines, require
from .labels import AGES, GENDERS, age_group

FOLDS = 5
HEADER = "user_id original_image face_id age gender x y dx dy tilt_ang fiducial_yaw_angle fiducial_score"
COLUMNS = HEADER.split(" ")
# The two publications of the pictures: folder, and how a picture's file name begins. The aligned one comes first.
PUBLICATIONS = {"aligned": "landmark_aligned_face", "faces": "coarse_tilt_aligned_face"}
GENDER_LETTERS = {"m": GENDERS.index("male"), "f": GENDERS.index("female"), "u": UNLABELLED, "": UNLABELLED}
# An estimate, of an upright face in the middle half of the picture: no copy was at hand to measure it on.
FRAMING = np.array([[0.39, 0.43], [0.61, 0.43], [0.5, 0.545], [0.41, 0.65], [0.59, 0.65]], np.float32)


def read_adience(root: Path, split: str = "train", fold: int = 0) -> Dataset:
    """Read aligned/ or faces/ beside fold_0_data.txt to fold_4_data.txt. Faces without age or gender are UNLABELLED.

    The five-fold protocol: one fold is the test split, the next (after 4 comes 0) the validation, the other three are
    for training. The folds share no subject.

    Args:
        fold: the test fold, 0 to 4.

    Raises:
        DatasetError: a file is missing, a line is malformed, or there is no such fold.
    """
    check_split(split)
    folds = folds_of(split, fold)
    folder = next((root / name for name in PUBLICATIONS if (root / name).exists()), root / "faces")
    require(folder, "Adience's pictures, in aligned or faces")
    paths, ids, ages, genders = [], [], [], []
    for table in [root / f"fold_{k}_data.txt" for k in folds]:
        lines = read_lines(table, "a fold of Adience")
        if not lines or lines[0].split() != COLUMNS:
            raise DatasetError(f"{table} line 1: expected the tab-separated columns {HEADER}")
        for number, line in enumerate(lines[1:], start=2):
            row = [value.strip() for value in line.split("\t")]
            if len(row) != len(COLUMNS) or row[4] not in GENDER_LETTERS:
                raise DatasetError(
                    f"{table} line {number}: expected {len(COLUMNS)} tab-separated values with gender m, f or u, "
                    f"found '{line}'"
                )
            user, image, face, age, gender = row[:5]
            try:
                ages.append(parse_age(age))
            except ValueError as error:
                raise DatasetError(f"{table} line {number}: {error}") from None
            genders.append(GENDER_LETTERS[gender])
            paths.append(folder / user / f"{PUBLICATIONS[folder.name]}.{face}.{image}")
            ids.append(f"adience/{user}/{face}.{Path(image).stem}")
    if not paths:
        raise AbsentSplitError(f"{root} has no face of split '{split}'; the folds {folds} are empty")
    require(paths[0], f"the first Adience picture of the split, as {folder.name}.tar.gz has it")
    return Dataset(
        name="adience",
        split=split,
        paths=paths,
        ids=ids,
        classes={"age": AGES, "gender": GENDERS},
        labels={"age": np.array(ages, np.int64), "gender": np.array(genders, np.int64)},
        framing=FRAMING,
    )


def folds_of(split: str, fold: int) -> list[int]:
    """The folds of a split where `fold` is the test fold."""
    if not 0 <= fold < FOLDS:
        raise DatasetError(f"fold {fold} of Adience is unknown; choose one of 0 to {FOLDS - 1}")
    after = [(fold + k) % FOLDS for k in range(FOLDS)]
    return sorted({"test": after[:1], "val": after[1:2], "train": after[2:], "all": after}[split])


def parse_age(text: str) -> int:
    """Index of the group of an age such as "(25, 32)" or "35", by its middle; UNLABELLED for "None" or nothing.

    Some published faces have a single year or another range than the eight; those go into the nearest group.

    Raises:
        ValueError: the text is of no such form.
    """
    if text in ("None", ""):
        return UNLABELLED
    match = re.fullmatch(r"\(?(\d+)(?:, *(\d+))?\)?", text)
    if not match:
        raise ValueError(f"expected an age such as (25, 32), 35 or None, found '{text}'")
    first, last = int(match[1]), int(match[2] or match[1])
    return age_group((first + last) / 2)
