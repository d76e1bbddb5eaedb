"""Where a column looks on a robot's camera image: the paper's Figure 4 of one face, as one small picture."""

import cv2
import numpy as np

from ..bundle.bundle import Bundle
from ..vision.alignment import CROP_SIZE, normalize
from ..vision.drawing import write_line
from .colours import pictures
from .maps import Explainer, explainable

SCALE = 2  # of the crop's pixels on the picture
BAR = 22  # pixels, for the words
LETTER = 11  # pixels, the height of a capital


class LiveExplainer:
    """Explains a bundle's judgement of one face at a time.

    Raises:
        ValueError: the bundle has no column that can be explained.
    """

    def __init__(self, bundle: Bundle):
        if not explainable(bundle):
            raise ValueError(f"{bundle.version} has no column that can be explained")
        self.bundle = bundle
        self._explainer = Explainer(bundle)

    def picture(self, crop: np.ndarray, task: str = "") -> np.ndarray:
        """Side by side the crop, guided backpropagation, Grad-CAM and guided Grad-CAM for the most probable class.

        Args:
            crop: uint8 (128, 128), aligned.
            task: the column; the bundle's first one that can be explained where it is empty.

        Returns:
            uint8 (278, 1024, 3) BGR.

        Raises:
            ValueError: there is no such column, or it cannot be explained.
        """
        task = task or self._explainer.tasks[0]
        column, inputs = self._explainer.column(task), normalize(crop[None].astype(np.float32))[:, None]
        probabilities = self._explainer.probabilities(inputs, task)[0]
        target = int(probabilities.argmax())
        maps = self._explainer.explain(inputs, task, target)
        shown = pictures(crop, maps.guided_backprop[0], maps.grad_cam[0], maps.guided_grad_cam[0])
        said = f"{task}: {column.labels[target]} {probabilities[target]:.0%}"
        words = (said, "guided backpropagation", "Grad-CAM", "guided Grad-CAM")
        panels = [_titled(picture, text) for picture, text in zip(shown, words, strict=True)]
        return np.ascontiguousarray(np.hstack(panels)[..., ::-1])


def _titled(picture: np.ndarray, text: str) -> np.ndarray:
    side = SCALE * CROP_SIZE
    bar = np.zeros((BAR, side, 3), np.uint8)
    write_line(bar, text, 4, 4, LETTER)
    return np.vstack([bar, cv2.resize(picture, (side, side), interpolation=cv2.INTER_LINEAR)])
