"""What an engine is: a bundle made executable."""

from typing import Protocol

import numpy as np

EMBEDDING = "encoder/embedding"  # the output beside the tasks'; no task's name has a slash


class EngineError(RuntimeError):
    """An engine cannot be had here; the message says what is missing and what to install."""


class Engine(Protocol):
    """Runs the encoder and all columns of one bundle.

    Attributes:
        name: "openvino" or "torch".
        device: what it runs on, in the engine's words.
        precision: "fp32", "bf16" or "fp16".
    """

    name: str
    device: str
    precision: str

    def run(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """One batch of faces.

        Args:
            crops: float32 (n, 1, 128, 128), normalised by vision.alignment.normalize, n >= 0.

        Returns:
            Task to logits, float32 (n, classes), and EMBEDDING to the mean of the encoder's map over its places,
            float32 (n, channels). Not to be called from two threads at once.
        """
        ...
