"""From aligned crops to calibrated probabilities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..bundle.bundle import PROTOTYPES, Bundle
from ..vision.alignment import normalize
from .descriptor import Descriptor
from .engine import EMBEDDING, Engine
from .open_set import known_score


@dataclass(frozen=True)
class Readings:
    """What the columns say of n faces.

    Attributes:
        probabilities: task to float32 (n, classes), softmax(logits / the column's temperature).
        embeddings: float32 (n, d) of length 1, whose product of two is the cosine of their angle: those of the bundle's
            embedding column, or where it has none the encoder's map, averaged, which is not trained to tell people
            apart.
        known: task of each open-set identity column to float (n,): how far above its threshold a face's score is;
            not above 0 the face is nobody's.
    """

    probabilities: dict[str, np.ndarray]
    embeddings: np.ndarray
    known: dict[str, np.ndarray]


@dataclass(frozen=True)
class Predictor:
    """A bundle, the engine that runs it, and where its columns draw on foreign descriptors, those by name."""

    bundle: Bundle
    engine: Engine
    descriptors: Mapping[str, Descriptor] = field(default_factory=dict)

    def predict(self, crops: np.ndarray, descriptors: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """The probabilities of what `read` returns."""
        return self.read(crops, descriptors).probabilities

    def describe(self, image: np.ndarray, points: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """An image's faces by each foreign descriptor, as `read` takes them; see Descriptor.describe."""
        return {name: descriptor.describe(image, points) for name, descriptor in self.descriptors.items()}

    def describe_crops(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """The same of aligned crops; see Descriptor.describe_crops for what they lack."""
        return {name: descriptor.describe_crops(crops) for name, descriptor in self.descriptors.items()}

    def read(self, crops: np.ndarray, descriptors: Mapping[str, np.ndarray] | None = None) -> Readings:
        """Run the encoder and all columns on a batch of faces.

        Args:
            crops: uint8 (n, 128, 128) as vision.alignment.align cuts.
            descriptors: name to float32 (n, d) of length 1, for each foreign descriptor that the bundle draws on.

        Raises:
            ValueError: one of them is not given, or of another shape.
        """
        manifest, outputs = self.bundle.manifest, self.logits(crops, descriptors)
        embeddings = self.embeddings(outputs)
        classifiers = [column for column in manifest.columns if column.kind != "embedding"]
        known = {
            column.task: known_score(
                column,
                outputs[column.task],
                embeddings,
                (descriptors or {}).get(column.descriptor.name) if column.descriptor else None,
                self.bundle.columns[column.task].get(PROTOTYPES),
            )
            - column.open_set.threshold
            for column in classifiers
            if column.open_set
        }
        return Readings(
            {column.task: softmax(outputs[column.task] / column.temperature) for column in classifiers},
            embeddings,
            known,
        )

    def logits(self, crops: np.ndarray, descriptors: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """The engine's outputs for uint8 (n, 128, 128) crops; see runtime.engine.Engine.run."""
        return self.engine.run(normalize(crops[:, None].astype(np.float32)), descriptors)

    def embeddings(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Of what `logits` returned, the embeddings of length 1 that Readings has."""
        column = self.bundle.manifest.embedding
        return unit(outputs[column.task if column else EMBEDDING])

    def warm_up(self) -> None:
        """Run batches of 1 to 4 faces once, and of 8 on a GPU, where each size of BUCKETS is prepared apart, so that
        the first frames don't pay for what engines prepare."""
        for n in (1, 2, 3, 4) if self.engine.device.lower() == "cpu" else (1, 2, 4, 8):
            nobody = {
                name: np.zeros((n, record.dimensions), np.float32)
                for name, record in self.bundle.manifest.descriptors.items()
            }
            self.predict(np.zeros((n, 128, 128), np.uint8), nobody)


def unit(vectors: np.ndarray) -> np.ndarray:
    """float (n, d) to the same direction at length 1; zeros stay zeros."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def softmax(logits: np.ndarray) -> np.ndarray:
    """float (n, classes) to probabilities, float32 of the same shape."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)
