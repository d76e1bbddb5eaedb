"""Maps side by side, as the paper's Figure 4."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from .colours import pictures
from .maps import Maps

DPI = 100
PANEL = 2.0  # inches
MARGIN = 0.8  # inches, for the words
ROWS = ("crop", "guided\nbackpropagation", "Grad-CAM", "guided\nGrad-CAM")


@dataclass(frozen=True)
class Panel:
    """A column of the figure.

    Attributes:
        title: which column, layer and class.
        crop: uint8 (128, 128), what the network saw, or the mean over faces.
        maps: of one face.
    """

    title: str
    crop: np.ndarray
    maps: Maps


def draw_figure(panels: Sequence[Panel], title: str = "") -> bytes:
    """PNG bytes: a column a panel; below each crop its three maps, rows GBP, CAM and GCAM of the paper's figure."""
    width, height = PANEL * len(panels) + MARGIN, PANEL * len(ROWS) + MARGIN
    figure = Figure(figsize=(width, height), dpi=DPI)
    # Places by hand: a layout that is computed takes as long as all the rest.
    margins = {
        "left": 0.7 * MARGIN / width,
        "bottom": 0.1 * MARGIN / height,
        "right": 0.99,
        "top": 1 - 0.7 * MARGIN / height,
    }
    axes = figure.subplots(
        len(ROWS), len(panels), squeeze=False, gridspec_kw={**margins, "wspace": 0.05, "hspace": 0.05}
    )
    for column, panel in enumerate(panels):
        maps = panel.maps
        shown = pictures(panel.crop, maps.guided_backprop[0], maps.grad_cam[0], maps.guided_grad_cam[0])
        for row, picture in enumerate(shown):
            axes[row, column].imshow(picture, interpolation="nearest")
            axes[row, column].set(xticks=[], yticks=[])
        axes[0, column].set_title(panel.title, fontsize=9)
    for row, name in enumerate(ROWS):
        axes[row, 0].set_ylabel(name, fontsize=9)
    figure.suptitle(title, fontsize=10)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()
