"""Temporal smoothing of what the columns say about a tracked face."""

import math
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


class _State:
    def __init__(self, classes: int, stamp: float):
        self.mean = np.zeros(classes)
        self.weight = 0.0
        self.stamp = stamp

    def add(self, probabilities: np.ndarray, decay: float) -> None:
        past = self.weight * decay
        self.mean = (past * self.mean + probabilities) / (past + 1.0)
        self.weight = past + 1.0
