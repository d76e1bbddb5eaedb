"""Names and shapes of the weights that a preset's encoder and columns have, without torch.

A bundle is checked against them before anything runs, and the ONNX graph is built from them.
"""

from .presets import Preset
from .topology import Conv, adapter_channels, classifier_map_size, column_layers, encoder_layers, skip_map_size

Shapes = dict[str, tuple[int, ...]]


def encoder_shapes(preset: Preset) -> Shapes:
    """Name to shape, the state_dict of networks.encoder.Encoder."""
    shapes: Shapes = {}
    for i, plan in enumerate(encoder_layers(preset)):
        shapes |= _conv_layer(f"layers.{i}", plan, preset, extra=0)
    return shapes


def column_shapes(preset: Preset, classes: int, sources: int, descriptor: int = 0, skip: bool = False) -> Shapes:
    """Name to shape, the state_dict of networks.column.Column."""
    plans = column_layers(preset)
    shapes: Shapes = {}
    if sources:
        for i, width in enumerate([plan.outputs for plan in plans] + [preset.hidden_units]):
            reduced = adapter_channels(width, preset)
            shapes[f"adapters.{i}.scale"] = (sources,)
            shapes[f"adapters.{i}.reduce.weight"] = (reduced, width * sources, 1, 1)
            shapes[f"adapters.{i}.reduce.bias"] = (reduced,)

    def extra(width: int) -> int:
        return adapter_channels(width, preset) if sources else 0

    for i, plan in enumerate(plans):
        shapes |= _conv_layer(f"layers.{i}", plan, preset, extra(plan.inputs) if i else 0)
    last, hidden = plans[-1].outputs, preset.hidden_units
    skipped = plans[0].inputs * skip_map_size(preset) ** 2 if skip else 0
    shapes["hidden.weight"] = (hidden, (last + extra(last)) * classifier_map_size(preset) ** 2 + skipped)
    shapes["hidden.bias"] = (hidden,)
    if descriptor:
        shapes["foreign.scale"] = (1,)
        shapes["foreign.reduce.weight"] = (hidden, descriptor)
        shapes["foreign.reduce.bias"] = (hidden,)
    shapes["classifier.weight"] = (classes, hidden + extra(hidden) + (hidden if descriptor else 0))
    shapes["classifier.bias"] = (classes,)
    return shapes


def _conv_layer(name: str, plan: Conv, preset: Preset, extra: int) -> Shapes:
    weight = {f"{name}.conv.weight": (plan.outputs, plan.inputs + extra, 3, 3)}
    if preset.normalization == "none":
        return weight | {f"{name}.conv.bias": (plan.outputs,)}
    norm = {f"{name}.norm.{part}": (plan.outputs,) for part in ("weight", "bias", "running_mean", "running_var")}
    return weight | norm | {f"{name}.norm.num_batches_tracked": ()}
