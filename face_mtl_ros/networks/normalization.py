"""Batch normalisation for the time of training, in presets that have none."""

from dataclasses import replace

import torch
from torch import nn

from .layers import ConvLayer
from .presets import Preset


def normalised(preset: Preset, wanted: bool = True) -> Preset:
    """The preset with batch normalisation, if that is wanted."""
    return replace(preset, normalization="batch") if wanted else preset


@torch.no_grad()
def fold_normalization(module: nn.Module) -> None:
    """Fold each layer's batch normalisation into its convolution: what the module computes in evaluation mode stays.

    w' = w g / s and b' = b - m g / s, with s the square root of the running variance plus epsilon, m the running mean,
    g and b the normalisation's weight and bias.
    """
    for layer in module.modules():
        if isinstance(layer, ConvLayer) and isinstance(layer.norm, nn.BatchNorm2d):
            norm = layer.norm
            assert norm.running_mean is not None and norm.running_var is not None
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            layer.conv.weight *= scale[:, None, None, None]
            layer.conv.bias = nn.Parameter(norm.bias - norm.running_mean * scale, norm.bias.requires_grad)
            layer.norm = nn.Identity()
