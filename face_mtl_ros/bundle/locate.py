"""Where bundles lie: a path, a name under FACE_MTL_HOME, or a model that ships with the package."""

from pathlib import Path

from ..paths import models_dir
from .files import BundleError

DEFAULT_MODEL = "default"


def locate_bundle(model: str | Path = DEFAULT_MODEL) -> Path:
    """The folder of a model.

    Args:
        model: a path (anything with a slash, or an existing folder), or a name, looked for under FACE_MTL_HOME first
            and among the shipped models then.

    Raises:
        BundleError: nothing of that name is there; says where it was looked for.
    """
    text = str(model) or DEFAULT_MODEL
    if "/" in text or Path(text).is_dir():
        return Path(text).expanduser()
    candidates = [models_dir() / text, *(folder / text for folder in _shipped())]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise BundleError(f"model '{text}' not found; looked for {', '.join(str(candidate) for candidate in candidates)}")


def _shipped() -> list[Path]:
    """models/ of the source tree, or share/face_mtl_ros/models of the prefix under which the package is installed."""
    parents = Path(__file__).resolve().parents
    folders = [parents[2] / "models", *(parent / "share" / "face_mtl_ros" / "models" for parent in parents)]
    return [folder for folder in folders if folder.is_dir()]


def bundle_folders() -> list[Path]:
    """All folders under FACE_MTL_HOME and among the shipped models that hold a manifest."""
    places = [models_dir(), *_shipped()]
    return [folder.parent for place in places for folder in sorted(place.glob("*/manifest.json"))]
