"""LFW-gender: Labeled Faces in the Wild with hand-verified lists of male and female pictures."""

import zlib
from pathlib import Path

import numpy as np

from .dataset import AbsentSplitError, Dataset, DatasetError, check_split, read_lines
from .labels import GENDERS
from .lfw import framing_of, learned_by_identity, pictures_of


def read_lfw_gender(root: Path, split: str = "train", balanced: bool = False) -> Dataset:
    """Read LFW's folder a person, with male_names.txt and female_names.txt (one picture's file name a line) beside.

    Split by person, never by picture: 80 / 10 / 10 % of the people by a hash of their name. The training split leaves
    out the pictures that LFW-identity tests on, and validation and test those that it trains on: a column may draw on
    the other task's, which must not have seen what it is tested on.

    Args:
        balanced: keep as many pictures of each gender, the first by a hash of their name (the paper's recipe).

    Raises:
        DatasetError: a list is missing, a line is no picture's name, or no listed picture is there.
    """
    check_split(split)
    listed = [_read_names(root / f"{gender}_names.txt") for gender in GENDERS]
    seen = learned_by_identity(root) if split in ("val", "test") else set()
    here = {path.name: path for path in pictures_of(root, split) if path not in seen}
    # The lists name some pictures that a cropped or partial copy lacks.
    samples = [(here[name], label) for label, names in enumerate(listed) for name in names if name in here]
    samples = _balanced(samples) if balanced else samples
    if not samples:
        both = " of both genders" if balanced else ""
        raise AbsentSplitError(
            f"{root} has no listed picture{both} of split '{split}'; expected <root>/<Name>/<Name>_NNNN.jpg"
        )
    return Dataset(
        name="lfw-gender",
        split=split,
        paths=[path for path, _ in samples],
        ids=[f"lfw/{path.stem}" for path, _ in samples],
        classes={"gender": GENDERS},
        labels={"gender": np.array([label for _, label in samples], np.int64)},
        framing=framing_of(samples[0][0]),
    )


def _read_names(table: Path) -> list[str]:
    names = []
    for number, line in enumerate(read_lines(table, "the list of LFW's pictures by gender"), start=1):
        name = line.strip()
        person, _, index = name.removesuffix(".jpg").rpartition("_")
        if name and not (person and index.isdecimal()):
            raise DatasetError(f"{table} line {number}: expected a name such as Jane_Doe_0001.jpg, found '{name}'")
        if name:
            names.append(name)
    return names


def _balanced(samples: list[tuple[Path, int]]) -> list[tuple[Path, int]]:
    """As many samples of each label, chosen by a hash of the name so that the choice is stable."""
    by_hash = sorted(samples, key=lambda sample: zlib.crc32(sample[0].name.encode()))
    of_label = [[sample for sample in by_hash if sample[1] == label] for label in range(len(GENDERS))]
    fewest = min(len(chosen) for chosen in of_label)
    kept = {path for chosen in of_label for path, _ in chosen[:fewest]}
    return [sample for sample in samples if sample[0] in kept]
