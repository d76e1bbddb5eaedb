"""What the detectors have in common before they search: the check of the image, its colours and its brightness."""

import cv2
import numpy as np

_DARK = 0.5  # of the full range, reached by the brightest two percent: darker pictures are brightened


class DetectorError(RuntimeError):
    """A detector cannot be made, installed or loaded. The message names the thing and the remedy."""


def check_image(image: np.ndarray) -> None:
    """Raise ValueError unless the image is uint8 (height, width, 3) or (height, width) with at least one pixel."""
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image: a numpy array is expected, got {type(image).__name__}")
    if image.dtype != np.uint8:
        raise ValueError(f"image: dtype uint8 is expected, got {image.dtype}")
    if image.ndim != 2 and (image.ndim != 3 or image.shape[2] != 3):
        raise ValueError(f"image: shape (height, width, 3) or (height, width) is expected, got {image.shape}")
    if image.size == 0:
        raise ValueError(f"image: at least one pixel is expected, got shape {image.shape}")


def to_grey(image: np.ndarray) -> np.ndarray:
    """uint8 BGR (height, width, 3) or grey (height, width) to grey (height, width)."""
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)


def to_bgr(image: np.ndarray) -> np.ndarray:
    """uint8 BGR (height, width, 3) or grey (height, width) to BGR (height, width, 3)."""
    return image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)


def shrink(image: np.ndarray, scale: float) -> np.ndarray:
    """The image scaled by `scale`, at least one pixel each way; as it is where `scale` is 1 or more."""
    if scale >= 1:
        return image
    height, width = image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def is_dark(image: np.ndarray) -> bool:
    """Whether the image leaves the upper half of its range unused, apart from a few bright spots."""
    return float(np.percentile(image[::4, ::4], 98)) < _DARK * 255
