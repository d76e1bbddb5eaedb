"""How many operations and parameters a network has, from its topology alone."""

import math
from collections.abc import Sequence

from .presets import Preset
from .shapes import column_shapes, encoder_shapes
from .topology import Conv, column_layers, encoder_layers

# A column: (outputs, number of sources), or with a foreign descriptor (outputs, sources, its dimensions).
Sized = tuple[int, int] | tuple[int, int, int] | tuple[int, int, int, bool]


def parameters(preset: Preset, columns: Sequence[Sized]) -> int:
    """Number of learned parameters of the encoder and of the columns."""
    shapes = [encoder_shapes(preset), *(column_shapes(preset, *column) for column in columns)]
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return sum(math.prod(shape) for part in shapes for name, shape in part.items() if not name.endswith(statistics))


def flops(preset: Preset, columns: Sequence[Sized]) -> int:
    """Floating-point operations a face, a multiplication and an addition each counted, without the non-linearities.

    A foreign descriptor's own are not among them.
    """
    total = sum(_conv(plan.inputs, plan) for plan in encoder_layers(preset))
    for column in columns:
        shapes = column_shapes(preset, *column)
        plans = column_layers(preset)
        for i, plan in enumerate(plans):
            total += _conv(shapes[f"layers.{i}.conv.weight"][1], plan)
        # The adapter of layer i + 2 runs on the map that layer i + 1 gives out, behind its pooling.
        sizes = [plan.size // 2 if plan.pool else plan.size for plan in plans] + [1]
        for i, size in enumerate(sizes if column[1] else []):
            total += 2 * math.prod(shapes[f"adapters.{i}.reduce.weight"]) * size**2
        matrices = ("hidden.weight", "foreign.reduce.weight", "classifier.weight")
        total += sum(2 * math.prod(shapes[name]) for name in matrices if name in shapes)
    return total


def _conv(inputs: int, plan: Conv) -> int:
    return 2 * 9 * inputs * plan.outputs * plan.size**2
