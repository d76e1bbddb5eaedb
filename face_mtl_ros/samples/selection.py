"""Which of a tracked face's pictures are worth learning from: sharp, large and well lit ones that differ."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from ..vision.alignment import CROP_SIZE
from ..vision.quality import sharpness

Reason = Literal["taken", "enough", "small", "blurred", "light", "quality", "duplicate"]

# All limits come from faces of LFW; test_samples_selection.py measures the figures behind them (FACE_MTL_DATA=FOLDER
# pytest -m slow -s test/test_samples_selection.py).
MIN_FACE = 48.0  # pixels; shrunk to it, LFW's are told apart as well as at 128, and worse below
MIN_SHARPNESS = 0.014  # refuses 4 % of LFW's; blurred by sigma 2 and 3: 82 and 99.8 %; moved by 13 pixels: 96 %
BRIGHTNESS = (45.0, 210.0)  # mean grey level; LFW's are from 53 to 192
MIN_CONTRAST = 15.0  # standard deviation in grey levels; LFW's lowest is 17
MAX_CLIPPED = 0.2  # share of pixels that are as good as black (to 5) or white (from 250); none of LFW's has as many
MAX_LIKENESS = 0.92  # refuses 90 % of copies jittered by 2 pixels and 2 degrees, 0.3 % of other pictures

LIKENESS_SIDE, LIKENESS_SHIFT = 48, 4  # pixels, in which faces are compared, and by which one may be shifted
_ADVICE: dict[Reason, tuple[str, str]] = {
    "small": ("too small", "come closer"),
    "blurred": ("blurred", "hold still"),
    "light": ("too dark, too bright or too flat", "find better light"),
    "quality": ("of too low a quality", "face the camera"),
    "duplicate": ("too like another", "turn the head a little"),
}


@dataclass(frozen=True)
class Verdict:
    """Whether a picture is taken.

    Attributes:
        taken: True where it is to be stored.
        reason: "taken", or why not: "enough" (there are as many as wanted), "small", "blurred", "light" (badly
            exposed), "quality" or "duplicate".
        message: the same for people, with the numbers.
    """

    taken: bool
    reason: Reason
    message: str


class Selector:
    """Chooses from a stream of pictures of one face. What it says depends on what it was offered alone.

    Not thread-safe.

    Args:
        wanted: how many to take, 1 or more.
        known: crops that are stored under the label already, uint8 (128, 128) or (160, 160), to be unlike of too.
        min_face: pixels, the smallest face that is taken.
        min_quality: 0 to 1, the lowest quality that is taken.

    Attributes:
        counts: reason to number of pictures.

    Raises:
        ValueError: `wanted` is below 1, or a known crop is none.
    """

    def __init__(
        self, wanted: int = 15, known: Sequence[np.ndarray] = (), min_face: float = MIN_FACE, min_quality: float = 0.0
    ):
        if wanted < 1:
            raise ValueError(f"wanted is {wanted}, but must be at least 1")
        self.wanted = wanted
        self.min_face = min_face
        self.min_quality = min_quality
        self.counts: Counter[Reason] = Counter()
        self._seen = [_thumbnail(_inner(crop)) for crop in known]

    @property
    def done(self) -> bool:
        """True where as many are taken as are wanted."""
        return self.counts["taken"] >= self.wanted

    def offer(self, crop: np.ndarray, face_pixels: float, quality: float = 1.0) -> Verdict:
        """Decide on the next picture.

        Args:
            crop: uint8 (128, 128) aligned grey crop, or (160, 160) with its margin.
            face_pixels: the shorter side of the face's box in the camera's image, in pixels.
            quality: fitness by whoever saw the whole image, 0 to 1.

        Raises:
            ValueError: the crop is of another type or shape.
        """
        face = _inner(crop)
        verdict = self._judge(face, face_pixels, quality)
        self.counts[verdict.reason] += 1
        if verdict.taken:
            self._seen.append(_thumbnail(face))
        return verdict

    def summary(self) -> str:
        """A sentence such as "took 9 of 15: 30 blurred, 12 too like another; hold still"."""
        sentence = f"took {self.counts['taken']} of {self.wanted}"
        refused = [(reason, self.counts[reason]) for reason in _ADVICE if self.counts[reason]]
        refused.sort(key=lambda entry: -entry[1])
        if refused:
            sentence += ": " + ", ".join(f"{count} {_ADVICE[reason][0]}" for reason, count in refused)
        if self.done:
            return sentence
        return f"{sentence}; {_ADVICE[refused[0][0]][1]}" if refused else f"{sentence}; no face was seen long enough"

    def _judge(self, face: np.ndarray, face_pixels: float, quality: float) -> Verdict:
        if self.done:
            return Verdict(False, "enough", f"{self.wanted} are taken")
        if not face_pixels >= self.min_face:  # NaN is refused too
            return Verdict(False, "small", f"the face has {face_pixels:.0f} pixels, {self.min_face:.0f} are needed")
        if problem := _bad_light(face):
            return Verdict(False, "light", problem)
        if (found := sharpness(face)) < MIN_SHARPNESS:
            return Verdict(False, "blurred", f"sharpness is {found:.4f}, {MIN_SHARPNESS} is needed")
        if not quality >= self.min_quality:
            return Verdict(False, "quality", f"quality is {quality:.2f}, {self.min_quality:.2f} is needed")
        likeness = max((_likeness(face, seen) for seen in self._seen), default=0.0)
        if likeness > MAX_LIKENESS:
            return Verdict(False, "duplicate", f"correlation with another is {likeness:.2f}, at most {MAX_LIKENESS}")
        return Verdict(True, "taken", f"sharpness {found:.4f}, correlation with the others at most {likeness:.2f}")


def _bad_light(face: np.ndarray) -> str:
    """What is wrong with the exposure; empty where nothing is."""
    mean, deviation = float(face.mean()), float(face.std())
    clipped = float(((face <= 5) | (face >= 250)).mean())
    if not BRIGHTNESS[0] <= mean <= BRIGHTNESS[1]:
        return f"mean grey level is {mean:.0f}, {BRIGHTNESS[0]:.0f} to {BRIGHTNESS[1]:.0f} are expected"
    if deviation < MIN_CONTRAST:
        return f"contrast is {deviation:.0f} grey levels, {MIN_CONTRAST:.0f} are needed"
    if clipped > MAX_CLIPPED:
        return f"{clipped:.0%} of the pixels are black or white, at most {MAX_CLIPPED:.0%} are expected"
    return ""


def _likeness(face: np.ndarray, seen: np.ndarray) -> float:
    """The highest correlation, -1 to 1, of a face with another over small shifts: landmarks jitter by as much."""
    inner = _thumbnail(face)[LIKENESS_SHIFT:-LIKENESS_SHIFT, LIKENESS_SHIFT:-LIKENESS_SHIFT]
    return float(cv2.matchTemplate(seen, inner, cv2.TM_CCOEFF_NORMED).max())


def _thumbnail(face: np.ndarray) -> np.ndarray:
    """float32 (48, 48)."""
    return cv2.resize(face, (LIKENESS_SIDE, LIKENESS_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)


def _inner(crop: np.ndarray) -> np.ndarray:
    """The crop without a margin, uint8 (128, 128)."""
    side, margin = len(crop), (len(crop) - CROP_SIZE) // 2
    if crop.dtype != np.uint8 or crop.shape != (side, side) or margin < 0 or 2 * margin + CROP_SIZE != side:
        raise ValueError(f"crop is {crop.dtype} {crop.shape}: uint8 ({CROP_SIZE}, {CROP_SIZE}) is expected")
    return crop[margin : margin + CROP_SIZE, margin : margin + CROP_SIZE]
