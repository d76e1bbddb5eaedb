"""A folder per class: <root>/<label>/<picture>, the layout in which people collect pictures of their own."""

from pathlib import Path

import numpy as np

from .dataset import AbsentSplitError, Dataset, DatasetError, check_split, require, split_of

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def read_folder(root: Path, split: str = "train", task: str = "label") -> Dataset:
    """Read the pictures of a folder per class, classes in alphabetical order. The pictures are aligned crops.

    Split 80 / 10 / 10 % by a hash of <label>/<file name>.

    Args:
        task: what the classes are called as a whole.

    Raises:
        DatasetError: the folder is missing, has fewer than two classes, or no picture of that split.
    """
    check_split(split)
    require(root, "a folder with one folder of pictures a class")
    files = [p for p in sorted(root.glob("*/*")) if p.suffix.lower() in PICTURES and not p.name.startswith(".")]
    classes = tuple(sorted({path.parent.name for path in files}))
    if len(classes) < 2:
        raise DatasetError(f"{root} needs pictures in at least two folders, one a class; found {list(classes)}")
    keys = [f"{path.parent.name}/{path.name}" for path in files]
    chosen = [i for i, key in enumerate(keys) if split in (split_of(key), "all")]
    if not chosen:
        raise AbsentSplitError(
            f"{root} has no picture in split '{split}'; its {len(files)} pictures are too few for splits"
        )
    return Dataset(
        name="folder",
        split=split,
        paths=[files[i] for i in chosen],
        ids=[f"folder/{keys[i]}" for i in chosen],
        classes={task: classes},
        labels={task: np.array([classes.index(files[i].parent.name) for i in chosen], np.int64)},
    )
