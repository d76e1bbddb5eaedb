"""How many operations and parameters a network has, from its topology alone."""

import math
from collections.abc import Sequence

from .presets import Preset
from .shapes import column_shapes, encoder_shapes
from .topology import Conv, column_layers, encoder_layers


def parameters(preset: Preset, columns: Sequence[tuple[int, int]]) -> int:
    """Number of learned parameters of the encoder and of columns given as (classes, sources)."""
    shapes = [encoder_shapes(preset), *(column_shapes(preset, *column) for column in columns)]
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return sum(math.prod(shape) for part in shapes for name, shape in part.items() if not name.endswith(statistics))


def flops(preset: Preset, columns: Sequence[tuple[int, int]]) -> int:
    """Floating-point operations a face, a multiplication and an addition each counted, without the non-linearities."""
    total = sum(_conv(plan.inputs, plan) for plan in encoder_layers(preset))
    for classes, sources in columns:
        shapes = column_shapes(preset, classes, sources)
        plans = column_layers(preset)
        for i, plan in enumerate(plans):
            total += _conv(shapes[f"layers.{i}.conv.weight"][1], plan)
        # The adapter of layer i + 2 runs on the map that layer i + 1 gives out, behind its pooling.
        sizes = [plan.size // 2 if plan.pool else plan.size for plan in plans] + [1]
        for i, size in enumerate(sizes if sources else []):
            total += 2 * math.prod(shapes[f"adapters.{i}.reduce.weight"]) * size**2
        total += 2 * math.prod(shapes["hidden.weight"]) + 2 * math.prod(shapes["classifier.weight"])
    return total


def _conv(inputs: int, plan: Conv) -> int:
    return 2 * 9 * inputs * plan.outputs * plan.size**2
