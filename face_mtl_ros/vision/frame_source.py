"""What a source of frames is; pictures, videos, devices and the bundled demo speak this protocol."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np

DEFAULT_FPS = 30.0


class FrameSource(ABC):
    """A stream of frames: call `read`, or iterate, and `close` at the end (or use it in a `with` statement).

    A source does not wait: whoever reads keeps the time, `1 / fps` a frame.

    Attributes:
        name: what it is, for people.
        fps: frames per second it is meant to be shown at.
    """

    name: str
    fps: float

    @abstractmethod
    def read(self) -> np.ndarray | None:
        """The next frame, uint8 (height, width, 3) BGR, the reader's to keep; None when there are no more."""

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Release the device or file. A closed source must not be read."""

    def __iter__(self) -> Iterator[np.ndarray]:
        while (frame := self.read()) is not None:
            yield frame

    def __enter__(self) -> "FrameSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
