"""Stable ids for the faces of a stream: a Kalman filter per face and one optimal assignment per frame."""

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from .detection import Detection

# The filter's noise, in units of the face's size, for x, y, width and height: what a cascade detector's boxes jitter
# by, how heads change their speed (per second and square root of a second), and how fast a new face may be.
MEASUREMENT_NOISE = np.array([0.06, 0.06, 0.10, 0.10])
ACCELERATION_NOISE = np.array([3.0, 3.0, 0.5, 0.5])
FIRST_SPEED_NOISE = np.array([2.0, 2.0, 0.3, 0.3])

# A detection may belong to a track when it lies within about four standard deviations of the prediction (chi-squared,
# 4 degrees of freedom), and, however long the face was unseen, within two face sizes and a factor of two in size:
# someone else's face must not inherit an id.
MAX_MAHALANOBIS_SQUARED = 20.0
MAX_DISTANCE = 2.0
MAX_SIZE_RATIO = 2.0
IMPOSSIBLE = 1e6


@dataclass(frozen=True, eq=False)
class Track:
    """A face followed through a stream, as of one frame. It does not change afterwards.

    Attributes:
        face_id: unique: not used again, neither by this tracker nor after a restart.
        detection: the detection of this frame; while `predicted`, the last one moved to where the face should be.
        predicted: True where the detector missed the face in this frame, or did not look for it.
        hits: how many frames the face was detected in.
        first_seen, last_seen: stamps of the first and the latest detection, in seconds.
        age: seconds from first_seen to this frame.
    """

    face_id: str
    detection: Detection
    predicted: bool
    hits: int
    first_seen: float
    last_seen: float
    age: float


class Tracker:
    """Gives stable ids to the faces of one camera, through missed frames, short occlusions and crossing faces.

    Time is that of the stamps, so recorded streams, odd frame rates and pauses work. A stamp equal to the one before or
    slightly older counts as the same moment; one older by more than `max_age_s` means that the stream began anew and
    all tracks end. Not thread-safe.

    Args:
        max_age_s: a face unseen for longer loses its id. Above 0; at least twice the time between frames.
        min_hits: report a face from this many detections on. At 1 a single picture already has its faces; 2 holds back
            what the detector sees in one frame only, and every true face for one frame as well.
        max_coast: for how many missed frames in a row a face (of two detections or more) is still reported.

    Raises:
        ValueError: for a parameter out of range.
    """

    def __init__(self, max_age_s: float = 1.0, min_hits: int = 1, max_coast: int = 2):
        if not max_age_s > 0:
            raise ValueError(f"max_age_s is {max_age_s}, but must be above 0 seconds")
        if min_hits < 1:
            raise ValueError(f"min_hits is {min_hits}, but must be at least 1")
        if max_coast < 0:
            raise ValueError(f"max_coast is {max_coast}, but must be at least 0")
        self.max_age_s = max_age_s
        self.min_hits = min_hits
        self.max_coast = max_coast
        self._prefix = secrets.token_hex(3)
        self._created = 0
        self._stamp = -math.inf  # of the latest frame
        self._followed: list[_Followed] = []

    @property
    def tracks(self) -> list[Track]:
        """Every face that still has an id, among them those that `update` does not report, oldest first."""
        return [followed.snapshot(self._stamp) for followed in self._followed]

    def update(self, detections: Sequence[Detection], stamp: float) -> list[Track]:
        """Match a frame's detections, in any order, with the faces known so far.

        Args:
            detections: the faces found in the frame.
            stamp: when the frame was taken, in seconds.

        Returns:
            The faces to report, oldest first: each detection (from `min_hits` on) and the missed ones that coast.
        """
        self._advance(stamp)
        # In an order of their own, so that the detector's order decides nothing.
        detections = sorted(detections, key=lambda d: (*d.box.tolist(), d.confidence))
        matched = self._match(detections)
        for index, followed in enumerate(self._followed):
            if index in matched:
                followed.see(detections[matched[index]], self._stamp)
            else:
                followed.missed += 1
        taken = set(matched.values())
        for index, detection in enumerate(detections):
            if index not in taken:
                self._created += 1
                self._followed.append(_Followed(f"{self._prefix}-{self._created}", detection, self._stamp))
        return [followed.snapshot(self._stamp) for followed in self._followed if self._is_reported(followed)]

    def coast(self, stamp: float) -> list[Track]:
        """The faces of a frame in which nobody looked for any: those seen in the last one looked at, as `predicted`.

        Args:
            stamp: when the frame was taken, in seconds.
        """
        self._advance(stamp)
        seen = [followed for followed in self._followed if followed.missed == 0 and followed.hits >= self.min_hits]
        return [followed.expected(self._stamp) for followed in seen]

    def reset(self) -> None:
        """End all tracks. Faces seen afterwards get new ids."""
        self._followed = []
        self._stamp = -math.inf

    def _advance(self, stamp: float) -> None:
        if stamp < self._stamp - self.max_age_s:
            self.reset()
        now = max(stamp, self._stamp)
        self._followed = [f for f in self._followed if now - f.last_seen <= self.max_age_s]
        for followed in self._followed:
            followed.filter.predict(now - self._stamp)
        self._stamp = now

    def _match(self, detections: list[Detection]) -> dict[int, int]:
        """Assign detections to faces, at most one each: index of the face -> index of the detection."""
        if not self._followed or not detections:
            return {}
        boxes = np.array([detection.box for detection in detections], np.float64)
        cost = np.array([followed.filter.cost(boxes) for followed in self._followed])
        rows, columns = linear_sum_assignment(cost)
        return {int(r): int(c) for r, c in zip(rows, columns, strict=True) if cost[r, c] < IMPOSSIBLE}

    def _is_reported(self, followed: "_Followed") -> bool:
        if followed.hits < self.min_hits:
            return False
        # One detection alone may be a false alarm and has no speed to go on with.
        return followed.missed == 0 or (followed.hits > 1 and followed.missed <= self.max_coast)


class _Followed:
    """A face that has an id, and all that is known of it."""

    def __init__(self, face_id: str, detection: Detection, stamp: float):
        self.face_id = face_id
        self.filter = _BoxFilter(detection.box)
        self.detection = detection
        self.hits = 1
        self.missed = 0
        self.first_seen = self.last_seen = stamp

    def see(self, detection: Detection, stamp: float) -> None:
        self.filter.correct(detection.box)
        self.detection = detection
        self.hits += 1
        self.missed = 0
        self.last_seen = stamp

    def snapshot(self, stamp: float) -> Track:
        if self.missed:
            return self.expected(stamp)
        return self._track(self.detection, predicted=False, stamp=stamp)

    def expected(self, stamp: float) -> Track:
        return self._track(_move(self.detection, self.filter.box), predicted=True, stamp=stamp)

    def _track(self, detection: Detection, predicted: bool, stamp: float) -> Track:
        age = stamp - self.first_seen
        return Track(self.face_id, detection, predicted, self.hits, self.first_seen, self.last_seen, age)


class _BoxFilter:
    """Constant-velocity Kalman filter of a box: centre x and y, width and height, each on its own.

    `mean` is (4, 2), value and speed; `covariance` is (4, 2, 2).
    """

    def __init__(self, box: np.ndarray):
        value = _centred(box)
        self.mean = np.stack([value, np.zeros(4)], axis=1)
        self.covariance = np.zeros((4, 2, 2))
        self.covariance[:, 0, 0] = (MEASUREMENT_NOISE * self.size) ** 2
        self.covariance[:, 1, 1] = (FIRST_SPEED_NOISE * self.size) ** 2

    @property
    def size(self) -> float:
        """Side of the square of the box's area, in pixels."""
        return float(np.sqrt(np.prod(self.mean[2:, 0].clip(1.0))))

    @property
    def box(self) -> np.ndarray:
        """float32 (4,): x, y, width, height."""
        centre, extent = self.mean[:2, 0], self.mean[2:, 0].clip(1.0)
        return np.concatenate([centre - extent / 2, extent]).astype(np.float32)

    def predict(self, dt: float) -> None:
        step = np.array([[1.0, dt], [0.0, 1.0]])
        spread = np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
        self.mean = self.mean @ step.T
        noise = (ACCELERATION_NOISE * self.size) ** 2
        self.covariance = step @ self.covariance @ step.T + noise[:, None, None] * spread

    def correct(self, box: np.ndarray) -> None:
        gain = self.covariance[:, :, 0] / self._measured_variance()[:, None]
        self.mean = self.mean + gain * (_centred(box) - self.mean[:, 0])[:, None]
        self.covariance = self.covariance - gain[:, :, None] * self.covariance[:, None, 0, :]

    def cost(self, boxes: np.ndarray) -> np.ndarray:
        """How badly boxes (n, 4) fit the prediction: (n,) negative log-likelihoods, IMPOSSIBLE outside the gates."""
        boxes = _centred(boxes)
        variance = self._measured_variance()
        difference = boxes - self.mean[:, 0]
        mahalanobis = (difference**2 / variance).sum(axis=1)
        distance = np.linalg.norm(difference[:, :2], axis=1) / self.size
        ratio = np.sqrt(boxes[:, 2] * boxes[:, 3]) / self.size
        possible = (mahalanobis < MAX_MAHALANOBIS_SQUARED) & (distance < MAX_DISTANCE)
        possible &= (ratio < MAX_SIZE_RATIO) & (ratio > 1 / MAX_SIZE_RATIO)
        # The variance's share keeps a long-unseen face, which could be anywhere, from taking a well-known one's box.
        return np.where(possible, mahalanobis + np.log(variance / self.size**2).sum(), IMPOSSIBLE)

    def _measured_variance(self) -> np.ndarray:
        return self.covariance[:, 0, 0] + (MEASUREMENT_NOISE * self.size) ** 2


def _centred(boxes: np.ndarray) -> np.ndarray:
    """x, y, width, height -> centre x, centre y, width, height, over the last axis. Sizes are at least a pixel."""
    extent = np.maximum(boxes[..., 2:], 1.0)
    return np.concatenate([boxes[..., :2] + extent / 2, extent], axis=-1).astype(np.float64)


def _move(detection: Detection, box: np.ndarray) -> Detection:
    """The same face in another box: its landmarks move and scale along."""
    scale = box[2:] / np.maximum(detection.box[2:], 1.0)
    points = (detection.points - detection.box[:2]) * scale + box[:2]
    return Detection(box, detection.confidence, points.astype(np.float32))
