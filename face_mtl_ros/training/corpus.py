"""Several datasets as one set of training samples, in which each sample has targets for the tasks that it labels."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from ..datasets.crops import MARGIN, cache_key
from ..datasets.dataset import UNLABELLED, Dataset, DatasetError
from .crop_pool import CropPool
from .distillation import teacher_targets

EMBEDDING = "embedding"  # the target that is a descriptor and no class
IDENTITY = "identity"  # the task of datasets that say who is on a picture


class Corpus:
    """Crops and soft targets of several datasets.

    Args:
        datasets: at least one; where two label the same task their classes must agree.
        tasks: which tasks to take targets of; samples that label none of them are left out.
        smoothing: label smoothing, the share of the target spread evenly over the classes.
        descriptors: float32 (n, d) a dataset, the targets of an embedding; with them every sample is taken.
        soft: take the distribution of the votes where a dataset has it, else the winner alone.
        foreign: float32 (n, d) a dataset, its pictures by the foreign descriptor that a column draws on.

    Attributes:
        classes: task to labels.
        ids: the samples' names.
        parts: how many samples there are of each dataset; they are numbered in that order.
        people: int64 (n,), who is on it, counted over all datasets; UNLABELLED where that is not known, or the person
            has no other picture, which teaches nothing.
        key: changes with the samples and their pictures.
        targets: task to float32 (n, classes), rows summing to 1, or to 0 where a sample does not label the task; and
            where there are descriptors, "embedding" to float32 (n, d) of unit length.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        tasks: Sequence[str],
        smoothing: float = 0.0,
        descriptors: Sequence[np.ndarray] | None = None,
        soft: bool = True,
        foreign: Sequence[np.ndarray] | None = None,
    ):
        self.classes: dict[str, tuple[str, ...]] = {}
        for task in tasks:
            having = [dataset for dataset in datasets if task in dataset.classes]
            if not having:
                raise DatasetError(f"no dataset of {[d.name for d in datasets]} labels the task '{task}'")
            self.classes[task] = having[0].classes[task]
            for other in having[1:]:
                if other.classes[task] != self.classes[task]:
                    raise DatasetError(f"'{other.name}' and '{having[0].name}' have other classes for '{task}'")
        self._datasets = list(datasets)
        self._rows = [
            np.flatnonzero(_labels_any(dataset, tasks) if descriptors is None else np.ones(len(dataset), bool))
            for dataset in datasets
        ]
        self.parts = [len(rows) for rows in self._rows]
        self._crops = CropPool(datasets, self._rows)
        self.ids = [
            dataset.ids[row] for dataset, rows in zip(datasets, self._rows, strict=True) for row in rows.tolist()
        ]
        self.people = self._people()
        self._foreign = None
        if foreign is not None:
            picked = [found[rows] for found, rows in zip(foreign, self._rows, strict=True)]
            self._foreign = torch.from_numpy(np.concatenate(picked))
        digest = hashlib.sha256()
        for dataset, rows in zip(datasets, self._rows, strict=True):
            digest.update(cache_key(dataset, MARGIN).encode() + rows.tobytes())
        self.key = digest.hexdigest()
        self.targets = {
            task: torch.from_numpy(
                np.concatenate(
                    [
                        _targets(dataset, task, len(classes), smoothing, soft)[rows]
                        for dataset, rows in zip(datasets, self._rows, strict=True)
                    ]
                )
            )
            for task, classes in self.classes.items()
        }
        if descriptors is not None:
            picked = [found[rows] for found, rows in zip(descriptors, self._rows, strict=True)]
            self.targets[EMBEDDING] = teacher_targets(np.concatenate(picked))

    def __len__(self) -> int:
        return len(self._crops)

    def crops(self, indices: np.ndarray) -> torch.Tensor:
        """uint8 (len(indices), side, side), crops with a margin for augmentation, on the training device."""
        return self._crops[indices]

    @property
    def foreign_dimensions(self) -> int:
        """Of the foreign descriptor; 0 where there is none."""
        return 0 if self._foreign is None else self._foreign.shape[1]

    def described(self, indices: np.ndarray) -> torch.Tensor | None:
        """The samples by the foreign descriptor, where there is one: float32 (n, d) of length 1, on the device."""
        return None if self._foreign is None else self._foreign[indices].to(self._crops.device)

    def _people(self) -> np.ndarray:
        people, known = [], 0
        for dataset, rows in zip(self._datasets, self._rows, strict=True):
            labels = dataset.labels.get(IDENTITY, np.full(len(dataset), UNLABELLED))[rows]
            people.append(np.where(labels == UNLABELLED, UNLABELLED, labels + known))
            known += len(dataset.classes.get(IDENTITY, ()))
        found = np.concatenate(people)
        persons, places, counts = np.unique(found, return_inverse=True, return_counts=True)
        kept = (persons != UNLABELLED) & (counts > 1)
        number = np.where(kept, np.cumsum(kept) - 1, UNLABELLED)
        return number[places]


def _labels_any(dataset: Dataset, tasks: Sequence[str]) -> np.ndarray:
    labelled = np.zeros(len(dataset), bool)
    for task in tasks:
        if task in dataset.labels:
            labelled |= dataset.labels[task] != UNLABELLED
    return labelled


def _targets(dataset: Dataset, task: str, classes: int, smoothing: float, soft: bool) -> np.ndarray:
    """float32 (n, classes): the votes where the dataset has them, else the label; zeros where there is neither."""
    if task not in dataset.labels:
        return np.zeros((len(dataset), classes), np.float32)
    labels = dataset.labels[task]
    known = labels != UNLABELLED
    if soft and task in dataset.distributions:
        targets = dataset.distributions[task].astype(np.float32)
    else:
        targets = np.zeros((len(dataset), classes), np.float32)
        targets[np.flatnonzero(known), labels[known]] = 1
    return (targets * (1 - smoothing) + smoothing / classes) * known[:, None].astype(np.float32)
