"""How training looks at a crop: as it is, or at random."""

from functools import partial
from typing import Literal

import torch

from ..datasets.augmentation import Augmentation, plain
from .device import best_device

Kind = Literal["plain", "mirrored", "augmented"]


class Views:
    """uint8 (n, side, side) crops with a margin to float (n, 1, 128 / shrink, 128 / shrink), normalised.

    The crops lie on the training device.

    Args:
        kind: "augmented" for random views, "mirrored" for the crops as they are and half of them mirrored, "plain" for
            the crops alone.
        shrink: the preset's.
    """

    def __init__(self, kind: Kind, shrink: int = 1):
        self.kind = kind
        # On the device its random numbers are drawn there too: a GPU would wait for noise that a CPU makes.
        augmented = kind == "augmented"
        self._make = Augmentation(shrink).to(best_device()) if augmented else partial(plain, shrink=shrink)

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        views = self._make(crops)
        if self.kind == "mirrored":
            turned = torch.rand(len(views), 1, 1, 1, device=views.device) < 0.5
            views = torch.where(turned, views.flip(-1), views)
        return views
