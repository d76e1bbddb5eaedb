"""The layers of the encoder (Table I) and of a column (Table III) as data.

The torch modules that learn and the ONNX graph that runs are both built from these lists, so they can't drift apart.
No torch here.
"""

from dataclasses import dataclass, replace

from .presets import Preset

INPUT_SIZE = 128  # pixels, Table I
MAP_SIZE = 16  # pixels, the encoder's output and a column's input, where the preset does not shrink


@dataclass(frozen=True)
class Conv:
    """One 3x3 convolution with its non-linearity, and where `pool` is set the 2x2 max-pooling that follows.

    Attributes:
        inputs, outputs: channels.
        size: height and width of the output in pixels, before the pooling.
        stride: 2 for Table I's strided convolutions.
        pool: whether a 2x2 max-pooling closes the layer, which halves the size.
    """

    inputs: int
    outputs: int
    size: int
    stride: int = 1
    pool: bool = False


def encoder_layers(preset: Preset) -> list[Conv]:
    """Table I up to 256 x 16 x 16: 13 convolutions, 3 of them strided. The 128 latent belongs to the auto-encoder."""
    plan = [(64, 1), (64, 1), (64, 2), (128, 1), (128, 1), (128, 2), (128, 1), (128, 1), (128, 1), (128, 2)]
    plan += [(256, 1), (256, 1), (256, 1)]
    layers, channels, size = [], 1, INPUT_SIZE // preset.shrink
    for outputs, stride in plan:
        size //= stride
        layers.append(Conv(channels, channels := _scaled(outputs, preset), size, stride))
    return layers


def column_layers(preset: Preset) -> list[Conv]:
    """The 24 convolutions of Table III: four blocks of 3 x 128 and 3 x 256, the last two blocks ended by a pooling.

    The table gives "16 x 16" behind the first pooling; with a 2x2 pooling it is 8 x 8, as its own next row has it.
    """
    columns = replace(preset, width=preset.column_width or preset.width)
    layers, channels, size = [], _scaled(256, preset), MAP_SIZE // preset.shrink
    for block in range(4):
        for position, outputs in enumerate([128] * 3 + [256] * 3):
            pool = block >= 2 and position == 5
            layers.append(Conv(channels, channels := _scaled(outputs, columns), size, pool=pool))
        size //= 2 if block >= 2 else 1
    return layers


def classifier_map_size(preset: Preset) -> int:
    """Pixels of the map behind a column's two max-poolings, 4 in Table III."""
    return MAP_SIZE // preset.shrink // 4


def skip_map_size(preset: Preset) -> int:
    """Pixels to which the encoder's map is averaged for a column's skip connection, at most 4."""
    return min(4, MAP_SIZE // preset.shrink)


def adapter_channels(channels: int, preset: Preset) -> int:
    """To how many channels an adapter reduces what it reads beside a layer input of `channels` channels."""
    return max(1, channels // preset.adapter_reduction)


def _scaled(channels: int, preset: Preset) -> int:
    return max(1, round(channels * preset.width))
