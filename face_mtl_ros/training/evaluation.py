"""How good a column is on a dataset: accuracy, macro F1, recall by class, expected calibration error, by group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
)

CALIBRATION_BINS = 15
SMALLEST = 1e-12  # a probability below counts as this in the log-likelihood, which a single 0 would make infinite


@dataclass(frozen=True)
class Evaluation:
    """Shares of 1.

    Attributes:
        n: number of pictures.
        accuracy: share of pictures whose most probable label is the true one.
        macro_f1: mean over the labels of the harmonic mean of precision and recall.
        ece: expected calibration error over 15 bins of confidence (Naeini et al. 2015).
        confusion: int64 (classes, classes), rows the true label, columns the predicted one.
        recall: float64 (classes,), share of each class's pictures that are found, NaN where it has none.
        balanced_accuracy: mean of the recall over the classes that have pictures.
        nll: mean negative log-likelihood of the true label, in nats.
        within_one: of an ordered task, share of pictures at most one class off; None for others.
    """

    n: int
    accuracy: float
    macro_f1: float
    ece: float
    confusion: np.ndarray
    recall: np.ndarray
    balanced_accuracy: float
    nll: float
    within_one: float | None = None


@dataclass(frozen=True)
class GroupScore:
    """How good a column is on one group of people: n pictures, accuracy and its standard error, shares of 1."""

    n: int
    accuracy: float
    standard_error: float


@dataclass(frozen=True)
class Seeds:
    """A figure over n seeds: its mean, and the mean's standard error, the sample deviation / sqrt n; NaN for one."""

    n: int
    mean: float
    error: float


def evaluate(probabilities: np.ndarray, labels: np.ndarray, ordered: bool = False) -> Evaluation:
    """Score predictions.

    Args:
        probabilities: float (n, classes), n >= 1, rows summing to 1.
        labels: int (n,), 0 to classes - 1.
        ordered: the classes are in an order, such as age groups, in which a neighbour is nearly right.

    Raises:
        ValueError: there is no picture, the shapes don't match, a probability is not finite, or a label is no class.
    """
    probabilities, labels = _checked(probabilities, labels)
    scores, truth = torch.from_numpy(probabilities), torch.from_numpy(labels)
    classes, predicted = probabilities.shape[1], probabilities.argmax(1)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    pictures = confusion.sum(1)
    recall = np.divide(confusion.diagonal(), pictures, out=np.full(classes, np.nan), where=pictures > 0)
    likelihood = probabilities[np.arange(len(labels)), labels]
    return Evaluation(
        n=len(labels),
        accuracy=float(multiclass_accuracy(scores, truth, classes, average="micro")),
        macro_f1=float(multiclass_f1_score(scores, truth, classes, average="macro")),
        ece=float(multiclass_calibration_error(scores, truth, classes, n_bins=CALIBRATION_BINS, norm="l1")),
        confusion=confusion,
        recall=recall,
        balanced_accuracy=float(np.nanmean(recall)),
        nll=float(-np.log(likelihood.astype(np.float64).clip(SMALLEST)).mean()),
        within_one=float((np.abs(predicted - labels) <= 1).mean()) if ordered else None,
    )


def evaluate_groups(
    probabilities: np.ndarray, labels: np.ndarray, groups: Mapping[str, np.ndarray]
) -> dict[str, dict[str, GroupScore]]:
    """Accuracy by group of people, and by each combination of two kinds of groups.

    Args:
        probabilities, labels: as of `evaluate`.
        groups: kind of group, such as sex or race, to str (n,); "" where it is not known, which is left out.

    Returns:
        Kind to group to score: {"sex": {"female": ...}, "race": {"asian": ...}, "sex/race": {"female/asian": ...}}.
        A standard error is that of a share, sqrt(p (1 - p) / n), too small to trust where n is a few.

    Raises:
        ValueError: as of `evaluate`, or a kind has other than n entries.
    """
    probabilities, labels = _checked(probabilities, labels)
    right = probabilities.argmax(1) == labels
    for kind, values in groups.items():
        if len(values) != len(labels):
            raise ValueError(f"groups by {kind} have {len(values)} entries; expected {len(labels)}, one a picture")
    scores = {kind: _by_group(right, values) for kind, values in groups.items()}
    for (first, ones), (second, others) in combinations(groups.items(), 2):
        both = [f"{one}/{other}" if one and other else "" for one, other in zip(ones, others, strict=True)]
        scores[f"{first}/{second}"] = _by_group(right, np.array(both))
    return scores


def mean_and_error(values: Sequence[float] | np.ndarray) -> Seeds:
    """Mean and standard error of a figure that was measured once a seed.

    Raises:
        ValueError: there is no value.
    """
    array = np.asarray(values, np.float64)
    if not array.size:
        raise ValueError("there is no value to take the mean of; at least one seed is needed")
    error = float(array.std(ddof=1) / np.sqrt(array.size)) if array.size > 1 else float("nan")
    return Seeds(array.size, float(array.mean()), error)


def _by_group(right: np.ndarray, values: np.ndarray) -> dict[str, GroupScore]:
    scores = {}
    for value in sorted(set(np.asarray(values).tolist()) - {""}):
        found = right[np.asarray(values) == value]
        share = float(found.mean())
        scores[value] = GroupScore(len(found), share, float(np.sqrt(share * (1 - share) / len(found))))
    return scores


def _checked(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 (n, classes) and int64 (n,), or ValueError."""
    probabilities, labels = np.asarray(probabilities, np.float32), np.asarray(labels, np.int64)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise ValueError(
            f"probabilities {probabilities.shape} and labels {labels.shape} don't match; expected (n, classes) and (n,)"
        )
    if not len(labels):
        raise ValueError("there is no picture to evaluate; take a split or dataset that has labelled ones")
    broken = np.flatnonzero(~np.isfinite(probabilities).all(1))
    if len(broken):
        raise ValueError(f"the probabilities of picture {broken[0]} are not finite ({len(broken)} of {len(labels)})")
    classes = probabilities.shape[1]
    outside = labels[(labels < 0) | (labels >= classes)]
    if len(outside):
        raise ValueError(f"label {outside[0]} is no class; expected 0 to {classes - 1}")
    return probabilities, labels
