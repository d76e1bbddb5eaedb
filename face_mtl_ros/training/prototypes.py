"""Last layers that decide for the nearest prototype, to begin with: class means, of people their mean descriptors."""

import numpy as np

from ..bundle.bundle import Bundle
from ..networks.column import DescriptorAdapter
from ..runtime.open_set import class_means
from .last_layer import Layer

SHARPNESS = 10.0  # of the first logits: cosines times this, before calibration


def embedding_matrix(bundle: Bundle, task: str) -> Layer | None:
    """The last layer of a column that describes faces, (d, units) and (d,); None where it is a classifier.

    Only the part that reads its own hidden layer: where it has sources, prototypes do without theirs.
    """
    if bundle.manifest.column(task).kind != "embedding":
        return None
    weights = bundle.columns[task]
    units = bundle.preset.hidden_units
    return weights["classifier.weight"][:, :units].astype(np.float64), weights["classifier.bias"].astype(np.float64)


def nearest_embedding(hidden: np.ndarray, labels: np.ndarray, classes: int, embedding: Layer) -> Layer:
    """A last layer whose logits are an embedding's products with the class means, SHARPNESS at a cosine of 1.

    Args:
        hidden: float64 (n, units); labels: int (n,).
        embedding: as embedding_matrix gives it.
    """
    matrix, offset = embedding
    embeddings = hidden @ matrix.T + offset
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    means = class_means(embeddings / np.maximum(lengths, 1e-12), labels, classes)
    sharpness = SHARPNESS / max(float(lengths.mean()), 1e-12)
    return sharpness * means @ matrix, sharpness * means @ offset


def nearest_descriptor(described: np.ndarray, labels: np.ndarray, classes: int, adapter: DescriptorAdapter) -> Layer:
    """A last layer over an adapter that passes a foreign descriptor on, likewise.

    Cosines of descriptors that all faces have much of in common differ by little, so they are sharpened as much more.

    Args:
        described: float64 (n, d) of length 1; labels: int (n,).
        adapter: as fewshot opens it.
    """
    means = class_means(described, labels, classes)
    matrix = (adapter.scale[:, None] * adapter.reduce.weight).double().numpy()
    weight = SHARPNESS / contrast(means) * means @ np.linalg.pinv(matrix)
    return weight, -weight @ adapter.reduce.bias.double().numpy()


def contrast(means: np.ndarray) -> float:
    """How far apart class means of length 1, float (classes, d), lie: 1 less their mean cosine, at least 0.01."""
    cosines = (means @ means.T)[~np.eye(len(means), dtype=bool)]
    return max(float(1 - cosines.mean()), 0.01)


def nearest_mean(inputs: np.ndarray, labels: np.ndarray, classes: int) -> Layer:
    """A last layer that decides for the nearest class mean: x m - |m|^2 / 2, over the spread within the classes."""
    means = np.stack([inputs[labels == label].mean(0) for label in range(classes)])
    spread = ((inputs - means[labels]) ** 2).sum(1).mean()
    sharpness = SHARPNESS / max(float(spread), 1e-9)
    return sharpness * means, -sharpness * (means**2).sum(1) / 2
