"""The pictures of several datasets without their labels."""

from collections.abc import Sequence

import numpy as np
import torch

from ..datasets.dataset import Dataset, DatasetError
from .crop_pool import CropPool


class UnlabelledPool:
    """All pictures of the datasets, numbered one after another.

    Attributes:
        ids: the samples' ids, for messages.

    Raises:
        DatasetError: there is no picture, or one cannot be read.
    """

    def __init__(self, datasets: Sequence[Dataset]):
        if not any(len(dataset) for dataset in datasets):
            raise DatasetError(f"no picture to train on in {[f'{d.name}/{d.split}' for d in datasets]}")
        self._crops = CropPool(datasets, [np.arange(len(dataset)) for dataset in datasets])
        self.ids = [id for dataset in datasets for id in dataset.ids]

    def __len__(self) -> int:
        return len(self.ids)

    def crops(self, indices: np.ndarray) -> torch.Tensor:
        """uint8 (len(indices), 160, 160), crops with their margin, on the training device."""
        return self._crops[indices]
