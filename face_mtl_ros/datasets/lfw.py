"""LFW (Huang et al. 2007), all of it: who is on each picture. For embeddings, whose people are never seen before."""

from pathlib import Path

import cv2
import numpy as np

from .dataset import UNLABELLED, AbsentSplitError, Dataset, check_split, read_lines, require, split_of
from .labels import GENDERS

# Median landmarks of the centre crop (42:208 of 250 pixels) that LFW is commonly cut to, and the same uncut.
FRAMING = np.array([[0.37, 0.43], [0.634, 0.43], [0.504, 0.577], [0.394, 0.698], [0.622, 0.698]], np.float32)
UNCUT_SIZE = 250
UNCUT_FRAMING = (FRAMING * (208 - 42) + 42) / UNCUT_SIZE

# LFW-identity takes the first twenty pictures of each person who has as many (paper, section III).
IDENTITY_PICTURES = 20
IDENTITY_SPLITS = {"train": slice(14), "val": slice(14, 16), "test": slice(16, 20), "all": slice(20)}


def read_lfw(root: Path, split: str = "train") -> Dataset:
    """Read LFW's folder a person: <root>/<Name>/<Name>_NNNN.jpg.

    Split by person, 80 / 10 / 10 % of the people by a hash of their name, as LFW-gender. The training split leaves out
    the pictures that LFW-identity tests on. The genders come along where the name lists are there.

    Raises:
        DatasetError: the folder is missing or holds no such picture.
    """
    check_split(split)
    genders: dict[str, int] = {}
    for label, gender in enumerate(GENDERS):
        table = root / f"{gender}_names.txt"
        if table.exists():
            lines = read_lines(table, "LFW's pictures by gender")
            genders |= {line.strip().removesuffix(".jpg"): label for line in lines}
    paths = pictures_of(root, split)
    if not paths:
        raise AbsentSplitError(f"{root} has no picture of split '{split}'; expected <root>/<Name>/<Name>_NNNN.jpg")
    people = tuple(sorted({path.parent.name for path in paths}))
    index = {person: i for i, person in enumerate(people)}
    return Dataset(
        name="lfw",
        split=split,
        paths=paths,
        ids=[f"lfw/{path.stem}" for path in paths],
        classes={"identity": people, "gender": GENDERS},
        labels={
            "identity": np.array([index[path.parent.name] for path in paths], np.int64),
            "gender": np.array([genders.get(path.stem, UNLABELLED) for path in paths], np.int64),
        },
        framing=framing_of(paths[0]),
    )


def pictures_of(root: Path, split: str) -> list[Path]:
    """The pictures of all people of a split, for training without those that LFW-identity tests on."""
    paths = []
    for folder in people_folders(root):
        if split in (split_of(folder.name), "all"):
            pictures = person_pictures(folder)
            left_out = held_back(pictures) if split == "train" else []
            paths += [path for path in pictures if path not in left_out]
    return paths


def people_folders(root: Path) -> list[Path]:
    """A folder a person, in alphabetical order."""
    require(root, "LFW's folder with one folder a person")
    return sorted(path for path in root.iterdir() if path.is_dir())


def person_pictures(folder: Path) -> list[Path]:
    """A person's pictures in the order of their numbers."""
    return sorted(folder.glob(f"{folder.name}_[0-9]*.jpg"))


def held_back(pictures: list[Path]) -> list[Path]:
    """Which of a person's pictures, all of them in order, LFW-identity tests on; nothing else may train on them."""
    return pictures[IDENTITY_SPLITS["test"]] if len(pictures) >= IDENTITY_PICTURES else []


def learned_by_identity(root: Path) -> set[Path]:
    """The pictures that LFW-identity trains on, of all people who have as many as it takes."""
    people = [person_pictures(folder) for folder in people_folders(root)]
    return {
        path for pictures in people if len(pictures) >= IDENTITY_PICTURES for path in pictures[IDENTITY_SPLITS["train"]]
    }


def framing_of(path: Path) -> np.ndarray:
    """Where the landmarks are, by the size of one picture: LFW as it is published, or cut to its centre."""
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    return UNCUT_FRAMING if picture is not None and picture.shape == (UNCUT_SIZE, UNCUT_SIZE) else FRAMING
