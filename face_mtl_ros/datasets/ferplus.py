"""FER+ (Barsoum et al. 2016): FER2013's pictures with the votes of ten annotators over eight emotions."""

import csv
from pathlib import Path

import numpy as np

from .dataset import UNLABELLED, Dataset, DatasetError, check_split, require

EMOTIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
FOLDERS = {
    "Training": ("train", "FER2013Train"),
    "PublicTest": ("val", "FER2013Valid"),
    "PrivateTest": ("test", "FER2013Test"),
}
LABEL_FILE = "fer2013new.csv"


def read_ferplus(root: Path, split: str = "train") -> Dataset:
    """Read the official layout: FER2013Train, FER2013Valid and FER2013Test beside fer2013new.csv.

    Majority voting as in Barsoum et al. 2016, section 2: a single vote is noise and does not count, and pictures whose
    highest vote is for `unknown` or `NF` (no face), or is a tie, are left out. The distribution that comes along is
    the votes that count, over the eight emotions.

    Raises:
        DatasetError: a file is missing, or a line is malformed.
    """
    check_split(split)
    table = require(root / LABEL_FILE, "FER+ labels; get them from Microsoft's FERPlus repository")
    paths, labels, distributions = [], [], []
    with table.open(newline="") as lines:
        rows = csv.reader(lines)
        header = next(rows, [])
        if [name.strip().lower() for name in header[2:]] != [*EMOTIONS, "unknown", "nf"]:
            raise DatasetError(f"{table} line 1: expected the columns of fer2013new.csv, found {header}")
        for row in rows:
            where = f"{table} line {rows.line_num}"
            if len(row) != 12 or row[0] not in FOLDERS or not all(vote.isdigit() for vote in row[2:]):
                raise DatasetError(f"{where}: expected a usage, a name and ten votes, found {row}")
            row_split, folder = FOLDERS[row[0]]
            if not row[1] or split not in (row_split, "all"):
                continue
            votes = np.array(row[2:], np.float32)
            votes[votes <= 1] = 0
            winner = _majority(votes)
            if winner != UNLABELLED:
                paths.append(root / folder / row[1])
                labels.append(winner)
                distributions.append(votes[:8] / votes[:8].sum())
    if not paths:
        raise DatasetError(f"{table} has no labelled picture of split '{split}'")
    for pictures in sorted({path.parent for path in paths}):
        require(pictures, f"FER+ pictures of split '{split}'")
    require(paths[0], "the first FER+ picture; unpack FER2013's pictures as fer*.png beside the labels")
    return Dataset(
        name="ferplus",
        split=split,
        paths=paths,
        ids=[f"ferplus/{path.parent.name}/{path.stem}" for path in paths],
        classes={"emotion": EMOTIONS},
        labels={"emotion": np.array(labels, np.int64)},
        distributions={"emotion": np.stack(distributions)},
    )


def _majority(votes: np.ndarray) -> int:
    """Index of the emotion with most votes; UNLABELLED where there is none, a tie, or `unknown` or `NF` leads."""
    leaders = np.flatnonzero(votes == votes.max())
    return int(leaders[0]) if votes.max() > 0 and len(leaders) == 1 and leaders[0] < len(EMOTIONS) else UNLABELLED
