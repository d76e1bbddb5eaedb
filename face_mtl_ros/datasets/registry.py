"""Datasets by the names that the command line uses."""

from collections.abc import Callable
from pathlib import Path

from .dataset import Dataset, DatasetError
from .ferplus import read_ferplus
from .folder import read_folder
from .lfw_gender import read_lfw_gender
from .utkface import read_utkface

READERS: dict[str, Callable[..., Dataset]] = {
    "ferplus": read_ferplus,
    "lfw-gender": read_lfw_gender,
    "utkface": read_utkface,
    "folder": read_folder,
}


def read_dataset(name: str, root: Path, split: str = "train", **options) -> Dataset:
    """Read a dataset by name; DatasetError names the known ones."""
    if name not in READERS:
        raise DatasetError(f"dataset '{name}' is unknown; choose one of {', '.join(READERS)}")
    return READERS[name](Path(root), split, **options)
