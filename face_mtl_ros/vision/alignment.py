"""From a face in a picture to the crop that the network reads. Training and the robot share these functions."""

import cv2
import numpy as np

CROP_SIZE = 128  # pixels

# Where an aligned crop has the right eye, left eye, nose tip, right and left corner of the mouth, as shares of its
# side: the median of FER+'s faces, so that the smallest of the training pictures (48x48) need no resampling twice.
TEMPLATE = np.array([[0.305, 0.375], [0.695, 0.375], [0.5, 0.575], [0.342, 0.755], [0.658, 0.755]], np.float32)


def align(image: np.ndarray, points: np.ndarray, size: int = CROP_SIZE, margin: int = 0) -> np.ndarray:
    """Cut out a face upright and at the template's scale.

    Args:
        image: uint8 (h, w, 3) BGR or (h, w) grey.
        points: float (5, 2) landmarks or (2, 2) eyes in pixels, as a Detection has them.
        size: side of the crop in pixels.
        margin: pixels added on each side at the same scale, room for augmentation.

    Returns:
        uint8 (size + 2 margin, size + 2 margin) grey. What lies outside the image repeats its edge.
    """
    side = size + 2 * margin
    crop = warp(image, points, TEMPLATE[: len(points)] * size + margin, side, side)
    return crop if crop.ndim == 2 else cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)


def warp(image: np.ndarray, points: np.ndarray, target: np.ndarray, width: int, height: int) -> np.ndarray:
    """Cut out a face so that its points come to lie on others, as closely as `similarity` brings them.

    Args:
        image: uint8 (h, w, 3) or (h, w).
        points: float (n, 2) pixels of the image.
        target: float (n, 2) pixels of the crop.
        width, height: of the crop in pixels.

    Returns:
        uint8 (height, width, 3) or (height, width), as the image has channels. What lies outside the image repeats its
        edge.
    """
    matrix = similarity(points, target)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 0.5:
        # Bilinear sampling skips pixels when it shrinks by more than two, so shrink with an area filter first.
        image, offset = _region(image, matrix, width, height)
        factor = 2 * scale
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        # Pixel centres lie at +0.5, which a change of scale must keep in place.
        to_region = np.array([[1 / factor, 0, 0.5 / factor - 0.5], [0, 1 / factor, 0.5 / factor - 0.5], [0, 0, 1]])
        to_region[:2, 2] += offset
        matrix = matrix @ to_region
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, uniform scale and shift that map points onto others with the least squared error.

    Args:
        source, target: float (n, 2), n >= 2, not all the same point.

    Returns:
        float64 (2, 3), as cv2.warpAffine takes it.

    Raises:
        ValueError: the source points coincide or are not finite.
    """
    # As complex numbers the map is q = a p + b, an ordinary linear regression.
    p = source[:, 0].astype(np.float64) + 1j * source[:, 1]
    q = target[:, 0].astype(np.float64) + 1j * target[:, 1]
    spread = np.sum(np.abs(p - p.mean()) ** 2)
    if not np.isfinite(spread) or spread < 1e-9:
        raise ValueError(f"face points {source.tolist()} coincide or are not finite; they cannot be aligned")
    a = np.sum(np.conj(p - p.mean()) * (q - q.mean())) / spread
    b = q.mean() - a * p.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def normalize(crops):
    """Take brightness and contrast out of crops: each gets mean 0 and standard deviation 1.

    Written with what numpy and torch have in common, so that training and the robot share it.

    Args:
        crops: float array or tensor (..., h, w), grey 0 to 255.

    Returns:
        The same shape. A crop flatter than a standard deviation of 4 grey levels, which holds no face, stays flatter.
    """
    centred = crops - crops.mean((-2, -1), keepdims=True)
    deviation = (centred * centred).mean((-2, -1), keepdims=True) ** 0.5
    return centred / deviation.clip(4.0)


def _region(image: np.ndarray, matrix: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image that the crop shows, with a few pixels around it, and its upper left corner (x, y)."""
    inverse = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]) @ inverse.T
    below, right = image.shape[:2]
    low = np.clip(np.floor(corners.min(0)).astype(int) - 4, 0, [right - 1, below - 1])
    high = np.clip(np.ceil(corners.max(0)).astype(int) + 4, low + 1, [right, below])
    return image[low[1] : high[1], low[0] : high[0]], low
