"""Where bundles lie: a path, a name under FACE_MTL_HOME, or a model that ships with the package."""

from pathlib import Path

from ..paths import models_dir
from .files import BundleError

DEFAULT_MODEL = "default"


def locate_bundle(model: str | Path = DEFAULT_MODEL) -> Path:
    """The folder of a model.

    Args:
        model: a path (a Path, or a text with a slash, "." or ".."), or a name, looked for under FACE_MTL_HOME first
            and among the shipped models then. A folder beside you is ./folder, so that none can pass for a name.

    Raises:
        BundleError: nothing of that name is there, says where it was looked for; or the place cannot be looked at.
    """
    text = str(model) or DEFAULT_MODEL
    try:
        if isinstance(model, Path) or "/" in text or text in (".", ".."):
            return Path(text).expanduser()
        candidates = [models_dir() / text, *(folder / text for folder in _shipped())]
        for candidate in candidates:
            if candidate.is_dir():
                return candidate
    except (OSError, RuntimeError) as error:  # RuntimeError: ~ of a user who has no home folder, or does not exist
        raise BundleError(f"model '{text}' cannot be looked for: {error}; give its folder as a full path") from error
    places = ", ".join(str(candidate) for candidate in candidates)
    raise BundleError(f"model '{text}' not found; looked for {places}; a folder needs a slash, as in ./{text}")


def _shipped() -> list[Path]:
    """models/ of the source tree, or share/face_mtl_ros/models of the prefix under which the package is installed."""
    parents = Path(__file__).resolve().parents
    folders = [parents[2] / "models", *(parent / "share" / "face_mtl_ros" / "models" for parent in parents)]
    return [folder for folder in folders if folder.is_dir()]


def bundle_folders() -> list[Path]:
    """All folders under FACE_MTL_HOME and among the shipped models that hold a manifest."""
    places = [models_dir(), *_shipped()]
    return [folder.parent for place in places for folder in sorted(place.glob("*/manifest.json"))]
