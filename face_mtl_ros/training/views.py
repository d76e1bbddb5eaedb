"""How training looks at a crop: as it is, or at random."""

from functools import partial

import torch

from ..datasets.augmentation import Augmentation, plain
from .device import best_device

MIRRORED = "mirrored"


class Views:
    """uint8 (n, side, side) crops with a margin to float (n, 1, 128 / shrink, 128 / shrink), normalised.

    The crops lie on the training device.

    Args:
        augment: random views; MIRRORED for the crops as they are, half of them mirrored; False for the crops alone.
        shrink: the preset's.

    Attributes:
        name: "plain", "mirrored" or "augmented".
    """

    def __init__(self, augment: bool | str, shrink: int = 1):
        self.name = MIRRORED if augment == MIRRORED else "augmented" if augment else "plain"
        # On the device its random numbers are drawn there too: a GPU would wait for noise that a CPU makes.
        augmented = self.name == "augmented"
        self._make = Augmentation(shrink).to(best_device()) if augmented else partial(plain, shrink=shrink)

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        views = self._make(crops)
        if self.name == MIRRORED:
            turned = torch.rand(len(views), 1, 1, 1, device=views.device) < 0.5
            views = torch.where(turned, views.flip(-1), views)
        return views
