"""FER+ (Barsoum et al. 2016): FER2013's pictures with the votes of ten annotators over eight emotions."""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .dataset import UNLABELLED, AbsentSplitError, Dataset, DatasetError, check_split, read_lines, require
from .fer2013 import Fer2013

EMOTIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
FOLDERS = {
    "Training": ("train", "FER2013Train"),
    "PublicTest": ("val", "FER2013Valid"),
    "PrivateTest": ("test", "FER2013Test"),
}
LABEL_FILE = "fer2013new.csv"
PIXEL_FILE = "fer2013.csv"


@dataclass(frozen=True)
class Rows:
    """The lines of fer2013new.csv: usages, names (empty where a line has no picture), and votes, float32 (n, 10)."""

    usages: list[str]
    names: list[str]
    votes: np.ndarray


def read_ferplus(root: Path, split: str = "train") -> Dataset:
    """Read FER2013Train, FER2013Valid and FER2013Test beside fer2013new.csv, or without them the original fer2013.csv.

    Majority voting as in Barsoum et al. 2016, section 2: a single vote is noise and does not count, and pictures whose
    highest vote is for `unknown` or `NF` (no face), or is a tie, are left out. The distribution that comes along is
    the votes that count, over the eight emotions.

    Raises:
        DatasetError: a file is missing, a line is malformed, or the rows of the two files do not correspond.
    """
    check_split(split)
    rows = _read_rows(root / LABEL_FILE)
    rows.votes[rows.votes <= 1] = 0
    winners = _majority(rows.votes)
    chosen = [
        i
        for i, (usage, name) in enumerate(zip(rows.usages, rows.names, strict=True))
        if name and split in (FOLDERS[usage][0], "all") and winners[i] != UNLABELLED
    ]
    if not chosen:
        raise AbsentSplitError(f"{root / LABEL_FILE} has no labelled picture of split '{split}'")
    paths = [root / FOLDERS[rows.usages[i]][1] / rows.names[i] for i in chosen]
    votes = rows.votes[chosen, : len(EMOTIONS)]
    dataset = Dataset(
        name="ferplus",
        split=split,
        paths=paths,
        ids=_unique([f"ferplus/{path.parent.name}/{path.stem}" for path in paths]),
        classes={"emotion": EMOTIONS},
        labels={"emotion": winners[chosen]},
        distributions={"emotion": votes / votes.sum(1, keepdims=True)},
    )
    pixels = root / PIXEL_FILE
    if pixels.exists() and not any((root / folder).exists() for _, folder in FOLDERS.values()):
        pictures = _corresponding(pixels, rows.usages)
        dataset.paths = [pixels] * len(chosen)
        dataset.read = lambda i: pictures.picture(chosen[i])
    else:
        for folder in sorted({path.parent for path in paths}):
            if not folder.exists():
                raise AbsentSplitError(
                    f"{folder} not found: FER+ pictures of split '{split}', or {PIXEL_FILE} in their place"
                )
        require(paths[0], "the first FER+ picture; unpack FER2013's pictures as fer*.png beside the labels")
    return dataset


def _read_rows(table: Path) -> Rows:
    lines = csv.reader(read_lines(table, "FER+ labels; get them from Microsoft's FERPlus repository"))
    header = next(lines, [])
    if [name.strip().lower() for name in header[2:]] != [*EMOTIONS, "unknown", "nf"]:
        raise DatasetError(f"{table} line 1: expected the columns of fer2013new.csv, found {header}")
    rows = []
    for row in lines:
        if len(row) != 12 or row[0] not in FOLDERS or not all(vote.isdecimal() for vote in row[2:]):
            raise DatasetError(f"{table} line {lines.line_num}: expected a usage, a name and ten votes, found {row}")
        rows.append(row)
    votes = np.array([[int(vote) for vote in row[2:]] for row in rows], np.float32).reshape(-1, 10)
    return Rows([row[0] for row in rows], [row[1] for row in rows], votes)


def _corresponding(pixels: Path, usages: list[str]) -> Fer2013:
    """fer2013.csv, whose rows are those of the labels one by one; DatasetError where they are not."""
    pictures = Fer2013(pixels)
    for number, (expected, found) in enumerate(zip(usages, pictures.usages, strict=False), start=2):
        if expected != found:
            raise DatasetError(f"{pixels} line {number}: usage '{found}', but '{expected}' in {LABEL_FILE}")
    if len(usages) != len(pictures.usages):
        raise DatasetError(
            f"{pixels} has {len(pictures.usages)} rows and {LABEL_FILE} {len(usages)}; take both as they are published"
        )
    return pictures


def _unique(ids: list[str]) -> list[str]:
    """The ids with a number behind those that were there before: the published labels list three pictures twice."""
    count: Counter[str] = Counter()
    unique = []
    for name in ids:
        count[name] += 1
        unique.append(name if count[name] == 1 else f"{name}#{count[name]}")
    return unique


def _majority(votes: np.ndarray) -> np.ndarray:
    """Index of each row's emotion with most votes; UNLABELLED where none has, two have, or `unknown` or `NF` leads."""
    highest, winners = votes.max(1, initial=0), votes.argmax(1)
    tie = (votes == highest[:, None]).sum(1) > 1
    return np.where((highest == 0) | tie | (winners >= len(EMOTIONS)), UNLABELLED, winners).astype(np.int64)
