"""The store's samples as a dataset, which training takes like any other."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..datasets.crops import MARGIN
from ..datasets.dataset import Dataset
from ..vision.alignment import CROP_SIZE, TEMPLATE
from .caches import DATASET_NAME
from .checks import normal_label
from .errors import SampleStoreError
from .pictures import SIDE, with_margin
from .store import SampleStore

VALIDATION_EVERY = 5  # of a label's samples one in five is held back from training


def samples_dataset(store: SampleStore, task: str, split: str = "all", labels: Sequence[str] = ()) -> Dataset:
    """A task's samples to train from, oldest first.

    The pictures are read from the store when they are asked for. Whoever trains on them has them in caches afterwards:
    see caches.erase_cached_crops.

    Args:
        split: "all"; or "val", every fifth sample of each label in the order of their numbers; or "train", the others.
        labels: the classes, in this order; default all that have samples, in alphabetical order.

    Raises:
        SampleStoreError: a label has no sample, or the split has none. A sample that is erased meanwhile raises it when
            it is read.
    """
    if split not in ("train", "val", "all"):
        raise SampleStoreError(f"split '{split}' is unknown: choose train, val or all")
    samples = store.find(task)[::-1]
    found = sorted({sample.label for sample in samples})
    if not found:
        raise SampleStoreError(f"task '{task}' has no samples in {store.file}: collect some")
    classes = tuple(dict.fromkeys(map(normal_label, labels))) or tuple(found)
    if missing := [label for label in classes if label not in found]:
        raise SampleStoreError(f"task '{task}' has no sample of '{missing[0]}': collect some, or leave it out")
    seen: Counter[str] = Counter()
    chosen = []
    for sample in samples:
        seen[sample.label] += 1
        held_back = seen[sample.label] % VALIDATION_EVERY == 0
        if sample.label in classes and (split == "all" or held_back == (split == "val")):
            chosen.append(sample)
    if not chosen:
        raise SampleStoreError(
            f"task '{task}' has no sample to hold back for split '{split}': collect {VALIDATION_EVERY} of a label"
        )
    return Dataset(
        name=DATASET_NAME,
        split=split,
        paths=[store.file] * len(chosen),
        ids=[f"{DATASET_NAME}/{sample.id}" for sample in chosen],
        classes={task: classes},
        labels={task: np.array([classes.index(sample.label) for sample in chosen], np.int64)},
        framing=((TEMPLATE * CROP_SIZE + MARGIN) / SIDE).astype(np.float32),
        read=lambda i: with_margin(store.crop(chosen[i].id)),
    )
