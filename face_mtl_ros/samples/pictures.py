"""Crops as the store keeps them: PNG, without loss."""

import cv2
import numpy as np

from ..datasets.crops import MARGIN
from ..vision.alignment import CROP_SIZE
from .errors import SampleStoreError

SIDE = CROP_SIZE + 2 * MARGIN
SHAPES = ((SIDE, SIDE), (CROP_SIZE, CROP_SIZE))  # with a margin for augmentation, and without


def encode(crop: np.ndarray) -> bytes:
    """The crop, uint8 (160, 160) or (128, 128), as a PNG file; SampleStoreError for another type or shape."""
    if crop.dtype != np.uint8 or crop.shape not in SHAPES:
        raise SampleStoreError(f"crop is {crop.dtype} {crop.shape}: uint8 of {SHAPES[0]} or {SHAPES[1]} is expected")
    return cv2.imencode(".png", crop)[1].tobytes()


def decode(png: bytes) -> np.ndarray | None:
    """A picture file as a crop, uint8 (160, 160) or (128, 128); None where it is damaged or of another shape."""
    crop = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE) if png else None
    return crop if crop is not None and crop.shape in SHAPES else None


def without_margin(crop: np.ndarray) -> np.ndarray:
    """The crop alone, uint8 (128, 128)."""
    margin = (len(crop) - CROP_SIZE) // 2
    return crop[margin : margin + CROP_SIZE, margin : margin + CROP_SIZE]


def with_margin(crop: np.ndarray) -> np.ndarray:
    """uint8 (160, 160); a margin that was not stored repeats the edge, as alignment does at the end of an image."""
    return np.pad(crop, (SIDE - len(crop)) // 2, mode="edge")
