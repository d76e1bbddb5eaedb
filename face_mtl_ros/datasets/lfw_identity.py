"""LFW-identity: the people of Labeled Faces in the Wild with most pictures, twenty of each (paper, section III)."""

from pathlib import Path

import numpy as np

from .dataset import Dataset, DatasetError, check_split
from .lfw import IDENTITY_PICTURES, IDENTITY_SPLITS, framing_of, people_folders, person_pictures


def read_lfw_identity(root: Path, split: str = "train", people: int | None = 50) -> Dataset:
    """Read the first twenty pictures of each person who has as many, from <root>/<Name>/<Name>_NNNN.jpg.

    Of each person pictures 1 to 14 are for training, 15 and 16 for validation, 17 to 20 for the test.

    Args:
        people: how many of them, the first in alphabetical order (the paper's 50); None takes all (LFW has 62).

    Raises:
        DatasetError: the folder is missing, or has fewer such people.
    """
    check_split(split)
    of_person = {folder.name: person_pictures(folder) for folder in people_folders(root)}
    found = {name: pictures for name, pictures in of_person.items() if len(pictures) >= IDENTITY_PICTURES}
    if len(found) < (people or 2):
        raise DatasetError(
            f"{root} has {len(found)} people with at least {IDENTITY_PICTURES} pictures <Name>/<Name>_NNNN.jpg, "
            f"{people or 'at least 2'} are asked for; choose fewer by the option people"
        )
    names = tuple(found)[:people]
    chosen = [(label, path) for label, name in enumerate(names) for path in found[name][IDENTITY_SPLITS[split]]]
    return Dataset(
        name="lfw-identity",
        split=split,
        paths=[path for _, path in chosen],
        ids=[f"lfw/{path.stem}" for _, path in chosen],
        classes={"identity": names},
        labels={"identity": np.array([label for label, _ in chosen], np.int64)},
        framing=framing_of(chosen[0][1]),
    )
