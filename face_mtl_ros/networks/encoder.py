"""The facial encoder, Table I."""

import torch
from torch import nn

from .layers import ConvLayer
from .presets import Preset
from .topology import encoder_layers


class Encoder(nn.Module):
    """Grey face crop to the feature map that all columns read."""

    def __init__(self, preset: Preset):
        super().__init__()
        self.layers = nn.Sequential(*(ConvLayer(plan, preset) for plan in encoder_layers(preset)))

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """float (n, 1, 128, 128), normalised as the bundle says, to float (n, 256 * width, 16, 16)."""
        return self.layers(crops)
