"""Turned and scaled copies of parts of a picture, in which rolled faces are upright, and the way back to it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True, eq=False)
class View:
    """A copy of a part of the picture, turned upright for faces of one roll.

    Attributes:
        pixels: uint8 (height, width) or (height, width, 3).
        to_image: float64 (2, 3), takes points of the view to points of the picture.
        roll: degrees, of the faces that are upright in the view.
        scale: view pixels a pixel of the picture.
    """

    pixels: np.ndarray
    to_image: np.ndarray
    roll: float
    scale: float

    def points_in_image(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 2) of the view as float64 (n, 2) in the picture."""
        return np.asarray(points, np.float64) @ self.to_image[:, :2].T + self.to_image[:, 2]


def view_of(
    image: np.ndarray, centre: Sequence[float] | np.ndarray, size: Sequence[float], roll: float, scale: float
) -> View:
    """Cut the rectangle of `size` (width, height) around `centre`, turned by `roll`, and scale it.

    Args:
        image: uint8 (height, width) or (height, width, 3). What the rectangle covers outside it is black.
        centre: x and y in the image.
        size: width and height in pixels of the image, measured along the turned axes.
        roll: degrees, positive clockwise as seen.
        scale: pixels of the view a pixel of the image.
    """
    width, height = (max(1, math.ceil(side * scale - 1e-6)) for side in size)  # not one more by a rounding error
    cosine, sine = math.cos(math.radians(roll)) / scale, math.sin(math.radians(roll)) / scale
    turn = np.array([[cosine, -sine], [sine, cosine]])
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    to_image = np.column_stack([turn, np.asarray(centre, np.float64) - turn @ middle])
    pixels = cv2.warpAffine(image, to_image, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return View(pixels, to_image, roll, scale)


def turned_size(width: float, height: float, roll: float) -> tuple[float, float]:
    """Width and height of the rectangle turned by `roll` degrees that encloses an upright width x height one."""
    cosine, sine = abs(math.cos(math.radians(roll))), abs(math.sin(math.radians(roll)))
    return width * cosine + height * sine, width * sine + height * cosine
