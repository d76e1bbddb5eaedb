"""How the full search of a stream's frames is cut into parts, each cheap enough for one frame.

A picture is searched octave by octave: faces from the smallest wanted to twice its size in the picture itself, those
twice as large in a copy of half the size, and so on. Octaves whose picture is large are cut into overlapping tiles.
"""

import math
from dataclasses import dataclass

import numpy as np

from .view import View, turned_size, view_of

_TILE = 192  # pixels, the largest side of a part that is searched at once


@dataclass(frozen=True, eq=False)
class SearchPart:
    """One tile of one octave of a picture turned by an angle.

    Attributes:
        angle: degrees of roll of the faces that are looked for.
        offset: float64 (2,), from the picture's middle to the tile's along the turned axes, pixels of the picture.
        size: width and height along the turned axes, pixels of the picture.
        zoom: 1, 1/2, 1/4 and so on: pixels of the tile a pixel of the picture.
        is_last: whether it is of the last octave, in which all larger faces are looked for as well.
    """

    angle: float
    offset: np.ndarray
    size: tuple[float, float]
    zoom: float
    is_last: bool

    def view(self, picture: np.ndarray) -> View:
        """The tile of a picture, uint8 (height, width)."""
        height, width = picture.shape
        cosine, sine = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        centre = middle + np.array([[cosine, -sine], [sine, cosine]]) @ self.offset
        return view_of(picture, centre, self.size, self.angle, self.zoom)


def search_octaves(width: int, height: int, angle: float, overlap: int) -> list[list[SearchPart]]:
    """The parts that together search a picture at one angle, octave by octave; the last octave is one part.

    Args:
        width, height: of the picture, pixels.
        angle: degrees of roll.
        overlap: pixels that neighbouring tiles share: the largest face of an octave, so that each lies whole in a tile.
    """
    turned_width, turned_height = turned_size(width, height, angle)
    octaves, zoom = [], 1.0
    while max(turned_width, turned_height) * zoom > max(_TILE, 2 * overlap):
        octaves.append(
            [
                SearchPart(angle, np.array([x, y]), (tile_width, tile_height), zoom, is_last=False)
                for y, tile_height in _tiles(turned_height, overlap / zoom, _TILE / zoom)
                for x, tile_width in _tiles(turned_width, overlap / zoom, _TILE / zoom)
            ]
        )
        zoom /= 2
    octaves.append([SearchPart(angle, np.zeros(2), (turned_width, turned_height), zoom, is_last=True)])
    return octaves


def _tiles(length: float, overlap: float, largest: float) -> list[tuple[float, float]]:
    """Equal tiles of a line: the offset of each from the line's middle, and its length."""
    count = max(1, math.ceil((length - overlap) / max(largest - overlap, overlap)))
    step = (length - overlap) / count
    return [((i - (count - 1) / 2) * step, step + overlap) for i in range(count)] if step > 0 else [(0.0, length)]
