"""The bundled stream, a camera that every machine has."""

import math
from dataclasses import replace

import numpy as np

from .frame_source import DEFAULT_FPS, FrameSource
from .portraits import PlacedFace, compose


class DemoSource(FrameSource):
    """The bundled stream: ten seconds with one to four moving faces, whose end meets its beginning.

    A frame depends on its index alone.
    """

    SECONDS = 10.0

    def __init__(self, width: int = 0, height: int = 0, fps: float = 0.0, loop: bool = True):
        if width and not height:
            height = round(width * 3 / 4)
        if height and not width:
            width = round(height * 4 / 3)
        self.name = "demo"
        self.fps = fps or DEFAULT_FPS
        self._size = (width or 640, height or 480)
        self._frames = max(1, round(self.SECONDS * self.fps))
        self._loop = loop
        self._index = 0

    def read(self) -> np.ndarray | None:
        if self._index >= self._frames and not self._loop:
            return None
        self._index += 1
        return self.frame(self._index - 1)

    def frame(self, index: int) -> np.ndarray:
        """Frame `index`, 0 or above: uint8 (height, width, 3) BGR."""
        return compose(self._size, _demo_faces((index % self._frames) / self._frames, *self._size))


def _demo_faces(phase: float, width: int, height: int) -> list[PlacedFace]:
    """Who stands where at a phase (0 to 1) of the demo. All motion is periodic, so the stream loops without a jump."""
    scale = min(width / 640, height / 480)

    def wave(turns: int, shift: float = 0.0) -> float:
        return math.sin(2 * math.pi * (turns * phase + shift))

    def between(start: float, end: float) -> float:
        """Opacity of someone who is there from one phase to another, fading in and out within a twenty-fifth."""
        return min(1.0, max(0.0, min(phase - start, end - phase) * 25))

    def face(asset: str, x: float, y: float, size: float, roll: float, mirrored: bool = False) -> PlacedFace:
        center = (width / 2 + (x - 320) * scale, height / 2 + (y - 240) * scale)
        return PlacedFace(asset, center, size * scale, roll, mirrored)

    first = face("astronaut", 180 + 30 * wave(1), 285 + 12 * wave(2), 145 + 20 * wave(1, 0.25), 6 * wave(2, 0.1))
    second = face("grace_hopper", 455 + 30 * wave(2), 285 + 12 * wave(1), 135 + 15 * wave(1), 5 * wave(1, 0.3))
    third = face("astronaut", 325 + 10 * wave(1), 100 + 6 * wave(3), 92, 4 * wave(2), mirrored=True)
    fourth = face("grace_hopper", 582 + 8 * wave(2), 105 + 6 * wave(2, 0.4), 92, 4 * wave(1), mirrored=True)
    cast = [  # from back to front
        replace(fourth, opacity=between(0.55, 0.85)),
        replace(third, opacity=between(0.45, 0.9)),
        replace(second, opacity=between(0.25, 0.95)),
        first,
    ]
    return [one for one in cast if one.opacity > 0]
