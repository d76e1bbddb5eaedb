"""How fit a picture of a face is to learn from: sharp, well lit, frontal and large.

The limits follow from LFW's faces as they are and as they are spoilt; tools/measure_quality.py prints the figures.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

# Where each figure makes a picture useless (0) and where it is as good as needed (1).
SHARPNESS = (0.005, 0.03)  # as `sharpness` measures it
DARK, BRIGHT = (20.0, 60.0), (235.0, 195.0)  # mean grey level
CONTRAST = (8.0, 30.0)  # standard deviation in grey levels
CLIPPED = (0.3, 0.05)  # share of pixels that are as good as black (to 5) or white (from 250)
TURN = (60.0, 20.0)  # degrees, as `turn` measures it
SIZE = (24.0, 64.0)  # pixels

EDGE_SIDE = 64  # pixels, in which to look for edges: noise and the sampling of a small face are averaged out
# Second differences along the rows, the columns and both diagonals, whose pixels lie farther apart.
DIFFERENCES = tuple(
    np.array(kernel, np.float32)
    for kernel in (
        [[0, 0, 0], [1, -2, 1], [0, 0, 0]],
        [[0, 1, 0], [0, -2, 0], [0, 1, 0]],
        [[0.5, 0, 0], [0, -1, 0], [0, 0, 0.5]],
        [[0, 0, 0.5], [0, -1, 0], [0.5, 0, 0]],
    )
)
# Of the distance from the eyes to the mouth: how far the nose's tip stands out before them, and how far below the eyes
# it is in a frontal face. The first is that of common five-point models of the head, the second the median of FER+.
NOSE_DEPTH, NOSE_HEIGHT = 0.42, 0.53


@dataclass(frozen=True)
class Quality:
    """Fitness of a picture, each from 0 (useless) to 1 (as good as needed).

    Attributes:
        sharpness, exposure, pose, size: its parts. `pose` is 1 where nothing is known of it.
    """

    sharpness: float
    exposure: float
    pose: float
    size: float

    @property
    def overall(self) -> float:
        """The product of the parts: what is useless in one is useless, and two shortcomings are worse than one."""
        return self.sharpness * self.exposure * self.pose * self.size


def assess(crop: np.ndarray, face_pixels: float, landmarks: np.ndarray) -> Quality:
    """Judge one face.

    Args:
        crop: uint8 (128, 128), the aligned grey crop.
        face_pixels: the shorter side of the face's box in the camera's image, in pixels.
        landmarks: float (5, 2) as a Face has them, or (0, 2) where there are none.
    """
    return Quality(
        sharpness=_ramp(sharpness(crop), *SHARPNESS),
        exposure=exposure(crop),
        pose=_ramp(turn(landmarks), *TURN) if len(landmarks) == 5 else 1.0,
        size=_ramp(face_pixels, *SIZE),
    )


def sharpness(crop: np.ndarray) -> float:
    """How sharp a face is, whatever its contrast: 0 to about 1, LFW's mostly 0.015 to 0.1.

    The variance of the second difference along the blurriest of four directions, over the variance of the crop: so a
    face that moved along one direction is not called sharp for its edges along the other.

    Args:
        crop: uint8 (128, 128).
    """
    small = cv2.resize(crop, (EDGE_SIDE, EDGE_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    variance = float(small.var())
    return min(float(cv2.filter2D(small, -1, kernel).var()) for kernel in DIFFERENCES) / max(variance, 1.0)


def laplacian_variance(crop: np.ndarray) -> float:
    """Variance of the Laplacian of a crop, uint8 (h, w), in grey levels squared; low is blurred, or of low contrast."""
    return float(cv2.Laplacian(crop, cv2.CV_32F).var())


def exposure(crop: np.ndarray) -> float:
    """How well lit a face is, 0 to 1: the worst of its brightness, its contrast and how little is black or white."""
    mean, deviation = float(crop.mean()), float(crop.std())
    clipped = float(((crop <= 5) | (crop >= 250)).mean())
    return min(_ramp(mean, *DARK), _ramp(mean, *BRIGHT), _ramp(deviation, *CONTRAST), _ramp(clipped, *CLIPPED))


def turn(landmarks: np.ndarray) -> float:
    """How far a head is turned or nodded out of the frontal pose, in degrees, 0 to 90; roughly, and whatever its roll.

    From where the nose's tip lies against the line from the middle of the eyes to that of the mouth: a turn moves it
    off the line by NOSE_DEPTH sin(yaw) of the line's length, a nod along it by NOSE_DEPTH tan(pitch).

    Args:
        landmarks: float (5, 2) pixels: right eye, left eye, nose tip, right and left corner of the mouth.
    """
    right_eye, left_eye, nose, right_mouth, left_mouth = np.asarray(landmarks, np.float64)
    eyes, mouth = (right_eye + left_eye) / 2, (right_mouth + left_mouth) / 2
    down, to_nose = mouth - eyes, nose - eyes
    length = float(down @ down)
    if not length > 0:
        return 90.0
    along = float(to_nose @ down) / length - NOSE_HEIGHT
    aside = float(to_nose[0] * down[1] - to_nose[1] * down[0]) / length
    return math.degrees(math.asin(min(1.0, math.hypot(along, aside) / NOSE_DEPTH)))


def _ramp(value: float, useless: float, good: float) -> float:
    """0 to 1 as a value goes from `useless` to `good`; 0 for NaN."""
    share = (value - useless) / (good - useless)
    return min(1.0, share) if share > 0 else 0.0
