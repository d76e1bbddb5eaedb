"""What an engine is: a bundle made executable."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from ..bundle.manifest import DescriptorRecord

INPUT = "crops"
EMBEDDING = "encoder/embedding"  # the output beside the tasks'; no task's name has a slash

# In these torch and the graphs for GPUs keep the encoder's first convolution in fp32 (OpenVINO rounds by itself). It
# sees one channel and costs next to nothing, but eight bits are few for grey levels and for what they are multiplied
# by: over half of bf16's error comes from it.
FIRST_IN_FP32 = frozenset({"bf16"})


class EngineError(RuntimeError):
    """An engine cannot be had here; the message says what is missing and what to install."""


class Engine(Protocol):
    """Runs the encoder and all columns of one bundle.

    Attributes:
        name: "tensorrt", "openvino", "onnxruntime" or "torch".
        device: what it runs on, in the engine's words.
        precision: "fp32", "bf16", "fp16" or "int8".
    """

    name: str
    device: str
    precision: str

    def run(self, crops: np.ndarray, descriptors: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """One batch of faces.

        Args:
            crops: float32 (n, 1, 128, 128), normalised by vision.alignment.normalize, n >= 0.
            descriptors: name to float32 (n, d) of length 1, the faces by each foreign descriptor of the manifest.

        Returns:
            Task to logits, float32 (n, classes), an embedding's task to its numbers, float32 (n, d), and EMBEDDING to
            the mean of the encoder's map over its places, float32 (n, channels). Not to be called from two threads at
            once.

        Raises:
            ValueError: a descriptor that the bundle draws on is not given, or of another shape.
        """
        ...


def descriptor_input(name: str) -> str:
    """The graph's input for a foreign face descriptor, float32 (batch, d) of length 1."""
    return f"descriptor/{name}"


def check_descriptors(
    needed: Mapping[str, DescriptorRecord], descriptors: Mapping[str, np.ndarray] | None, n: int
) -> dict[str, np.ndarray]:
    """The needed ones of n faces, float32 (n, d) each; ValueError names one that is missing or of another shape."""
    given = descriptors or {}
    for name, record in needed.items():
        if name not in given:
            raise ValueError(f"the model draws on the face descriptor '{name}', which was not given")
        if given[name].shape != (n, record.dimensions):
            raise ValueError(
                f"the face descriptor '{name}' has the shape {given[name].shape}, not ({n}, {record.dimensions})"
            )
    return {name: np.ascontiguousarray(given[name], np.float32) for name in needed}
