"""Where bundles lie: a path, a name or version under FACE_MTL_HOME, or a model that ships with the package."""

import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..paths import models_dir
from .files import BundleError

DEFAULT_MODEL = "default"
ACTIVE: Final = "active.json"  # beside VERSIONS in a model's folder; bundle.versions writes both
VERSIONS: Final = "versions"
NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"  # of models, and of versions, which are 13 longer than a manifest's


class Active(BaseModel):
    """Which version of a model is in use, and those that were before it, the last one at the end."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    active: Annotated[str, Field(pattern=NAME)] | None = None
    before: list[Annotated[str, Field(pattern=NAME)]] = Field(default_factory=list)


def locate_bundle(model: str | Path = DEFAULT_MODEL) -> Path:
    """The folder of a model.

    Args:
        model: a path (a Path, or a text with a slash, "." or ".."), or a name, looked for under FACE_MTL_HOME first
            and among the shipped models then, or an installed version. A model with versions gives the active one. A
            folder beside you is ./folder, so that none can pass for a name.

    Raises:
        BundleError: nothing of that name is there, says where it was looked for; or the place cannot be looked at.
    """
    text = str(model) or DEFAULT_MODEL
    try:
        if isinstance(model, Path) or "/" in text or text in (".", ".."):
            return Path(text).expanduser()
        active = read_active(models_dir() / text).active
        folder = models_dir() / text / VERSIONS / active if active else unversioned_bundle(text) or _version(text)
    except (OSError, RuntimeError) as error:  # RuntimeError: ~ of a user who has no home folder, or does not exist
        raise BundleError(f"model '{text}' cannot be looked for: {error}; give its folder as a full path") from error
    if folder is None:
        places = ", ".join(str(place) for place in _places(text))
        raise BundleError(f"model '{text}' not found; looked for {places}; a folder needs a slash, as in ./{text}")
    return folder


def unversioned_bundle(name: str) -> Path | None:
    """A model's bundle that lies under FACE_MTL_HOME without versions, or ships; None where there is neither."""
    for place in _places(name):
        if place.is_dir() and ((place / "manifest.json").exists() or not (place / VERSIONS).exists()):
            return place
    return None


def read_active(root: Path) -> Active:
    """What a model's folder says of its versions; an empty answer where none was ever activated."""
    file = root / ACTIVE
    if not file.is_file():
        return Active()
    try:
        return Active.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise BundleError(f"{file} is damaged: {error.errors()[0]['msg']}; remove it and activate a version") from error


def check_name(name: str) -> str:
    """The name of a model or version; BundleError where it could lead elsewhere than to a folder of that name."""
    if not re.fullmatch(NAME, name):
        shown = f"{name[:40]}..." if len(name) > 40 else name
        raise BundleError(f"{shown!r} is no model's name: up to 100 letters, digits, '_', '.', '-', no sign first")
    return name


def _version(text: str) -> Path | None:
    for folder in models_dir().glob(f"*/{VERSIONS}/*"):
        if folder.name == text:
            return folder
    return None


def _places(name: str) -> list[Path]:
    return [models_dir() / name, *(folder / name for folder in _shipped())]


def _shipped() -> list[Path]:
    """models/ of the source tree, or share/face_mtl_ros/models of the prefix under which the package is installed."""
    parents = Path(__file__).resolve().parents
    folders = [parents[2] / "models", *(parent / "share" / "face_mtl_ros" / "models" for parent in parents)]
    return [folder for folder in folders if folder.is_dir()]


def bundle_folders() -> list[Path]:
    """All folders under FACE_MTL_HOME, versions too, and among the shipped models that hold a manifest."""
    installed = [*models_dir().glob("*/manifest.json"), *models_dir().glob(f"*/{VERSIONS}/[!.]*/manifest.json")]
    shipped = [file for place in _shipped() for file in sorted(place.glob("*/manifest.json"))]
    return [file.parent for file in [*sorted(installed), *shipped]]


def model_name(folder: Path) -> str:
    """The name that a folder of bundle_folders is found by."""
    return folder.parents[1].name if folder.parent.name == VERSIONS else folder.name
