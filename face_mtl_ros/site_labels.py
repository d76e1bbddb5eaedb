"""Labels on a robot: what one may be called, and how it is renamed in samples and model together."""

from dataclasses import dataclass

from .bundle.files import BundleError
from .bundle.manifest import ColumnRecord
from .samples.checks import UNKNOWN, check_display_name, check_label, normal_label
from .samples.errors import SampleStoreError
from .samples.store import SampleStore
from .site_model import SiteModel, find_column, is_on_site


@dataclass(frozen=True)
class Renamed:
    """What a renaming did.

    Attributes:
        changed: samples that carry the name now.
        model_version: version in use now.
    """

    changed: int
    model_version: str


def check_label_of(column: ColumnRecord | None, label: str, task: str) -> str:
    """The label, normalised, fit for a task that may have a column; SampleStoreError where it is not."""
    label = check_label(label, task)
    if column is not None and column.kind == "identity" and label.casefold() == UNKNOWN:
        raise SampleStoreError(f"label '{label}' is what '{task}' calls strangers: choose another one")
    return label


def rename_label(
    store: SampleStore, site: SiteModel, task: str, label: str, new_label: str = "", display_name: str = ""
) -> Renamed:
    """Give a label another name in the samples and in the model in use, or in neither.

    Args:
        new_label: one that is not in use; empty: as it is.
        display_name: what to call it aloud, which is kept with the samples; empty: as it is.

    Raises:
        SampleStoreError, BundleError, SwapError: it cannot be done, and why.
    """
    bundle = site.bundle()
    column = find_column(bundle.manifest, task)
    label = normal_label(label)
    wanted = check_label_of(column, new_label, task) if new_label else label
    check_display_name(display_name)
    stored = store.counts(task, label)
    in_model = column is not None and label in column.labels
    if column is not None:
        if in_model and not is_on_site(column):
            raise BundleError(f"column '{task}' is built into the model: its labels stay as they are")
        if wanted != label and wanted in column.labels:
            raise BundleError(f"label '{wanted}' of '{task}' is in use: merge '{label}' into it instead")
    if in_model and not stored and (display_name or wanted == label):
        raise BundleError(f"label '{label}' of '{task}' has no samples any more: give it a new label alone")
    changed = store.rename(task, label, new_label, display_name) if stored or not in_model else 0
    if not in_model or wanted == label:
        return Renamed(changed, bundle.version)
    try:
        return Renamed(changed, site.rename(task, label, wanted).bundle.version)
    except Exception:  # whatever it is, it is raised: samples and model keep the same name
        if stored:
            store.rename(task, wanted, label, stored[0].display_name)
        raise
