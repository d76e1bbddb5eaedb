"""What the last layers of a column read where its convolutions do not learn: an epoch over it takes seconds."""

import hashlib

import torch
from torch.nn import functional as F

from ..networks.column import Column
from .device import best_autocast
from .features import Frozen


class FrozenConvolutions(Frozen):
    """The frozen encoder and sources, and the column's own frozen convolutions.

    Instead of all activations it gives those that the last layers read: of the encoder's map its averages for the skip
    connection, then the last two activations of the column itself, whose second is none, and of each source.

    Args:
        frozen: encoder and sources.
        column: with frozen convolutions.
    """

    def __init__(self, frozen: Frozen, column: Column):
        super().__init__(frozen.network, ["", *frozen.sources], frozen.corpus, frozen.views)
        self._frozen, self._column = frozen, column

    def of_crops(self, crops: torch.Tensor) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
        """See above; arguments as of Frozen."""
        encoded, sources = self._frozen.of_crops(crops)
        with torch.no_grad(), best_autocast(crops.device):
            last = self._column.activations(encoded, sources)[-2]
        averaged = F.adaptive_avg_pool2d(encoded, max(1, self._column.skip_size))
        return averaged, [[last, last[:, :1, :1, :1]], *(source[-2:] for source in sources)]

    @property
    def key(self) -> str:
        """What identifies the column's convolutions and what is lateral to them."""
        digest = hashlib.sha256()
        for name, value in self._column.state_dict().items():
            if name.startswith(("layers.", "adapters.")):
                digest.update(name.encode() + value.cpu().numpy().tobytes())
        return digest.hexdigest()
