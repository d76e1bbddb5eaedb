"""The embedded face detector: OpenCV's Haar cascades, which come with OpenCV and need no download.

The cascade finds frontal faces that are upright within some 15 degrees, so rolled copies of the picture are searched
too. What it finds in them is merged, checked for eyes and reported in pixels of the picture itself.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np

from .detection import Detection
from .detector_input import DetectorError, check_image, is_dark, shrink, to_grey
from .search_parts import SearchPart, search_octaves
from .view import View, turned_size, view_of

_FACE_CASCADE = "haarcascade_frontalface_alt2.xml"
_SECOND_CASCADE = "haarcascade_frontalface_alt.xml"
_RIGHT_EYE_CASCADE = "haarcascade_righteye_2splits.xml"
_LEFT_EYE_CASCADE = "haarcascade_lefteye_2splits.xml"
_WINDOW = 20  # pixels, the smallest face and the smallest eye that the cascades can find

_SEARCHED_FACE = 24  # pixels, to which a stream's smallest face wanted is scaled: the pyramid's steps need a margin
_TRACKED_FACE = 40  # pixels, to which a tracked face is scaled before it is looked for again: at 28 some are lost
_STILL_STEP, _STREAM_STEP, _TRACKED_STEP = 1.1, 1.2, 1.15  # from one level of the pyramid to the next
_PARTS_A_FRAME = 4  # of the full search, at most
_SMALL_PARTS = 2  # that are searched for small faces between two searches for large ones

_CLOSE_FACE = 60  # pixels, to which a doubtful candidate is scaled for both cascades to look at it closely
_CLOSE_STEP = 1.05
# Windows of each cascade that make a face of a candidate without a pair of eyes: where one eye shows, and where none;
# twice as many where the head would lean so far that few do. Chosen on the pictures of tools/measure_detectors.py.
_CONFIRMED_ONE_EYE, _CONFIRMED_NO_EYE = 10, 17
_RARE_ROLL = 30.0  # degrees

_EYES_FACE = 112  # pixels, to which a face is scaled before its eyes are looked for: at 80, half as many are found
_EYES_TOP, _EYES_BOTTOM = 11, 76  # rows of such a face, between which its eyes lie with their brows
_EYES_MIDDLE = 62, 50  # columns where the search for the one eye ends and for the other begins
_EYES_EVERY = 4  # frames of a stream from one search for a tracked face's eyes and roll to the next
_TURNS = -12.0, 0.0, 12.0  # degrees by which a tracked face is turned to see how it stands
_RIGHT_EYE = np.array([0.31, 0.39])  # of the cascade's box, the median over LFW's faces
_LEFT_EYE = np.array([0.69, 0.39])


@dataclass(frozen=True, eq=False)
class Candidate:
    """What the cascade took for a face.

    Attributes:
        centre: float64 (2,), x and y in pixels of the picture.
        size: side of the square box, pixels of the picture.
        roll: degrees.
        hits: windows of the cascade that agree on it, as many as a pyramid of steps of 1.1 would give.
    """

    centre: np.ndarray
    size: float
    roll: float
    hits: float


def merge(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Make one candidate of all that lie on one face, by the average weighted with the hits; the strongest first."""
    groups: list[list[Candidate]] = []
    for candidate in sorted(candidates, key=lambda c: -c.hits):
        for group in groups:
            if _same_face(candidate, group[0]):
                group.append(candidate)
                break
        else:
            groups.append([candidate])
    return sorted((_average(group) for group in groups), key=lambda c: -c.hits)


def _same_face(a: Candidate, b: Candidate) -> bool:
    return bool(np.linalg.norm(a.centre - b.centre) < 0.5 * max(a.size, b.size))


def _average(group: list[Candidate]) -> Candidate:
    alike = [c for c in group if 0.7 < c.size / group[0].size < 1.4]  # not a mouth or a chin taken for a face
    hits = np.array([c.hits for c in alike], np.float64)
    weights = hits / hits.sum()
    return Candidate(
        centre=weights @ np.array([c.centre for c in alike]),
        size=float(weights @ np.array([c.size for c in alike])),
        roll=float(weights @ np.array([c.roll for c in alike])),
        hits=float(hits.sum()),
    )


class HaarDetector:
    """Frontal faces by Haar cascades; each detection carries the two eyes, (2, 2), found or estimated.

    A still picture is searched at all `angles`. A frame of a stream is searched near the tracked faces, at their
    roll, and in one part of the full search, which takes many frames: an octave of face sizes, a tile of the picture,
    an angle, in turn that of the last face seen and one of `angles`.

    Args:
        min_face: side of the smallest face wanted, pixels of the picture; at least 20.
        max_side: the picture is searched at no more than this width or height. The smallest face that is found grows
            in proportion where the limit applies: 24 / max_side of the longer side.
        angles: degrees of roll at which pictures are searched; the cascade stands 15 degrees to either side.
        full_search_every: while faces are tracked, every so many frames parts of the full search are done as well.
        time_budget_ms: CPU time for a frame of a stream. Nothing is begun past it; tracked faces that are left out of
            one frame are reported where they were expected, and come first in the next.

    Raises:
        ValueError: an argument is out of its range.
        DetectorError: OpenCV comes without the cascades.
    """

    name = "haar"

    def __init__(
        self,
        min_face: int = 48,
        max_side: int = 1280,
        angles: Sequence[float] = (0.0, -20.0, 20.0, -40.0, 40.0),
        full_search_every: int = 3,
        time_budget_ms: float = 15.0,
    ) -> None:
        if min_face < _WINDOW:
            raise ValueError(f"min_face: at least {_WINDOW} pixels are expected, got {min_face}")
        if max_side < _SEARCHED_FACE:
            raise ValueError(f"max_side: at least {_SEARCHED_FACE} pixels are expected, got {max_side}")
        if not angles:
            raise ValueError("angles: at least one is expected, got none")
        if full_search_every < 1:
            raise ValueError(f"full_search_every: at least 1 is expected, got {full_search_every}")
        if time_budget_ms <= 0:
            raise ValueError(f"time_budget_ms: more than 0 is expected, got {time_budget_ms}")
        self._min_face = min_face
        self._max_side = max_side
        self._angles = tuple(angles)
        self._full_search_every = full_search_every
        self._time_budget = time_budget_ms / 1000
        self._faces = _load_cascade(_FACE_CASCADE)
        self._second = _load_cascade(_SECOND_CASCADE)
        self._right_eye = _load_cascade(_RIGHT_EYE_CASCADE)
        self._left_eye = _load_cascade(_LEFT_EYE_CASCADE)
        self._contrast = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8))
        self._last_roll = 0.0
        self._frame = 0
        self._left_out: list[int] = []
        self._reported: list[Detection] = []  # of the stream's last frame
        self._parts: Iterator[SearchPart] = iter(())
        self._parts_are_for = (0, 0, 0)  # height and width of the picture, the smallest face in it
        self._part_seconds = 0.0  # what the last part cost

    def detect(self, image: np.ndarray, previous: Sequence[Detection] | None = None) -> list[Detection]:
        """Find the faces of an image; see `Detector.detect`. Raises ValueError for a malformed image."""
        check_image(image)
        picture = to_grey(image)
        scale = min(1.0, self._max_side / max(picture.shape))
        if previous is not None:
            scale = min(scale, _SEARCHED_FACE / self._min_face)
        small = self._normalise(shrink(picture, scale))
        if previous is None:
            candidates = [c for angle in self._angles for c in self._search(small, scale, angle, _STILL_STEP)]
        else:
            candidates = self._search_stream(small, scale, previous)
        found = (self._detection(picture, candidate, previous or ()) for candidate in merge(candidates))
        detections = sorted((d for d in found if d is not None), key=lambda d: -d.confidence)
        if previous is not None:
            # Those there was no time for are where they were expected, unless the last look at them was in vain.
            left_out = [previous[face] for face in self._left_out]
            detections += [d for d in left_out if _is_among(d, self._reported) and not _is_among(d, detections)]
            self._reported = detections
        if detections:
            self._last_roll = detections[0].roll
        return detections

    def _normalise(self, picture: np.ndarray) -> np.ndarray:
        """Even out the light; a dark picture's few grey levels are spread first, or the local step amplifies noise."""
        if is_dark(picture):
            picture = cv2.equalizeHist(picture)
        return self._contrast.apply(picture)

    def _search_stream(self, small: np.ndarray, scale: float, previous: Sequence[Detection]) -> list[Candidate]:
        """Search near the tracked faces, those first that were left out last time, and a part of the whole frame."""
        self._frame += 1
        end = time.thread_time() + self._time_budget
        candidates: list[Candidate] = []
        searches_in_full = not previous or self._frame % self._full_search_every == 0
        if searches_in_full:  # first, or tracked faces would crowd it out for good
            candidates += self._search_next_part(small, scale)
        tracked = sorted(range(len(previous)), key=lambda face: face not in self._left_out)
        for done, face in enumerate(tracked):
            if (done or searches_in_full) and time.thread_time() > end:
                self._left_out = tracked[done:]
                return candidates
            turns = (0.0,) if (self._frame + face) % _EYES_EVERY else _TURNS
            candidates += [c for turn in turns for c in self._search_near(small, scale, previous[face], turn)]
        self._left_out = []
        parts = 1
        while searches_in_full and parts < _PARTS_A_FRAME and time.thread_time() + self._part_seconds < end:
            candidates += self._search_next_part(small, scale)
            parts += 1
        return candidates

    def _search_next_part(self, small: np.ndarray, scale: float) -> list[Candidate]:
        """Search the part of the whole picture whose turn it is."""
        started = time.thread_time()
        smallest = max(_WINDOW, math.floor(self._min_face * scale))
        height, width = small.shape
        if self._parts_are_for != (height, width, smallest):
            self._parts_are_for = (height, width, smallest)
            self._parts = self._parts_in_turn(height, width, smallest)
        part = next(self._parts)
        view = part.view(small)
        # A bit more than an octave: a face at its end needs the neighbouring sizes to be seen by windows enough.
        largest = max(view.pixels.shape) if part.is_last else math.ceil(2.4 * smallest)
        found = self._faces_in(view, scale, smallest, largest, _STREAM_STEP)
        self._part_seconds = time.thread_time() - started
        return found

    def _parts_in_turn(self, height: int, width: int, smallest: int) -> Iterator[SearchPart]:
        """Without end, the parts of the full search. Large faces, which are one part of many, come more often."""
        small_angles, large_angles = self._angles_in_turn(), self._angles_in_turn()
        while True:
            octaves = search_octaves(width, height, next(small_angles), 2 * smallest)
            small = [part for octave in octaves[:-1] for part in octave]
            for first in range(0, max(1, len(small)), _SMALL_PARTS):
                yield from search_octaves(width, height, next(large_angles), 2 * smallest)[-1]
                yield from small[first : first + _SMALL_PARTS]

    def _angles_in_turn(self) -> Iterator[float]:
        for angle in cycle(self._angles):
            yield self._last_roll
            yield angle

    def _search(self, small: np.ndarray, scale: float, angle: float, step: float) -> list[Candidate]:
        """Search the whole picture at one angle."""
        height, width = small.shape
        centre = (width - 1) / 2, (height - 1) / 2
        view = view_of(small, centre, turned_size(width, height, angle), angle, 1.0)
        smallest = max(_WINDOW, math.floor(self._min_face * scale))
        return self._faces_in(view, scale, smallest, max(view.pixels.shape), step)

    def _search_near(self, small: np.ndarray, scale: float, face: Detection, turn: float) -> list[Candidate]:
        """Search around a tracked face, near its size, at its roll turned by some degrees."""
        tracked = _as_candidate(face)
        side = max(tracked.size * scale, 1.0)
        centre = tracked.centre * scale
        zoom = min(1.0, _TRACKED_FACE / side)
        view = view_of(small, centre, (2 * side, 2 * side), face.roll + turn, zoom)
        smallest, largest = max(_WINDOW, int(0.7 * side * zoom)), math.ceil(1.4 * side * zoom)
        return self._faces_in(view, scale, smallest, largest, _TRACKED_STEP)

    def _faces_in(self, view: View, scale: float, smallest: int, largest: int, step: float) -> list[Candidate]:
        if min(view.pixels.shape) < _WINDOW:
            return []
        boxes, hits = self._faces.detectMultiScale2(
            view.pixels, scaleFactor=step, minNeighbors=3, minSize=(smallest, smallest), maxSize=(largest, largest)
        )
        weight = math.log(step) / math.log(_STILL_STEP)
        candidates = []
        for (x, y, width, height), count in zip(boxes, hits, strict=True):
            centre = view.points_in_image(np.array([[x + width / 2, y + height / 2]]))[0]
            candidates.append(Candidate(centre / scale, width / (view.scale * scale), view.roll, count * weight))
        return candidates

    def _detection(self, picture: np.ndarray, face: Candidate, previous: Sequence[Detection]) -> Detection | None:
        """Align a candidate by its eyes; None where it is new, weak and shows none."""
        corner = face.centre - face.size / 2
        box = np.array([*corner, face.size, face.size], np.float32)
        tracked = next((i for i, p in enumerate(previous) if _same_face(face, _as_candidate(p))), None)
        if tracked is not None and (self._frame + tracked) % _EYES_EVERY:
            eyes = moved_eyes(previous[tracked], face)
        else:
            pair, one_shows = self._find_eyes(picture, face)
            needed = (_CONFIRMED_ONE_EYE if one_shows else _CONFIRMED_NO_EYE) * (1 + (abs(face.roll) > _RARE_ROLL))
            if pair is None and tracked is None and not self._is_confirmed(picture, face, needed):
                return None
            eyes = estimated_eyes(face) if pair is None else pair
        return Detection(box, confidence=face.hits / (face.hits + 10), points=eyes.astype(np.float32))

    def _find_eyes(self, picture: np.ndarray, face: Candidate) -> tuple[np.ndarray | None, bool]:
        """The eyes as float64 (2, 2) in pixels of the picture, None unless both show, and whether at least one does."""
        view = view_of(picture, face.centre, (face.size, face.size), face.roll, _EYES_FACE / face.size)
        rows = cv2.equalizeHist(view.pixels)[_EYES_TOP:_EYES_BOTTOM]
        ends, begins = _EYES_MIDDLE
        right = _eyes_in(self._right_eye, rows[:, :ends], left=0)
        left = _eyes_in(self._left_eye, rows[:, begins:], left=begins)
        pair = eye_pair(right, left)
        return None if pair is None else view.points_in_image(pair * _EYES_FACE), len(right) + len(left) > 0

    def _is_confirmed(self, picture: np.ndarray, face: Candidate, needed: int) -> bool:
        """Whether at least so many windows of each of two cascades see a face in the candidate's place."""
        side = 1.8 * face.size
        view = view_of(picture, face.centre, (side, side), face.roll, _CLOSE_FACE / face.size)
        pixels = cv2.equalizeHist(view.pixels)
        return all(_hits_in_middle(cascade, pixels) >= needed for cascade in (self._faces, self._second))


def _hits_in_middle(cascade: "cv2.CascadeClassifier", pixels: np.ndarray) -> int:
    """Windows that agree on a face of about _CLOSE_FACE pixels at the middle of the square."""
    smallest, largest = round(_CLOSE_FACE / 1.5), round(_CLOSE_FACE * 1.4)
    boxes, hits = cascade.detectMultiScale2(
        pixels, scaleFactor=_CLOSE_STEP, minNeighbors=1, minSize=(smallest, smallest), maxSize=(largest, largest)
    )
    middle = np.array(pixels.shape[::-1]) / 2
    near = [
        int(count)
        for (x, y, width, height), count in zip(boxes, hits, strict=True)
        if np.linalg.norm([x + width / 2 - middle[0], y + height / 2 - middle[1]]) < _CLOSE_FACE / 3
    ]
    return max(near, default=0)


def _eyes_in(cascade: "cv2.CascadeClassifier", rows: np.ndarray, left: int) -> np.ndarray:
    """Middles (n, 2) of the eyes, in units of the face box."""
    boxes = cascade.detectMultiScale(rows, scaleFactor=1.1, minNeighbors=1, minSize=(20, 20), maxSize=(44, 44))
    middles = [[left + x + width / 2, _EYES_TOP + y + height / 2] for x, y, width, height in boxes]
    return np.array(middles).reshape(-1, 2) / _EYES_FACE


def _as_candidate(face: Detection) -> Candidate:
    x, y, width, height = (float(v) for v in face.box)
    return Candidate(np.array([x + width / 2, y + height / 2]), max(width, height), face.roll, hits=0)


def _is_among(face: Detection, others: Sequence[Detection]) -> bool:
    return any(_same_face(_as_candidate(face), _as_candidate(other)) for other in others)


def moved_eyes(before: Detection, face: Candidate) -> np.ndarray:
    """The eyes of a face in the frame before, moved and scaled with its box: float64 (2, 2)."""
    old = _as_candidate(before)
    return face.centre + (before.points[:2] - old.centre) * (face.size / max(old.size, 1.0))


def estimated_eyes(face: Candidate) -> np.ndarray:
    """Where the eyes are in most faces of this box and roll: float64 (2, 2) in pixels of the picture."""
    cosine, sine = math.cos(math.radians(face.roll)), math.sin(math.radians(face.roll))
    offsets = (np.array([_RIGHT_EYE, _LEFT_EYE]) - 0.5) * face.size
    return face.centre + offsets @ np.array([[cosine, sine], [-sine, cosine]])


def eye_pair(right: np.ndarray, left: np.ndarray) -> np.ndarray | None:
    """Of some right eyes (n, 2) and left ones (m, 2), in units of the face box, the two that lie most like a pair.

    Returns:
        (2, 2), or None where no two lie like a pair.
    """
    best, least = None, 0.2
    for one in right:
        for other in left:
            error = float(np.abs(one - _RIGHT_EYE).max() + np.abs(other - _LEFT_EYE).max())
            if error < least:
                best, least = np.array([one, other]), error
    return best


def _load_cascade(name: str) -> "cv2.CascadeClassifier":
    """Load a cascade from the Python package, or from the folders of Linux distributions' packages of OpenCV."""
    if not hasattr(cv2, "CascadeClassifier"):
        raise DetectorError(f"OpenCV {cv2.__version__} has no Haar cascades: install opencv-python-headless<5")
    folders = [Path("/usr/share/opencv4/haarcascades"), Path("/usr/share/opencv/haarcascades")]
    if hasattr(cv2, "data"):
        folders.insert(0, Path(cv2.data.haarcascades))  # type: ignore[attr-defined]  # OpenCV's stub lacks it
    for folder in folders:
        if (folder / name).is_file():
            return cv2.CascadeClassifier(str(folder / name))
    raise DetectorError(f"{name}: not in {folders[0]}: install opencv-python-headless<5 or the system's opencv-data")
