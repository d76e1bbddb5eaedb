"""Several datasets as one set of training samples, in which each sample has targets for the tasks that it labels."""

from collections.abc import Sequence

import numpy as np
import torch

from ..datasets.crops import MARGIN, load_crops
from ..datasets.dataset import UNLABELLED, Dataset, DatasetError


class Corpus:
    """Crops and soft targets of several datasets.

    Args:
        datasets: at least one; where two label the same task their classes must agree.
        tasks: which tasks to take targets of; samples that label none of them are left out.
        smoothing: label smoothing, the share of the target spread evenly over the classes.

    Attributes:
        classes: task to labels.
        targets: task to float32 (n, classes), rows summing to 1, or to 0 where a sample does not label the task.
    """

    def __init__(self, datasets: Sequence[Dataset], tasks: Sequence[str], smoothing: float = 0.0):
        self.classes: dict[str, tuple[str, ...]] = {}
        for task in tasks:
            having = [dataset for dataset in datasets if task in dataset.classes]
            if not having:
                raise DatasetError(f"no dataset of {[d.name for d in datasets]} labels the task '{task}'")
            self.classes[task] = having[0].classes[task]
            for other in having[1:]:
                if other.classes[task] != self.classes[task]:
                    raise DatasetError(f"'{other.name}' and '{having[0].name}' have other classes for '{task}'")
        self._crops = [load_crops(dataset, MARGIN) for dataset in datasets]
        self._rows = [np.flatnonzero(_labels_any(dataset, tasks)) for dataset in datasets]
        self._owner = np.repeat(np.arange(len(datasets)), [len(rows) for rows in self._rows])
        self._row = np.concatenate(self._rows)
        self.targets = {
            task: torch.from_numpy(
                np.concatenate(
                    [
                        _targets(dataset, task, len(classes), smoothing)[rows]
                        for dataset, rows in zip(datasets, self._rows, strict=True)
                    ]
                )
            )
            for task, classes in self.classes.items()
        }

    def __len__(self) -> int:
        return len(self._row)

    def crops(self, indices: np.ndarray) -> torch.Tensor:
        """uint8 (len(indices), side, side), crops with a margin for augmentation."""
        picked = [self._crops[self._owner[i]][self._row[i]] for i in indices]
        return torch.from_numpy(np.stack(picked))


def _labels_any(dataset: Dataset, tasks: Sequence[str]) -> np.ndarray:
    labelled = np.zeros(len(dataset), bool)
    for task in tasks:
        if task in dataset.labels:
            labelled |= dataset.labels[task] != UNLABELLED
    return labelled


def _targets(dataset: Dataset, task: str, classes: int, smoothing: float) -> np.ndarray:
    """float32 (n, classes): the votes where the dataset has them, else the label; zeros where there is neither."""
    if task not in dataset.labels:
        return np.zeros((len(dataset), classes), np.float32)
    labels = dataset.labels[task]
    known = labels != UNLABELLED
    if task in dataset.distributions:
        targets = dataset.distributions[task].astype(np.float32)
    else:
        targets = np.zeros((len(dataset), classes), np.float32)
        targets[np.flatnonzero(known), labels[known]] = 1
    return (targets * (1 - smoothing) + smoothing / classes) * known[:, None].astype(np.float32)
