"""How many crops pass the encoder together."""

import torch

from ..networks.encoder import Encoder

# So few that their maps stay in a CPU's cache, which is nearly twice as fast.
CHUNK = 8


def encode(encoder: Encoder, crops: torch.Tensor) -> torch.Tensor:
    """The encoder's maps, float (n, channels, s, s): on a GPU of all crops together, on a CPU by chunks."""
    size = chunk_size(crops, encoder.shrink)
    return torch.cat([encoder(chunk) for chunk in crops.split(size)])


def chunk_size(crops: torch.Tensor, shrink: int = 1) -> int:
    """Crops at once; of small ones more fit."""
    return max(1, len(crops)) if crops.is_cuda else CHUNK * shrink**2
