"""Presets: the sizes in which the one topology of the paper's Tables I and III is built. No torch here."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Preset:
    """How wide the network is and how its layers are normalised.

    Attributes:
        name: what manifests and commands call it.
        width: factor on the channel counts of Tables I and III.
        normalization: "batch" puts a batch normalisation between convolution and non-linearity (folded into the
            convolution at export); "none" is the paper.
        hidden_units: units of a column's fully connected layer (Table III: 200).
        dropout: probability of the dropout behind it; Table III names the layer and not the value.
        adapter_reduction: a lateral adapter's 1x1 convolution reduces to the layer's own channels divided by this.
    """

    name: str
    width: float
    normalization: Literal["none", "batch"]
    hidden_units: int = 200
    dropout: float = 0.5
    adapter_reduction: int = 4


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("paper", width=1.0, normalization="none"),
        Preset("compact", width=0.25, normalization="batch"),
    )
}


def get_preset(name: str) -> Preset:
    """The preset of that name; ValueError names the known ones."""
    if name not in PRESETS:
        raise ValueError(f"preset '{name}' is unknown; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
