"""What every reader returns: pictures with labels, and where a face lies in them."""

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..vision.alignment import TEMPLATE

SPLITS = ("train", "val", "test", "all")
UNLABELLED = -1


class DatasetError(ValueError):
    """A dataset is missing or malformed; the message names the file, the line where there is one, and the remedy."""


class AbsentSplitError(DatasetError):
    """A dataset is there and has no picture of a split."""


@dataclass
class Dataset:
    """Pictures of single faces with labels for one or several tasks.

    Attributes:
        name, split: as on the command line.
        paths: a sample's file: its picture, or where `read` is set the file that holds its pixels.
        ids: one stable, unique name a sample.
        classes: task to its labels, in the order of the class indices.
        labels: task to int64 (n,), class indices, UNLABELLED where a sample has none.
        distributions: task to float32 (n, classes), the shares of the annotators' votes, where there are any.
        groups: name to str (n,), who the samples show, to report results by: such as "sex" or "race".
        framing: float32 (5, 2), where the dataset's pictures have the landmarks, as shares of width and height: its
            publisher cropped all of them alike, so one place, its median, serves to align them.
        read: sample index to its picture, uint8 (h, w) grey, for datasets whose pictures are not files of their own.
    """

    name: str
    split: str
    paths: list[Path]
    ids: list[str]
    classes: dict[str, tuple[str, ...]]
    labels: dict[str, np.ndarray]
    distributions: dict[str, np.ndarray] = field(default_factory=dict)
    groups: dict[str, np.ndarray] = field(default_factory=dict)
    framing: np.ndarray = field(default_factory=lambda: TEMPLATE)
    read: Callable[[int], np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: np.ndarray) -> "Dataset":
        """The samples of these rows alone, int (m,), with all that is known of them."""
        read = self.read
        return replace(
            self,
            paths=[self.paths[row] for row in rows],
            ids=[self.ids[row] for row in rows],
            labels={task: labels[rows] for task, labels in self.labels.items()},
            distributions={task: shares[rows] for task, shares in self.distributions.items()},
            groups={name: groups[rows] for name, groups in self.groups.items()},
            read=None if read is None else lambda i: read(int(rows[i])),
        )

    def counts(self, task: str) -> dict[str, int]:
        """How many samples each label has."""
        found = Counter(self.labels[task].tolist())
        return {label: found[i] for i, label in enumerate(self.classes[task])}


def check_classes(datasets: Sequence[Dataset], task: str) -> None:
    """Make sure that a column can learn the task from the datasets together.

    Raises:
        DatasetError: a dataset does not label the task, they label one class only, or have no sample of some class.
    """
    counts: Counter[str] = Counter()
    for dataset in datasets:
        if task not in dataset.labels:
            raise DatasetError(
                f"{dataset.name} does not label '{task}'; it labels {', '.join(dataset.labels) or 'nothing'}"
            )
        counts.update(dataset.counts(task))
    found = [label for label, count in counts.items() if count]
    data = " and ".join(f"{dataset.name}, split '{dataset.split}'," for dataset in datasets)
    if len(found) < 2:
        raise DatasetError(
            f"{data} have samples of {found or 'no class'} alone for '{task}'; a column needs two classes"
        )
    if len(found) < len(counts):
        empty = [label for label, count in counts.items() if not count]
        raise DatasetError(f"{data} have no sample of {empty} for '{task}'; add samples or drop the class")


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


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a text file; DatasetError if it is missing or no text."""
    try:
        return require(path, what).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is no text: {error.reason} at byte {error.start}; expected {what}") from None
