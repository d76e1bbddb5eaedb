"""What every reader returns: pictures with labels, and where a face lies in them."""

import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..vision.alignment import TEMPLATE

SPLITS = ("train", "val", "test", "all")
UNLABELLED = -1


class DatasetError(ValueError):
    """A dataset is missing or malformed; the message names the file, the line where there is one, and the remedy."""


@dataclass
class Dataset:
    """Pictures of single faces with labels for one or several tasks.

    Attributes:
        name, split: as on the command line.
        paths: one picture file a sample.
        ids: one stable, unique name a sample.
        classes: task to its labels, in the order of the class indices.
        labels: task to int64 (n,), class indices, UNLABELLED where a sample has none.
        distributions: task to float32 (n, classes), the shares of the annotators' votes, where there are any.
        framing: float32 (5, 2), where the dataset's pictures have the landmarks, as shares of width and height: its
            publisher cropped all of them alike, so one place, its median, serves to align them.
    """

    name: str
    split: str
    paths: list[Path]
    ids: list[str]
    classes: dict[str, tuple[str, ...]]
    labels: dict[str, np.ndarray]
    distributions: dict[str, np.ndarray] = field(default_factory=dict)
    framing: np.ndarray = field(default_factory=lambda: TEMPLATE)

    def __len__(self) -> int:
        return len(self.paths)

    def counts(self, task: str) -> dict[str, int]:
        """How many samples each label has."""
        found = Counter(self.labels[task].tolist())
        return {label: found[i] for i, label in enumerate(self.classes[task])}


def split_of(key: str, val: float = 0.1, test: float = 0.1) -> str:
    """The split of a sample (or of all samples of a person) for datasets that publish none.

    Depends on the key alone, so a sample stays in its split whatever else is added.
    """
    share = zlib.crc32(key.encode()) / 2**32
    return "val" if share < val else "test" if share < val + test else "train"


def check_split(split: str) -> None:
    if split not in SPLITS:
        raise DatasetError(f"split '{split}' is unknown; choose one of {', '.join(SPLITS)}")


def require(path: Path, what: str) -> Path:
    """The path if it exists; DatasetError says what was looked for otherwise."""
    if not path.exists():
        raise DatasetError(f"{path} not found: {what}")
    return path
