"""From aligned crops to calibrated probabilities."""

from dataclasses import dataclass

import numpy as np

from ..bundle.bundle import Bundle
from ..vision.alignment import normalize
from .engine import EMBEDDING, Engine


@dataclass(frozen=True)
class Predictor:
    """A bundle and the engine that runs it."""

    bundle: Bundle
    engine: Engine

    def predict(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """Run all columns on a batch of crops: the first part of what `read` returns."""
        return self.read(crops)[0]

    def read(self, crops: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Run the encoder and all columns on a batch of crops.

        Args:
            crops: uint8 (n, 128, 128), as vision.alignment.align cuts them.

        Returns:
            Task to probabilities, float32 (n, classes): softmax(logits / the column's temperature), and the embeddings,
            float32 (n, channels) of length 1, whose product of two is the cosine of their angle.
        """
        outputs = self.engine.run(normalize(crops[:, None].astype(np.float32)))
        probabilities = {
            column.task: softmax(outputs[column.task] / column.temperature) for column in self.bundle.manifest.columns
        }
        embeddings = outputs[EMBEDDING]
        return probabilities, embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)

    def warm_up(self, largest: int = 4) -> None:
        """Run batches of 1 to `largest` faces once, so that the first frames don't pay for what engines prepare."""
        for n in range(1, largest + 1):
            self.predict(np.zeros((n, 128, 128), np.uint8))


def softmax(logits: np.ndarray) -> np.ndarray:
    """float (n, classes) to probabilities, float32 of the same shape."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)
