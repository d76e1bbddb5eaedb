"""Whitening of face descriptors: differences between people count alike, whether faces differ much there or little.

A descriptor spreads most in the few directions that its teacher's spreads most in, and a cosine sees hardly more than
these. Whitening (as Jégou and Chum 2012 whiten descriptors of pictures that are searched for) makes the spread even. It
is a linear map, so it becomes part of the column's last layer and costs nothing on the robot.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ..datasets.dataset import Dataset
from ..runtime.predictor import Predictor
from .corpus import EMBEDDING, IDENTITY
from .scoring import dataset_outputs

# Chosen on the people of LFW's validation split: of the variance's power 0 leaves all as it is and 1 makes all
# directions even; the share of the mean variance that is added keeps directions of noise small.
POWER, SHRINKAGE = 0.75, 0.5


def whiten_descriptor(
    predictor: Predictor, datasets: Sequence[Dataset], weights: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The weights of the predictor's embedding column, whitened over those of its datasets that tell people apart.

    Those have the faces that it is for; over FER+ and UTKFace it gains a quarter as much. Without any, over all.
    """
    telling = [dataset for dataset in datasets if IDENTITY in dataset.classes] or datasets
    outputs = [dataset_outputs(predictor, EMBEDDING, dataset)[0] for dataset in telling]
    return whitened(weights, np.concatenate(outputs))


def whitened(weights: Mapping[str, np.ndarray], outputs: np.ndarray) -> dict[str, np.ndarray]:
    """A column's weights whose last layer centres what it said and scales each principal direction.

    The direction of variance v is divided by (v + SHRINKAGE mean(v)) ** (POWER / 2); then all by one number, so that
    the outputs are as long as before.

    Args:
        weights: with "classifier.weight", float (d, units), and "classifier.bias", float (d,).
        outputs: float (n, d), what the column says of n pictures that it was trained on, n at least 2.

    Raises:
        ValueError: the outputs are too few, not finite or all the same.
    """
    outputs = np.asarray(outputs, np.float64)
    if len(outputs) < 2 or not np.isfinite(outputs).all():
        raise ValueError(f"{len(outputs)} outputs are too few to whiten by, or not finite; at least 2 are expected")
    mean = outputs.mean(0)
    variances, directions = np.linalg.eigh(np.cov(outputs.T))
    variances = np.maximum(variances, 0)
    if not variances.mean() > 0:
        raise ValueError(f"all {len(outputs)} outputs are the same, so there is nothing to whiten by")
    matrix = directions * (variances + SHRINKAGE * variances.mean()) ** (-POWER / 2)
    matrix *= np.sqrt((outputs**2).sum(1).mean() / (((outputs - mean) @ matrix) ** 2).sum(1).mean())
    weight = matrix.T @ weights["classifier.weight"]
    bias = matrix.T @ (weights["classifier.bias"] - mean)
    return dict(weights) | {
        "classifier.weight": weight.astype(np.float32),
        "classifier.bias": bias.astype(np.float32),
    }
