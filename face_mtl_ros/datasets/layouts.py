"""Which published dataset a folder holds, to say so where another one was meant."""

import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from .utkface import parse_name

LOOKED_AT = 50  # entries of a folder that are looked at; a dataset shows what it is in its first few


def layout_of(root: Path) -> str | None:
    """celeba, ferplus, adience, lfw or utkface, by what the folder holds; None where it is none of them."""
    return next((name for name, holds in LAYOUTS.items() if holds(root)), None) if root.is_dir() else None


def _has(*names: str) -> Callable[[Path], bool]:
    return lambda root: any((root / name).exists() for name in names)


def _holds_people(root: Path) -> bool:
    """Whether a folder a person holds <Name>_NNNN.jpg."""
    return any(
        re.fullmatch(re.escape(path.parent.name) + r"_\d{4}\.jpg", path.name)
        for path in islice(root.glob("*/*.jpg"), LOOKED_AT)
    )


def _holds_utkface(root: Path) -> bool:
    return any(parse_name(path.name) for path in islice(root.glob("*.jpg"), LOOKED_AT))


LAYOUTS: dict[str, Callable[[Path], bool]] = {
    "celeba": _has("img_align_celeba", "list_attr_celeba.txt", "Img/img_align_celeba"),
    "ferplus": _has("fer2013new.csv", "fer2013.csv", "FER2013Train", "FER2013Valid", "FER2013Test"),
    "adience": _has("fold_0_data.txt"),
    "lfw": lambda root: _has("male_names.txt", "female_names.txt")(root) or _holds_people(root),
    "utkface": _holds_utkface,
}
