"""The facial encoder, Table I."""

import torch
from torch import nn
from torch.nn import functional as F

from .layers import ConvLayer
from .presets import LEAST_CONTRAST, Preset
from .topology import INPUT_SIZE, encoder_layers


class Encoder(nn.Module):
    """Grey face crop to the feature map that all columns read."""

    def __init__(self, preset: Preset):
        super().__init__()
        self.shrink = preset.shrink
        self.layers = nn.Sequential(*(ConvLayer(plan, preset) for plan in encoder_layers(preset)))

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Run the encoder.

        Args:
            crops: float (n, 1, 128, 128), normalised as the bundle says; or of the size to which the preset shrinks
                them, shrunk before they were normalised, as training makes them.

        Returns:
            float (n, 256 * width, s, s), s = 16 / shrink.
        """
        return self.layers(shrink(crops, self.shrink) if crops.shape[-1] == INPUT_SIZE else crops)


def shrink(crops: torch.Tensor, factor: int) -> torch.Tensor:
    """Shrink normalised crops and normalise them again: what had fine structure would be flatter than the others.

    float (n, 1, h, w) of mean 0 to (n, 1, h / factor, w / factor).
    """
    if factor == 1:
        return crops
    small = F.avg_pool2d(crops, factor)
    # Not less before the root either: at 0 its gradient, by which maps explain, is no number.
    return small / (small * small).mean((2, 3), keepdim=True).clamp(min=LEAST_CONTRAST**2).sqrt()
