"""How many crops pass the encoder together."""

from ..networks.presets import Preset

# So few that their maps stay in a CPU's cache, which is nearly twice as fast.
CHUNK = 8


def chunk_of(preset: Preset) -> int:
    """Crops at once; of small ones more fit."""
    return CHUNK * preset.shrink**2
