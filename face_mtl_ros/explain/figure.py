"""Maps side by side, as the paper's Figure 4."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .colours import pictures
from .maps import Maps

# By Pillow: matplotlib takes longer for the picture than the network for the maps. Its letters are taken all the same,
# for Pillow's own are ASCII alone; it is there, since Captum needs it. All in pixels.
FONT = Path("fonts", "ttf", "DejaVuSans.ttf")
SIDE = 256  # of a picture, twice the crop's
STEP = SIDE + 8
LEFT, TOP = 130, 60  # room for the words
LETTERS = 14
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
    above = TOP + (2 * LETTERS if title else 0)
    canvas = Image.new("RGB", (LEFT + STEP * len(panels), above + STEP * len(ROWS)), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.truetype(Path(matplotlib.get_data_path()) / FONT, LETTERS)
    for column, panel in enumerate(panels):
        left, maps = LEFT + STEP * column, panel.maps
        shown = pictures(panel.crop, maps.guided_backprop[0], maps.grad_cam[0], maps.guided_grad_cam[0])
        for row, picture in enumerate(shown):
            enlarged = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            canvas.paste(enlarged, (left, above + STEP * row))
        words = "\n".join(_cut(line, font, SIDE) for line in panel.title.split("\n"))
        pen.text((left + SIDE / 2, above - 8), words, "black", font, "md", align="center")
    for row, name in enumerate(ROWS):
        pen.text((LEFT / 2, above + STEP * row + SIDE / 2), name, "black", font, "mm", align="center")
    pen.text((canvas.width / 2, LETTERS), _cut(title, font, canvas.width), "black", font, "ma")
    data = io.BytesIO()
    canvas.save(data, format="png")
    return data.getvalue()


def _cut(line: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """The line, with dots at its end where it is wider than the room."""
    cut = line
    while font.getlength(cut) > room and line:
        line = line[:-1]
        cut = f"{line}…"
    return cut
