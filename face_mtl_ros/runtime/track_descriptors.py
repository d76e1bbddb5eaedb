"""What foreign descriptors say of tracked faces, over time."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

LATEST = 3  # descriptions of a face that count, and the frames in a row in which a new one is described


class TrackDescriptors:
    """The mean of each tracked face's latest descriptions, and whose turn it is to be described again.

    A face is described in its first frames, so that those on which its name has to agree do not all repeat one
    description, then every so many frames. One bad description among three does not decide what a face is taken for.
    """

    def __init__(self) -> None:
        self._faces: dict[str, _Face] = {}  # described longest ago first

    def due(self, shown: Sequence[str], every: int) -> list[str]:
        """Count a frame, and return which of the faces that it shows to describe: the new ones, and at most one other.

        Args:
            shown: the faces' ids.
            every: frames after which a face is described again.
        """
        for face_id in self._faces.keys() & set(shown):
            self._faces[face_id].frames += 1
        new = [face_id for face_id in shown if face_id not in self._faces]
        stale = [face_id for face_id, face in self._faces.items() if face_id in shown and face.is_stale(every)]
        return new + stale[:1]

    def add(self, face_id: str, vectors: Mapping[str, np.ndarray]) -> None:
        """Add what the descriptors say of a face, float32 (d,) of length 1 each, by name."""
        face = self._faces.pop(face_id, None) or _Face()  # what is put in anew comes last
        face.add(vectors)
        self._faces[face_id] = face

    def mean(self, face_id: str, name: str) -> np.ndarray:
        """The mean direction of a face's latest descriptions by one descriptor, float32 (d,) of length 1."""
        mean = np.mean([vectors[name] for vectors in self._faces[face_id].latest], axis=0)
        return (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)

    def forget(self, alive: Collection[str]) -> None:
        """Drop every face that is not among the ids still alive."""
        self._faces = {face_id: face for face_id, face in self._faces.items() if face_id in alive}

    def clear(self) -> None:
        """Drop all, for other descriptors speak."""
        self._faces.clear()


class _Face:
    """The latest descriptions of a face, the newest last, and in how many frames it was seen since."""

    def __init__(self) -> None:
        self.latest: list[Mapping[str, np.ndarray]] = []
        self.frames = 0

    def is_stale(self, every: int) -> bool:
        return self.frames >= (every if len(self.latest) == LATEST else 1)

    def add(self, vectors: Mapping[str, np.ndarray]) -> None:
        self.latest = [*self.latest[1 - LATEST :], vectors]
        self.frames = 0
