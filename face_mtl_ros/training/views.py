"""How training looks at a crop: as it is, or at random."""

from functools import partial

import torch

from ..datasets.augmentation import Augmentation, plain
from .device import best_device


class Views:
    """uint8 (n, side, side) crops with a margin to float (n, 1, 128 / shrink, 128 / shrink), normalised.

    The crops lie on the training device.

    Args:
        augment: random views, else the crops as they are.
        shrink: the preset's.

    Attributes:
        name: "plain" or "augmented".
    """

    def __init__(self, augment: bool, shrink: int = 1):
        self.name = "augmented" if augment else "plain"
        # On the device its random numbers are drawn there too: a GPU would wait for noise that a CPU makes.
        self._make = Augmentation(shrink).to(best_device()) if augment else partial(plain, shrink=shrink)

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        return self._make(crops)
