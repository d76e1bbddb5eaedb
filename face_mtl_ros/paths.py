"""Where the package keeps what it is given and what it makes; nothing is created by asking for a path."""

import os
from pathlib import Path


def home() -> Path:
    """The environment's FACE_MTL_HOME, or ~/.local/share/face_mtl_ros where it is unset or empty."""
    return Path(os.environ.get("FACE_MTL_HOME") or "~/.local/share/face_mtl_ros").expanduser()


def detectors_dir() -> Path:
    """Models of face detectors."""
    return home() / "detectors"


def models_dir() -> Path:
    """Bundles, one folder each."""
    return home() / "bundles"


def cache_dir() -> Path:
    """Compiled engines and whatever else can be made again."""
    return home() / "cache"
