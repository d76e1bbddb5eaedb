"""A hidden layer that learns evenly from inputs of different size, for the time of training.

The encoder's map, which a skip connection brings, has other means and spreads than what the column's own layers say.
Read as they are, a short training hardly learns from them, and many hidden units die at its start.
"""

import torch
from torch import nn

from .column import Column

LEAST_DEVIATION = 1e-3


class Standardized(nn.Module):
    """A linear layer whose inputs get the mean 0 and the standard deviation 1 first, by statistics that stay.

    Args:
        linear: the layer.
        inputs: float (n, inputs), n >= 2, the statistics' samples.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, linear: nn.Linear, inputs: torch.Tensor):
        super().__init__()
        self.linear = linear
        self.register_buffer("mean", inputs.mean(0))
        self.register_buffer("deviation", inputs.std(0).clamp(LEAST_DEVIATION))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (n, inputs) to (n, outputs)."""
        return self.linear((x - self.mean) / self.deviation)


def standardize_hidden(column: Column, inputs: torch.Tensor) -> None:
    """Have the column's hidden layer standardise what it reads, by samples of it, float (n, inputs)."""
    assert isinstance(column.hidden, nn.Linear)
    column.hidden = Standardized(column.hidden, inputs)


@torch.no_grad()
def fold_standardization(column: Column) -> None:
    """Make the hidden layer a linear one again that says the same: w' = w / s and b' = b - w' m."""
    if isinstance(column.hidden, Standardized):
        standardized, linear = column.hidden, column.hidden.linear
        linear.weight.div_(standardized.deviation)
        linear.bias.sub_(linear.weight @ standardized.mean)
        column.hidden = linear
