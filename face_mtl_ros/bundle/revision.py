"""A model with other labels or fewer columns as a new version, without training: no weight is changed."""

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from ..file_lock import alone
from ..paths import cache_dir
from .bundle import Bundle, load_bundle, write_manifest
from .files import BundleError
from .manifest import Manifest
from .versions import ModelVersions


def dependents(manifest: Manifest, task: str) -> list[str]:
    """The tasks whose columns draw on a task's, directly or through others, in the model's order."""
    found: list[str] = []
    for column in manifest.columns:  # sources come before the columns that draw on them
        if not {task, *found}.isdisjoint(column.sources):
            found.append(column.task)
    return found


def without_columns(manifest: Manifest, tasks: Collection[str]) -> Manifest:
    """The manifest without these tasks' columns; pydantic's ValidationError where a column that is left needs one."""
    kept = [column.model_dump() for column in manifest.columns if column.task not in tasks]
    return Manifest.model_validate(manifest.model_dump() | {"columns": kept})


def with_label_renamed(manifest: Manifest, task: str, label: str, new_label: str) -> Manifest:
    """The manifest in which a task's column calls a label otherwise; the order of its outputs stays.

    Raises:
        KeyError: the task has no column.
        BundleError: the column does not know the label, or has the new one already.
    """
    labels = manifest.column(task).labels
    if label not in labels:
        raise BundleError(f"column '{task}' knows no label '{label}'; it knows {', '.join(labels)}")
    if new_label in labels:
        raise BundleError(f"column '{task}' has a label '{new_label}' already: train it anew instead")
    renamed = [new_label if known == label else known for known in labels]
    columns = [
        column.model_dump() | ({"labels": renamed} if column.task == task else {}) for column in manifest.columns
    ]
    return Manifest.model_validate(manifest.model_dump() | {"columns": columns})


def install_revision(versions: ModelVersions, bundle: Bundle, manifest: Manifest) -> Bundle:
    """Make the bundle's weights with another manifest the active version.

    Raises:
        BundleError, OSError: see ModelVersions; what was active stays so.
    """
    folder = cache_dir() / "revision"
    with alone(folder.with_suffix(".lock"), "a change of a model's columns"):
        shutil.rmtree(folder, ignore_errors=True)  # a killed process's
        try:
            for path in (path for record in manifest.weights for path in record.paths):
                _give(bundle.root / path, folder / path)
            write_manifest(folder, manifest)
            return load_bundle(versions.install(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _give(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
