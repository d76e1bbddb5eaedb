"""What a manifest says about how weights came to be, and where a training keeps its checkpoint."""

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..bundle.manifest import Provenance
from ..datasets.dataset import Dataset
from ..paths import cache_dir

TERMS = {
    "adience": "Adience: published for research",
    "celeba": "CelebA: non-commercial research",
    "ferplus": "FER+ labels: MIT; FER2013 pictures: published for research",
    "lfw": "LFW: published for research",
    "lfw-gender": "LFW: published for research",
    "lfw-identity": "LFW: published for research",
    "utkface": "UTKFace: non-commercial research",
}


def provenance(
    datasets: Sequence[Dataset], recipe: Any, history: Any, command: str, begun_from: Provenance | None = None
) -> Provenance:
    """The record of a training that has just ended.

    Args:
        recipe: a dataclass with a seed.
        history: what the training returned: epochs really done, and the budgets that it ran under.
        begun_from: the record of the weights that it began with, if they were trained.
    """
    terms = dict.fromkeys(TERMS[dataset.name] for dataset in datasets if dataset.name in TERMS)
    return Provenance(
        command=command,
        package_version=__version__,
        torch_version=f"{torch.__version__} {platform.machine()}",
        date=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
        seed=recipe.seed,
        epochs=round(history.epochs, 3),
        samples={f"{dataset.name}/{dataset.split}": len(dataset) for dataset in datasets},
        recipe={**asdict(recipe), "budgets": history.budgets},
        validation=getattr(history, "validation", []),
        terms="; ".join(terms),
        begun_from=begun_from,
    )


def checkpoint_file(output: Path, part: str) -> Path:
    """Under FACE_MTL_HOME, one for each part of each bundle that is trained."""
    key = hashlib.sha256(f"{output.resolve()}/{part}".encode()).hexdigest()[:16]
    return cache_dir() / "training" / f"{part}-{key}.pt"
