"""What the columns say about a tracked face, over time: means of probabilities, and names on which frames agree."""

import math
from collections import Counter
from collections.abc import Collection

import numpy as np

# A stamp this much older than the one before is no jitter: the stream began anew.
RESTART_S = 1.0


class ProbabilitySmoother:
    """Mean of a face's probabilities over time, in which a sample's weight falls with its age, exp(-age / constant).

    The mean of few samples is a plain one, so that the first frame of a face does not outweigh those after it.

    Args:
        time_constant_s: 0 switches the smoothing off. May be changed at any time.

    Raises:
        ValueError: for a negative or non-finite constant.
    """

    def __init__(self, time_constant_s: float = 0.5):
        self.time_constant_s = time_constant_s
        self._states: dict[tuple[str, str], _State] = {}

    @property
    def time_constant_s(self) -> float:
        return self._time_constant_s

    @time_constant_s.setter
    def time_constant_s(self, value: float) -> None:
        if not 0 <= value < math.inf:
            raise ValueError(f"time_constant_s is {value}, but must be 0 (off) or a number of seconds above it")
        self._time_constant_s = value

    def update(self, face_id: str, task: str, probabilities: np.ndarray, stamp: float) -> np.ndarray:
        """Add a sample and return the mean up to now.

        Args:
            face_id: the track.
            task: the column that spoke.
            probabilities: float32 (k,), 0 to 1, of sum 1. Another k than before (a model was exchanged) begins anew.
            stamp: when the frame was taken, in seconds. Slightly older than the one before counts as the same moment.

        Returns:
            float32 (k,) of sum 1, a copy. A sample that is not finite is returned as it is and left out of the mean.
        """
        time_constant = self._time_constant_s  # read once: another thread may set it
        if time_constant == 0:
            self._states.pop((face_id, task), None)
            return np.array(probabilities, np.float32)
        if not np.isfinite(probabilities).all():
            # A mean never gets rid of a NaN.
            return np.array(probabilities, np.float32)
        state = self._states.get((face_id, task))
        if state is None or len(state.mean) != len(probabilities) or stamp < state.stamp - RESTART_S:
            state = self._states[face_id, task] = _State(len(probabilities), stamp)
        elapsed = max(0.0, stamp - state.stamp)
        state.add(np.asarray(probabilities, np.float64), math.exp(-elapsed / time_constant))
        state.stamp = max(stamp, state.stamp)
        return state.mean.astype(np.float32)

    def forget(self, alive: Collection[str]) -> None:
        """Drop every face that is not among the ids still alive."""
        self._states = {key: state for key, state in self._states.items() if key[0] in alive}

    def forget_tasks(self, kept: Collection[str]) -> None:
        """Drop every task that is not among the kept ones, for another column speaks for it."""
        self._states = {key: state for key, state in self._states.items() if key[1] in kept}


class NameAgreement:
    """Names a tracked face only where several of its frames agree, so that one wrong frame never changes a name.

    A frame speaks for a label where the column knows the face, the label's probability is at least `confidence`, and at
    least `margin` above that of the runner-up; else for nobody. A name holds while `frames` of the latest
    2 frames - 1 speak for it: never two at once, and a face that turns into somebody else or nobody loses it again.

    Args:
        frames: how many must agree, at least 1, where a single frame names. May be changed at any time, as the others.
        confidence: 0 to 1.
        margin: 0 to 1.

    Raises:
        ValueError: one of them is out of range.
    """

    def __init__(self, frames: int = 5, confidence: float = 0.5, margin: float = 0.2):
        self.frames = frames
        self.confidence = confidence
        self.margin = margin
        self._votes: dict[tuple[str, str], _Votes] = {}

    @property
    def frames(self) -> int:
        return self._frames

    @frames.setter
    def frames(self, value: int) -> None:
        if not value >= 1:
            raise ValueError(f"frames is {value}, but must be at least 1")
        self._frames = value

    @property
    def confidence(self) -> float:
        return self._confidence

    @confidence.setter
    def confidence(self, value: float) -> None:
        self._confidence = _share("confidence", value)

    @property
    def margin(self) -> float:
        return self._margin

    @margin.setter
    def margin(self, value: float) -> None:
        self._margin = _share("margin", value)

    def update(self, face_id: str, task: str, probabilities: np.ndarray, known: bool, stamp: float) -> int | None:
        """Add a frame and return the label that holds now.

        Args:
            face_id: the track.
            task: the identity column that spoke.
            probabilities: float32 (k,), k >= 2, 0 to 1, of sum 1: this frame's, not smoothed. One that is not finite
                speaks for nobody.
            known: whether the column knows the face at all.
            stamp: when the frame was taken, in seconds. A frame that comes again, with the same stamp, does not count.

        Returns:
            The label's index, 0 to k - 1; None where no name is agreed.
        """
        frames = self._frames  # read once: another thread may set it
        votes = self._votes.setdefault((face_id, task), _Votes())
        if stamp != votes.stamp:
            votes.stamp = stamp
            votes.labels.append(self._vote(probabilities) if known else None)
        del votes.labels[: -(2 * frames - 1)]
        counts = Counter(label for label in votes.labels if label is not None)
        return next((label for label, count in counts.items() if count >= frames), None)

    def forget(self, alive: Collection[str]) -> None:
        """Drop every face that is not among the ids still alive."""
        self._votes = {key: votes for key, votes in self._votes.items() if key[0] in alive}

    def forget_tasks(self, kept: Collection[str]) -> None:
        """Drop every task that is not among the kept ones, for another column speaks for it."""
        self._votes = {key: votes for key, votes in self._votes.items() if key[1] in kept}

    def _vote(self, probabilities: np.ndarray) -> int | None:
        """The label that a frame speaks for."""
        second, first = np.partition(np.asarray(probabilities, np.float64), -2)[-2:]
        # Written so that NaN, which compares false, speaks for nobody.
        clear = first >= self._confidence and first - second >= self._margin
        return int(np.argmax(probabilities)) if clear and np.isfinite(probabilities).all() else None


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}, but must be from 0 to 1")
    return value


class _Votes:
    """The labels that a face's latest frames speak for, the newest last; None for nobody."""

    def __init__(self) -> None:
        self.labels: list[int | None] = []
        self.stamp = math.nan


class _State:
    def __init__(self, classes: int, stamp: float):
        self.mean = np.zeros(classes)
        self.weight = 0.0
        self.stamp = stamp

    def add(self, probabilities: np.ndarray, decay: float) -> None:
        past = self.weight * decay
        self.mean = (past * self.mean + probabilities) / (past + 1.0)
        self.weight = past + 1.0
