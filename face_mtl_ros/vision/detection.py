"""What a face detector is and what it returns; every detector of this package speaks this protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, eq=False)
class Detection:
    """One face found in an image, in pixels of that image (x to the right, y down).

    Attributes:
        box: float32 (4,): x, y, width, height. May reach over the image's edge.
        confidence: 0 to 1, comparable within one detector only.
        points: float32 (5, 2) landmarks (the person's right eye, left eye, nose tip, right and left corner of the
            mouth), or (2, 2) the right and left eye alone, found or estimated from the box. They steer the alignment.
    """

    box: np.ndarray
    confidence: float
    points: np.ndarray

    @property
    def landmarks(self) -> np.ndarray:
        """float32 (5, 2), or (0, 2) where the detector gives eyes alone."""
        return self.points if len(self.points) == 5 else np.empty((0, 2), np.float32)

    @property
    def roll(self) -> float:
        """In-plane rotation of the head in degrees, positive where the line of the eyes falls to the right."""
        dx, dy = self.points[1] - self.points[0]
        return float(np.degrees(np.arctan2(dy, dx)))


class Detector(Protocol):
    """Finds faces. An instance serves one camera stream and is not thread-safe."""

    name: str

    def detect(self, image: np.ndarray, previous: Sequence[Detection] | None = None) -> list[Detection]:
        """Find the faces of an image.

        Args:
            image: uint8 (height, width, 3) BGR or (height, width) grey.
            previous: None for a still picture, which is searched in full. For a frame of a stream, the faces tracked
                up to the frame before (perhaps none): the detector may then search near them and spread its full
                search over several frames.

        Returns:
            The faces, the most confident first.
        """
        ...
