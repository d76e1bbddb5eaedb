"""A network whose non-linearities are modules, which is where guided backpropagation takes hold.

The networks rectify in place, to save memory, and inside of functions. Here the same weights are put into layers with
`nn.ReLU` modules; what the network computes stays the same to the bit.
"""

import torch
from torch import nn

from ..networks.column import Adapter, Column
from ..networks.layers import ConvLayer
from ..networks.progressive import ProgressiveNetwork


class GuidableLayer(nn.Module):
    """A ConvLayer, with its ReLU as the module `relu`, whose output is the convolution's map before any pooling."""

    def __init__(self, layer: ConvLayer):
        super().__init__()
        self.conv, self.norm, self.pool = layer.conv, layer.norm, layer.pool
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As ConvLayer's."""
        return self.pool(self.relu(self.norm(self.conv(x))))


def make_guidable(network: ProgressiveNetwork) -> ProgressiveNetwork:
    """Put `nn.ReLU` modules into a network, which is changed and returned; it must not be trained any more."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ConvLayer):
                setattr(module, name, GuidableLayer(child))
        # These are followed by a function's ReLU, which leaves what is rectified already as it is.
        if isinstance(module, Column):
            module.hidden = nn.Sequential(module.hidden, nn.ReLU())
            if module.foreign is not None:
                module.foreign.reduce = nn.Sequential(module.foreign.reduce, nn.ReLU())  # type: ignore[assignment]
        if isinstance(module, Adapter):
            module.reduce = nn.Sequential(module.reduce, nn.ReLU())  # type: ignore[assignment]
    return network
