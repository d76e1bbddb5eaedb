"""Presets: the sizes in which the one topology of the paper's Tables I and III is built. No torch here."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Preset:
    """How wide the network is and how its layers are normalised.

    Attributes:
        name: what manifests and commands call it.
        width: factor on the channel counts of Tables I and III.
        shrink: by how much the encoder shrinks the crop first. At 2 every map has half of the tables' size and the
            network a quarter of the work. The smallest training pictures have 48x48 pixels, and the faces that a robot
            sees across a room hardly more, so little is lost.
        normalization: "batch" puts a batch normalisation between convolution and non-linearity (folded into the
            convolution at export); "none" is the paper.
        hidden_units: units of a column's fully connected layer (Table III: 200).
        column_width: factor on the channel counts of Table III alone, where columns are wider or narrower than the
            encoder; None for the same as `width`.
        dropout: probability of the dropout behind it; Table III names the layer and not the value.
        adapter_reduction: a lateral adapter's 1x1 convolution reduces to the layer's own channels divided by this.
    """

    name: str
    width: float
    shrink: int
    normalization: Literal["none", "batch"]
    hidden_units: int = 200
    column_width: float | None = None
    dropout: float = 0.5
    adapter_reduction: int = 4


LEAST_CONTRAST = 0.5  # standard deviation of a shrunk crop, below which it is left as flat as it is

PRESETS = {
    preset.name: preset
    for preset in (
        Preset("paper", width=1.0, shrink=1, normalization="none"),
        Preset("compact", width=0.25, shrink=2, normalization="batch"),
    )
}


def get_preset(name: str) -> Preset:
    """The preset of that name; ValueError names the known ones."""
    if name not in PRESETS:
        raise ValueError(f"preset '{name}' is unknown; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
