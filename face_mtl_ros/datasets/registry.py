"""Datasets by the names that the command line uses."""

import re
from collections.abc import Callable
from pathlib import Path

from .adience import read_adience
from .celeba import read_celeba
from .dataset import Dataset, DatasetError
from .ferplus import read_ferplus
from .folder import read_folder
from .layouts import layout_of
from .lfw import read_lfw
from .lfw_gender import read_lfw_gender
from .lfw_identity import read_lfw_identity
from .utkface import read_utkface

READERS: dict[str, Callable[..., Dataset]] = {
    "celeba": read_celeba,
    "ferplus": read_ferplus,
    "lfw": read_lfw,
    "lfw-identity": read_lfw_identity,
    "lfw-gender": read_lfw_gender,
    "adience": read_adience,
    "utkface": read_utkface,
    "folder": read_folder,
}


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "false", "yes", "no"):
        raise ValueError("expected true or false")
    return text.lower() in ("true", "yes")


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("expected a whole number")
    return int(text)


def _people(text: str) -> int | None:
    return None if text == "all" else _whole(text)


# Options of a reader, and what makes one of the text on a command line.
OPTIONS: dict[str, dict[str, Callable[[str], object]]] = {
    "lfw-identity": {"people": _people},
    "lfw-gender": {"balanced": _yes_or_no},
    "adience": {"fold": _whole},
    "folder": {"task": str},
}
# What may be read from a layout besides the dataset of its name: a person's folder is a class as well.
ALSO_READ_AS = {"lfw": ("lfw-identity", "lfw-gender", "folder")}


def read_dataset(name: str, root: Path, split: str = "train", **options) -> Dataset:
    """Read a dataset by name.

    Args:
        options: those of the reader, as their values or as text from a command line.

    Raises:
        DatasetError: the name or an option is unknown, the folder holds another dataset, or it cannot be read.
    """
    if name not in READERS:
        raise DatasetError(f"dataset '{name}' is unknown; choose one of {', '.join(READERS)}")
    values = {key: _value(name, key, value) for key, value in options.items()}
    root = Path(root)
    if root.is_file():
        raise DatasetError(f"{root} is a file; unpack it and name the folder")
    found = layout_of(root)
    if found and name != found and name not in ALSO_READ_AS.get(found, ()):
        raise DatasetError(f"{root} is no root of {name}: it looks like {found}")
    return READERS[name](root, split, **values)


def read_source(entry: str, split: str, task: str) -> Dataset:
    """Read a dataset as commands name it: NAME[:OPTION=VALUE[,OPTION=VALUE]]=ROOT, lfw-identity:people=62=/data/lfw.

    Args:
        task: what the classes of a `folder` are called, unless its option says so.

    Raises:
        DatasetError: the entry is malformed, or as read_dataset.
    """
    match = re.fullmatch(r"([^:=]+)(?::(\w+=[^,=]+(?:,\w+=[^,=]+)*))?=(.+)", entry)
    if not match:
        raise DatasetError(f"'{entry}' names no dataset; expected NAME=ROOT or NAME:OPTION=VALUE=ROOT")
    name, text, root = match.groups()
    options = dict(pair.split("=") for pair in text.split(",")) if text else {}
    if name == "folder":
        options = {"task": task} | options
    return read_dataset(name, Path(root), split, **options)


def _value(name: str, option: str, value: object) -> object:
    known = OPTIONS.get(name, {})
    if option not in known:
        raise DatasetError(f"{name} has no option '{option}'; it has {', '.join(known) or 'none'}")
    if not isinstance(value, str):
        return value
    try:
        return known[option](value)
    except ValueError as error:
        raise DatasetError(f"option {option}={value} of {name}: {error}") from None
