"""How good a column is on a dataset: accuracy, macro F1, expected calibration error."""

from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
)

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Evaluation:
    """Shares of 1.

    Attributes:
        n: number of pictures.
        accuracy: share of pictures whose most probable label is the true one.
        macro_f1: mean over the labels of the harmonic mean of precision and recall.
        ece: expected calibration error over 15 bins of confidence (Naeini et al. 2015).
        confusion: int64 (classes, classes), rows the true label, columns the predicted one.
    """

    n: int
    accuracy: float
    macro_f1: float
    ece: float
    confusion: np.ndarray


def evaluate(probabilities: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Score predictions.

    Args:
        probabilities: float (n, classes), n >= 1, rows summing to 1.
        labels: int (n,).
    """
    scores, truth = torch.from_numpy(np.asarray(probabilities, np.float32)), torch.from_numpy(np.asarray(labels))
    classes = scores.shape[1]
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, probabilities.argmax(1)), 1)
    return Evaluation(
        n=len(labels),
        accuracy=float(multiclass_accuracy(scores, truth, classes, average="micro")),
        macro_f1=float(multiclass_f1_score(scores, truth, classes, average="macro")),
        ece=float(multiclass_calibration_error(scores, truth, classes, n_bins=CALIBRATION_BINS, norm="l1")),
        confusion=confusion,
    )
