"""The last layer of a few-shot column: trained on what frozen layers say, for as long as cross-validation gains."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

EPOCHS = 50  # at most
PATIENCE = 10  # epochs without a better cross-validation, after which training ends
BATCH = 32
LEARNING_RATE, BETAS = 3e-3, (0.9, 0.999)

Layer = tuple[np.ndarray, np.ndarray]  # weight, (classes, inputs), and bias, (classes,)
Progress = Callable[[int, float, float], None]  # epochs done, training loss, cross-validated accuracy


@dataclass(frozen=True)
class Scaled:
    """The classifier's inputs, centred and of a mean square of 1, on which it learns evenly."""

    mean: np.ndarray
    scale: float

    @classmethod
    def of(cls, inputs: np.ndarray) -> "Scaled":
        mean = inputs.mean(0)
        return cls(mean, max(float(np.sqrt(((inputs - mean) ** 2).mean())), 1e-9))

    def apply(self, inputs: np.ndarray) -> np.ndarray:
        return (inputs - self.mean) / self.scale

    def from_outside(self, weight: np.ndarray, bias: np.ndarray) -> Layer:
        """A last layer for the inputs as they are, as one for scaled inputs."""
        return weight * self.scale, bias + weight @ self.mean

    def to_outside(self, weight: np.ndarray, bias: np.ndarray) -> Layer:
        """The other way round, float32."""
        outside = (weight / self.scale).astype(np.float32)
        return outside, (bias - outside @ self.mean).astype(np.float32)


class Trial:
    """A last layer that learns from some of the samples, by Adam (Kingma and Ba 2015).

    In NumPy: torch's optimizers bring their compiler along, whose import takes longer than all of this.

    Args:
        x: float32 (views * n, inputs), scaled; y: int64 (views * n,).
        rows: int (m,), the samples that it learns from; held_back: those that it is tried on, as they are.
        begin: weight and bias to begin with.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, rows: np.ndarray, held_back: np.ndarray, begin: Layer, seed: int):
        samples = int(max(rows.max(), held_back.max())) + 1
        self._x, self._y, self.held_back = x, y, held_back
        self._rows = np.concatenate([rows + start for start in range(0, len(x), samples)])
        self._parameters = [part.astype(np.float32) for part in begin]
        self._moments = [(np.zeros_like(part), np.zeros_like(part)) for part in self._parameters]
        self._steps, self._rng = 0, np.random.default_rng(seed)

    @property
    def layer(self) -> Layer:
        weight, bias = self._parameters
        return weight, bias

    def logits(self, x: np.ndarray) -> np.ndarray:
        weight, bias = self._parameters
        return x @ weight.T + bias

    def advance(self) -> float:
        """One pass over the views. Returns the mean loss in nats."""
        order = self._rng.permutation(self._rows)
        return float(np.mean([self._step(order[i : i + BATCH]) for i in range(0, len(order), BATCH)]))

    def held_back_logits(self) -> np.ndarray:
        return self.logits(self._x[self.held_back])

    def _step(self, batch: np.ndarray) -> float:
        x, rows, labels = self._x[batch], np.arange(len(batch)), self._y[batch]
        log_probabilities = log_softmax(self.logits(x), axis=1)
        error = np.exp(log_probabilities)
        error[rows, labels] -= 1
        self._steps += 1
        gradients = error.T @ x / len(batch), error.mean(0)
        for value, gradient, (first, second) in zip(self._parameters, gradients, self._moments, strict=True):
            first += (1 - BETAS[0]) * (gradient - first)
            second += (1 - BETAS[1]) * (gradient**2 - second)
            corrected = [m / (1 - beta**self._steps) for m, beta in zip((first, second), BETAS, strict=True)]
            value -= LEARNING_RATE * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        return float(-log_probabilities[rows, labels].mean())


def stop_early(
    trials: Sequence[Trial],
    labels: np.ndarray,
    classes: int,
    caution: float,
    seconds: float,
    progress: Progress | None,
) -> tuple[int, np.ndarray]:
    """Train all trials side by side until their held-back samples gain no more.

    Returns:
        How many epochs were best, 0 unless they better the prototypes by more than `caution` standard errors, and
        each sample's logits then, float32 (n, classes).
    """
    deadline = time.monotonic() + seconds
    held_back = _held_back_of(trials, len(labels), classes)
    first = best = held_back.argmax(1) == labels
    epochs, chosen, loss = 0, held_back, float("nan")
    for epoch in range(1, EPOCHS + 1):
        if time.monotonic() > deadline or epoch - epochs > PATIENCE:
            break
        loss = float(np.mean([trial.advance() for trial in trials]))
        found = _held_back_of(trials, len(labels), classes)
        right = found.argmax(1) == labels
        if right.mean() > best.mean():
            best, epochs, chosen = right, epoch, found
        if progress:
            progress(epoch, loss, float(best.mean()))
    gain = best.astype(float) - first
    if gain.mean() <= caution * gain.std() / np.sqrt(len(labels)):
        return 0, held_back
    return epochs, chosen


def _held_back_of(trials: Sequence[Trial], samples: int, classes: int) -> np.ndarray:
    found = np.zeros((samples, classes), np.float32)
    for trial in trials:
        found[trial.held_back] = trial.held_back_logits()
    return found
