"""One collection: from the crops of a camera's frames to pictures of one face, and why there are no more."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .sample import Picture
from .selection import Selector

SETTLED_FRAMES = 3  # in which a face must be the only one before it is taken for the one that is meant


@dataclass(frozen=True, eq=False)
class SeenFace:
    """One tracked face of a frame.

    Attributes:
        face_id: its track.
        crop: uint8 (128, 128) grey, aligned.
        face_pixels: the shorter side of its box in the camera's image, in pixels.
        quality: fitness as a training sample, 0 to 1.
    """

    face_id: str
    crop: np.ndarray
    face_pixels: float
    quality: float


class Collecting:
    """Collects one face out of frame after frame.

    Not thread-safe.

    Args:
        selector: chooses the pictures; made for this collection.
        face_id: the face's track; empty: the only face in view.
        patience_s: seconds for which the face may be out of view.

    Attributes:
        face_id: the face's track; empty while it is not known.
        pictures: what was taken.
        ended: True where there are enough pictures, or there will be no more; a frame then changes nothing.
        problem: why there will be no more, and what to do; empty where there are enough, or there may be more.
    """

    def __init__(self, selector: Selector, face_id: str = "", patience_s: float = 2.0):
        self.selector = selector
        self.face_id = face_id
        self.pictures: list[Picture] = []
        self.ended = False
        self.problem = ""
        self._patience_s = patience_s
        self._last_seen: float | None = None
        self._frames = 0
        self._only, self._only_for = "", 0  # the face that was alone in the latest frames, and in how many

    def see(self, faces: Sequence[SeenFace], camera: str, stamp_ns: int, now: float) -> None:
        """Look at the next frame.

        Args:
            camera: frame_id of the camera's image.
            stamp_ns: its stamp in nanoseconds.
            now: seconds on a clock that never goes back.
        """
        if self.ended:
            return
        self._frames += 1
        if self._last_seen is None:
            self._last_seen = now  # patience begins with the first frame
        if not self.face_id:
            self._choose(faces)
        face = next((face for face in faces if face.face_id == self.face_id), None)
        if face is not None:
            self._last_seen = now
            self._offer(face, camera, stamp_ns)
        elif self.face_id and now - self._last_seen > self._patience_s:
            self._end(f"face '{self.face_id}' is not in view; {_in_view(faces)}")

    def summary(self) -> str:
        """What was taken, and why not more, for people: "took 9 of 15: 30 blurred; hold still"."""
        if self.problem and not self.selector.counts:
            return self.problem
        if not self._frames:
            return "no picture came: see that the perception node is active and its camera sends images"
        if not self.face_id:
            return "no face was in view: look into the camera, and collect again"
        return f"{self.selector.summary()}; {self.problem}" if self.problem else self.selector.summary()

    def _choose(self, faces: Sequence[SeenFace]) -> None:
        if len(faces) > 1:
            advice = "give the face_id of one, or let one person stand alone"
            self._end(f"{len(faces)} faces are in view: {advice}; {_in_view(faces)}")
            return
        only = faces[0].face_id if faces else ""
        self._only_for = self._only_for + 1 if only == self._only else 1
        self._only = only
        if only and self._only_for >= SETTLED_FRAMES:
            self.face_id = only

    def _offer(self, face: SeenFace, camera: str, stamp_ns: int) -> None:
        if self.selector.offer(face.crop, face.face_pixels, face.quality).taken:
            self.pictures.append(Picture(face.crop, face.face_id, camera, stamp_ns, face.quality))
        self.ended = self.selector.done

    def _end(self, problem: str) -> None:
        self.ended = True
        self.problem = problem


def _in_view(faces: Sequence[SeenFace]) -> str:
    return f"in view: {', '.join(face.face_id for face in faces) or 'none'}"
