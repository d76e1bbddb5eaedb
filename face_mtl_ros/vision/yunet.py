"""YuNet, OpenCV's small neural face detector: better than the cascades, but its model has to be installed."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from .detection import Detection
from .detector_input import DetectorError, check_image, shrink, to_bgr
from .view import View, turned_size, view_of

YUNET_FILE = "face_detection_yunet_2026may.onnx"
YUNET_SHA256 = "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0"
YUNET_SIZE = 229738  # bytes
# The zoo keeps models in Git LFS: github.com/.../raw gives a pointer of three lines, this address the file itself.
YUNET_URL = (
    "https://media.githubusercontent.com/media/opencv/opencv_zoo/47534e27c9851bb1128ccc0102f1145e27f23f98/"
    f"models/face_detection_yunet/{YUNET_FILE}"
)

_ANGLES = 0.0, -30.0, 30.0  # degrees of roll, at which a still picture is searched
_STREAM_FACE = 28  # pixels, to which a stream's smallest face wanted is scaled: smaller, rolled ones are missed more
_LEVEL = 2.0  # degrees to which a face counts as upright
_LEVEL_SIZE = 64  # pixels, to which a face is scaled to be turned upright
_SMALLEST = 10  # pixels, the smallest face that the network finds: in narrower pictures it makes faces up
_TURNS = -20.0, 0.0, 20.0  # degrees by which a face is turned to see how it leans
_TURN_EVERY = 5  # frames from one such look at a tracked face to the next
_FLAT = -0.02  # degrees of lean a degree of turn: upright faces show some -0.2
_STILL_STEPS = 2  # such looks at a new face: the first may have begun 30 degrees off


class YuNetDetector:
    """Faces with five landmarks.

    The network finds faces rolled by 35 degrees, but sets their landmarks as if they were upright nearly: of a lean it
    shows a fifth. The sign is right, though, so a face is looked at again in cut-outs turned either way, and taken from
    the one between them in which it leans neither way. A still picture is searched in rolled copies, too. A frame of a
    stream is searched once, at a scale just fine enough for the smallest face wanted, and around the tracked faces that
    are rolled.

    Dark pictures need no brightening: at 15 % of their brightness as many faces were found in them.

    Args:
        model: the ONNX file, as `install_yunet` puts it in place.
        min_face: height of the smallest face wanted, pixels of the picture; smaller ones are dropped. At least 10.
        max_side: the picture is searched at no more than this width or height. Where the limit applies, faces below
            about 12 / max_side of the longer side are missed.
        min_confidence: 0 to 1.

    Raises:
        ValueError: an argument is out of its range.
        DetectorError: OpenCV cannot load the model.
    """

    name = "yunet"

    def __init__(self, model: Path, min_face: int = 40, max_side: int = 640, min_confidence: float = 0.5) -> None:
        if min_face < 10:
            raise ValueError(f"min_face: at least 10 pixels are expected, got {min_face}")
        if max_side < 32:
            raise ValueError(f"max_side: at least 32 pixels are expected, got {max_side}")
        if not 0 < min_confidence < 1:
            raise ValueError(f"min_confidence: between 0 and 1 is expected, got {min_confidence}")
        self._min_face = min_face
        self._max_side = max_side
        # One of a kind for each size of input: a network is planned anew, slowly, when that changes.
        self._whole = {abs(angle): _load(model, min_confidence) for angle in _ANGLES}
        self._near = _load(model, min_confidence)
        self._frame = 0

    def detect(self, image: np.ndarray, previous: Sequence[Detection] | None = None) -> list[Detection]:
        """Find the faces of an image; see `Detector.detect`. Raises ValueError for a malformed image."""
        check_image(image)
        height, width = image.shape[:2]
        scale = min(1.0, self._max_side / max(height, width))
        if previous is not None:
            scale = min(scale, _STREAM_FACE / self._min_face)
        small = to_bgr(shrink(image, scale))
        # The axes are scaled apart: the shrunk size is rounded to whole pixels.
        factors = np.array([width / small.shape[1], height / small.shape[0]], np.float32)
        tracked = [_scaled(face, 1 / factors) for face in previous or ()]

        faces = [seen for i, face in enumerate(tracked) if (seen := self._followed(small, i, face)) is not None]
        self._frame += 1
        angles = _ANGLES if previous is None else (0.0,)
        for face in one_of_each([face for angle in angles for face in self._search(small, angle)]):
            if not _among(face, faces):
                faces.append(face if _among(face, tracked) else self._upright(small, face, _STILL_STEPS) or face)
        faces = [_scaled(face, factors) for face in one_of_each(faces)]
        return [face for face in faces if face.box[3] >= self._min_face]

    def _followed(self, small: np.ndarray, index: int, face: Detection) -> Detection | None:
        """Look at a tracked face again at its roll; None where it is upright or does not show."""
        if (self._frame + index) % _TURN_EVERY == 0:
            return self._upright(small, face, steps=1)
        return self._near_face(small, face, face.roll) if abs(face.roll) > _LEVEL else None

    def _search(self, small: np.ndarray, angle: float) -> list[Detection]:
        """Search the whole picture at one angle."""
        height, width = small.shape[:2]
        centre = (width - 1) / 2, (height - 1) / 2
        view = view_of(small, centre, turned_size(width, height, angle), angle, 1.0)
        return _faces_in(self._whole[abs(angle)], view)

    def _upright(self, small: np.ndarray, face: Detection, steps: int) -> Detection | None:
        """Look at a face turned either way and then where it should be upright; None where it does not show."""
        seen = None
        for _ in range(steps):
            rolls = [face.roll + turn for turn in _TURNS]
            looks = [(roll, look) for roll in rolls if (look := self._near_face(small, face, roll)) is not None]
            if not looks:
                break
            best = max((look for _, look in looks), key=lambda look: look.confidence)
            face = seen = self._near_face(small, best, level_roll(looks)) or best
        return seen

    def _near_face(self, small: np.ndarray, face: Detection, roll: float) -> Detection | None:
        """Search around a face at a roll."""
        x, y, width, height = (float(value) for value in face.box)
        side = max(width, height, 1.0)
        view = view_of(small, (x + width / 2, y + height / 2), (2 * side, 2 * side), roll, _LEVEL_SIZE / side)
        return next((seen for seen in _faces_in(self._near, view) if _same_face(face, seen)), None)


def _load(model: Path, min_confidence: float) -> "cv2.FaceDetectorYN":
    try:
        return cv2.FaceDetectorYN.create(str(model), "", (320, 320), min_confidence, 0.3, 500)
    except (cv2.error, AttributeError) as error:
        raise DetectorError(
            f"{model}: OpenCV {cv2.__version__} cannot load this model ({error}): OpenCV 4.8 or newer is needed"
        ) from error


def _faces_in(network: "cv2.FaceDetectorYN", view: View) -> list[Detection]:
    """The faces of a view, in pixels of the picture, the most confident first."""
    height, width = view.pixels.shape[:2]
    if min(height, width) < _SMALLEST:
        return []
    network.setInputSize((width, height))
    _, rows = network.detect(view.pixels)
    faces = []
    for row in () if rows is None else rows[np.isfinite(rows).all(axis=1)]:
        size = row[2:4] / view.scale
        centre = view.points_in_image((row[:2] + row[2:4] / 2)[None])[0]
        box = np.array([*(centre - size / 2), *size], np.float32)
        points = view.points_in_image(row[4:14].reshape(5, 2)).astype(np.float32)
        faces.append(Detection(box, confidence=float(np.clip(row[14], 0, 1)), points=points))
    return sorted(faces, key=lambda face: -face.confidence)


def level_roll(looks: Sequence[tuple[float, Detection]]) -> float:
    """The roll, in degrees, at which a face leans neither way.

    Args:
        looks: rolls of views and the face as the network saw it in them; at least one.

    Returns:
        where a line through the leans crosses zero, within the rolls looked at; that of the most confident look where
        the leans tell nothing.
    """
    rolls = np.array([roll for roll, _ in looks])
    leans = np.array([(face.roll - roll + 180) % 360 - 180 for roll, face in looks])
    slope, offset = np.polyfit(rolls, leans, 1) if len(looks) > 1 else (0.0, 0.0)
    if slope > _FLAT:
        return max(looks, key=lambda look: look[1].confidence)[0]
    return float(np.clip(-offset / slope, rolls.min(), rolls.max()))


def _same_face(a: Detection, b: Detection) -> bool:
    off = (a.box[:2] + a.box[2:] / 2) - (b.box[:2] + b.box[2:] / 2)
    return bool(np.hypot(*off) < 0.5 * max(*a.box[2:], *b.box[2:]))


def _among(face: Detection, others: Sequence[Detection]) -> bool:
    return any(_same_face(face, other) for other in others)


def one_of_each(faces: Sequence[Detection]) -> list[Detection]:
    """Of the detections of one face keep the most confident: the one in which it is most upright."""
    kept: list[Detection] = []
    for face in sorted(faces, key=lambda face: -face.confidence):
        if not _among(face, kept):
            kept.append(face)
    return kept


def _scaled(face: Detection, factors: np.ndarray) -> Detection:
    return Detection(face.box * np.tile(factors, 2), face.confidence, face.points * factors)
