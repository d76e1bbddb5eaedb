"""The convolution layer of which the encoder and the columns are made."""

import torch
from torch import nn

from .presets import Preset
from .topology import Conv


class ConvLayer(nn.Module):
    """3x3 convolution, batch normalisation where the preset has it, ReLU, and the max-pooling where the plan has one.

    Args:
        plan: channels, stride and pooling.
        preset: normalisation.
        extra_inputs: channels that a lateral adapter adds to the input.
    """

    def __init__(self, plan: Conv, preset: Preset, extra_inputs: int = 0):
        super().__init__()
        batch_norm = preset.normalization == "batch"
        self.conv = nn.Conv2d(
            plan.inputs + extra_inputs, plan.outputs, 3, stride=plan.stride, padding=1, bias=not batch_norm
        )
        self.norm = nn.BatchNorm2d(plan.outputs) if batch_norm else nn.Identity()
        self.pool = nn.MaxPool2d(2) if plan.pool else nn.Identity()
        # Without a normalisation 37 layers deep, a smaller gain than He's would let the signal die out.
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (n, inputs + extra_inputs, h, w) to (n, outputs, h', w'), not negative."""
        return self.pool(torch.relu_(self.norm(self.conv(x))))
