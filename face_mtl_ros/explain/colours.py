"""Maps as colours. No torch here."""

import cv2
import numpy as np

STRONGEST = 99.5  # percentile of a map that is drawn as the strongest, so that a single pixel does not outshine it
OPACITY = 0.5  # of a Grad-CAM over the crop


def pictures(
    crop: np.ndarray, guided_backprop: np.ndarray, grad_cam: np.ndarray, guided_grad_cam: np.ndarray
) -> tuple[np.ndarray, ...]:
    """A face and its maps, uint8 (h, w) and float (h, w) each, as four uint8 (h, w, 3) RGB: the rows of Figure 4."""
    return grey(crop), signed(guided_backprop), heat(grad_cam, crop), signed(guided_grad_cam)


def signed(values: np.ndarray) -> np.ndarray:
    """Grey where there is nothing, lighter for and darker against the class.

    Args:
        values: float (h, w), as Maps' guided_backprop and guided_grad_cam of one face.

    Returns:
        uint8 (h, w, 3).
    """
    grey = 127.5 * (1 + np.clip(values / _scale(np.abs(values)), -1, 1))
    return np.repeat(grey.round().astype(np.uint8)[..., None], 3, 2)


def heat(values: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """Blue where there is nothing to red, over the crop.

    Args:
        values: float (h, w), not negative, as Maps' grad_cam of one face.
        crop: uint8 (h, w).

    Returns:
        uint8 (h, w, 3), RGB.
    """
    colours = cv2.applyColorMap((255 * np.clip(values / _scale(values), 0, 1)).astype(np.uint8), cv2.COLORMAP_JET)
    return cv2.addWeighted(grey(crop), 1 - OPACITY, colours[..., ::-1], OPACITY, 0)


def grey(crop: np.ndarray) -> np.ndarray:
    """uint8 (h, w) to (h, w, 3)."""
    return np.repeat(crop[..., None], 3, 2)


def _scale(values: np.ndarray) -> float:
    return max(float(np.percentile(values, STRONGEST)), float(np.finfo(np.float32).tiny))
