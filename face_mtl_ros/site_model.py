"""The model of a robot that learns: its columns, what they know of the stored samples, and its versions in use."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from .bundle.bundle import Bundle, load_bundle
from .bundle.files import BundleError
from .bundle.locate import locate_bundle, unversioned_bundle
from .bundle.manifest import ColumnRecord, Manifest
from .bundle.revision import dependents, install_revision, with_label_renamed, without_columns
from .bundle.versions import ModelVersions
from .samples.caches import DATASET_NAME
from .samples.sample import Sample


class SwapError(RuntimeError):
    """The perception node did not take a version into use; the message says why, and what to do."""


@dataclass(frozen=True)
class InUse:
    """A version that was taken into use.

    Attributes:
        bundle: it.
        message: what came of it, for people.
    """

    bundle: Bundle
    message: str


class SiteModel:
    """One model by its name, and the versions that learning makes of it. Threads may share it; changes queue.

    A change is whole or has not been: where the perception node refuses the new version, the old one is active again.

    Args:
        name: of the model.
        keep_versions: how many others than the active one stay.

    Attributes:
        swap: has the perception node take a version's folder, and returns what to tell of it; raises SwapError where it
            refuses. To be set before any change.

    Raises:
        BundleError: the name is none. So do the methods, where the model in use is missing or corrupt, the disk is
            full, or a version cannot be used; and SwapError where perception does not take it.
    """

    def __init__(self, name: str, keep_versions: int = 5) -> None:
        self.versions = ModelVersions(name)
        self.keep_versions = keep_versions
        self.swap: Callable[[Path], str] = lambda _: "no perception node is told"
        self._changing = threading.RLock()

    def bundle(self) -> Bundle:
        """The active version."""
        return load_bundle(locate_bundle(self.versions.name))

    def kept(self) -> list[str]:
        """All versions that can be gone back to, the newest first, the active one among them."""
        found = self.versions.installed()[::-1]
        base = unversioned_bundle(self.versions.name)
        origin = load_bundle(base).version if base else ""
        return found + ([origin] if origin and origin not in found else [])

    def take_into_use(self, change: Callable[[], object]) -> InUse:
        """Let `change` make another version active, and perception take it; else the one before is active again."""
        with self._changing:
            before = self.versions.active()
            change()
            try:
                bundle = self.bundle()
                message = self.swap(bundle.root)
            except (SwapError, BundleError):
                if before != self.versions.active():
                    self.versions.activate(before) if before else self.versions.rollback()
                raise
            self.versions.prune(self.keep_versions)
            return InUse(bundle, message)

    def rollback(self, version: str = "") -> InUse:
        """Go back to a version; empty: the one before the active one."""
        return self.take_into_use(lambda: self._go_back(version))

    def rename(self, task: str, label: str, new_label: str) -> InUse:
        """Let a task's column call a label otherwise."""
        with self._changing:
            bundle = self.bundle()
            manifest = with_label_renamed(bundle.manifest, task, label, new_label)
            return self.take_into_use(lambda: install_revision(self.versions, bundle, manifest))

    def remove(self, task: str, with_dependents: bool = False) -> tuple[list[str], InUse]:
        """Take a task's column out, and where allowed those that draw on it; returns the tasks that are gone.

        Raises:
            BundleError: there is no such column, it is built in, or another one draws on it.
        """
        with self._changing:
            bundle = self.bundle()
            column = find_column(bundle.manifest, task)
            if column is None:
                trained = [column.task for column in bundle.manifest.columns if is_on_site(column)]
                known = ", ".join(trained) or "none"
                raise BundleError(f"the model has no column '{task[:64]}'; trained on site are: {known}")
            if not is_on_site(column):
                raise BundleError(f"column '{task}' is built into the model: only what was trained here can be removed")
            users = dependents(bundle.manifest, task)
            if users and not with_dependents:
                raise BundleError(
                    f"column '{task}' cannot be removed: {', '.join(users)} draws on it; remove that first, or all of "
                    "them with remove_dependents"
                )
            manifest = without_columns(bundle.manifest, {task, *users})
            return [task, *users], self.take_into_use(lambda: install_revision(self.versions, bundle, manifest))

    def _go_back(self, version: str) -> None:
        if not version:
            self.versions.rollback()
        elif version in self.versions.installed():
            self.versions.activate(version)
        elif version in self.kept():  # the bundle that was there before any version
            base = unversioned_bundle(self.versions.name)
            assert base is not None
            self.versions.install(base)
        else:
            raise BundleError(f"version '{version[:120]}' is not kept; kept are: {', '.join(self.kept())}")


def find_column(manifest: Manifest, task: str) -> ColumnRecord | None:
    """A task's column; None where the model has none."""
    return next((column for column in manifest.columns if column.task == task), None)


def is_on_site(column: ColumnRecord) -> bool:
    """Whether a column was trained with a robot's own samples; the others came with the model."""
    return any(name.partition("/")[0] == DATASET_NAME for name in column.provenance.samples)


def trained_at(column: ColumnRecord) -> float | None:
    """When the training ended, seconds since 1970; None where the manifest does not say."""
    try:
        found = datetime.fromisoformat(column.provenance.date.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found.replace(tzinfo=found.tzinfo or timezone.utc).timestamp()


def validation_accuracy(column: ColumnRecord) -> float:
    """Share of the held-back faces answered rightly, over all sets of them; NaN where unknown."""
    sets = [name.removesuffix("/accuracy") for name in column.metrics if name.endswith("/accuracy")]
    counts = {name: column.metrics.get(f"{name}/n", 1.0) for name in sets if name.count("/") == 1}
    right = sum(column.metrics[f"{name}/accuracy"] * count for name, count in counts.items())
    return right / sum(counts.values()) if counts else float("nan")


def tasks_that_know(manifest: Manifest, samples: Iterable[Sample]) -> list[str]:
    """The tasks whose columns were trained on site with labels of these samples, in the model's order.

    A sample that was stored after the training counts too: to name a column too many is the safe side.
    """
    asked = {(sample.task, sample.label) for sample in samples}
    return [
        column.task
        for column in manifest.columns
        if is_on_site(column) and any((column.task, label) in asked for label in column.labels)
    ]
