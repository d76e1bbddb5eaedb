"""Pictures to train on, as one numbered row of crops on the training device."""

from collections.abc import Sequence

import numpy as np
import torch

from ..datasets.crops import MARGIN, load_crops
from ..datasets.dataset import Dataset
from .device import best_device

RESIDENT_SHARE = 0.4  # of a GPU's free memory, up to which all crops are kept there
PIECE = 1024  # crops copied there at once


class CropPool:
    """The datasets' crops, numbered one after another. On a GPU that has room for all they are kept there.

    Args:
        datasets: read from disk, or from the cache of their crops.
        rows: of each dataset, which of its samples.
    """

    def __init__(self, datasets: Sequence[Dataset], rows: Sequence[np.ndarray]):
        self._files = [load_crops(dataset, MARGIN) for dataset in datasets]
        self._owner = np.repeat(np.arange(len(datasets)), [len(part) for part in rows])
        self._row = np.concatenate(rows)
        self.device = best_device()
        self._resident = self._all_on_gpu() if self._fits() else None

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, indices: np.ndarray) -> torch.Tensor:
        """uint8 (len(indices), 160, 160) on the training device."""
        if self._resident is not None:
            return self._resident[torch.from_numpy(indices).to(self.device)]
        return self._read(indices).to(self.device)

    def _read(self, indices: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.stack([self._files[self._owner[i]][self._row[i]] for i in indices]))

    def _fits(self) -> bool:
        if self.device.type == "cpu" or not len(self):
            return False
        free, _ = torch.cuda.mem_get_info(self.device)
        return len(self) * self._files[0][0].nbytes < RESIDENT_SHARE * free

    def _all_on_gpu(self) -> torch.Tensor:
        starts = range(0, len(self), PIECE)
        return torch.cat([self._read(np.arange(i, min(i + PIECE, len(self)))).to(self.device) for i in starts])
