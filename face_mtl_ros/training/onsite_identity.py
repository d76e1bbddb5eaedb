"""When an identity column of few people says `unknown`: by each other, for a robot has no pictures of strangers."""

import numpy as np

from ..bundle.manifest import OpenSet
from ..runtime.open_set import class_means, clear_nearness, probability
from .open_set import threshold_between


def recognise_each_other(
    held_back: np.ndarray, labels: np.ndarray, folds: np.ndarray, embeddings: np.ndarray | None
) -> tuple[OpenSet, np.ndarray | None, float]:
    """Choose the threshold with each person in turn as a stranger to the others.

    Args:
        held_back: float (n, classes), each sample's logits by a classifier that was trained without it.
        labels: int (n,); folds: int (n,), by which fold a sample was held back.
        embeddings: float (n, d) of length 1; None where the bundle makes none, and probabilities have to do.

    Returns:
        The rule; the people's mean embeddings, float32 (classes, d), where it compares embeddings; and the share of
        the held-back samples that were named, and rightly.
    """
    named = held_back.argmax(1)
    among_others = held_back.copy()
    among_others[np.arange(len(labels)), labels] = -np.inf
    if embeddings is None:
        scores, strangers = probability(held_back), probability(among_others)
        rule, means = threshold_between(scores, strangers, "probability"), None
    else:
        scores = _nearness_of_held_back(embeddings, labels, folds, named, held_back.shape[1])
        strangers = _nearness_as_stranger(embeddings, labels, among_others)
        rule = threshold_between(scores, strangers, "embedding")
        means = class_means(embeddings, labels, held_back.shape[1]).astype(np.float32)
    return rule, means, float(((named == labels) & (scores > rule.threshold)).mean())


def _nearness_of_held_back(
    embeddings: np.ndarray, labels: np.ndarray, folds: np.ndarray, named: np.ndarray, classes: int
) -> np.ndarray:
    """float64 (n,): each sample's score by means that it has no part in."""
    scores = np.empty(len(labels))
    for fold in np.unique(folds):
        out = folds == fold
        means = class_means(embeddings[~out], labels[~out], classes)
        scores[out] = clear_nearness(embeddings[out], means, named[out])
    return scores


def _nearness_as_stranger(embeddings: np.ndarray, labels: np.ndarray, among_others: np.ndarray) -> np.ndarray:
    """float64 (n,): each sample's score if its person were not known."""
    scores = np.empty(len(labels))
    means = class_means(embeddings, labels, among_others.shape[1])
    for person in range(among_others.shape[1]):
        rows, others = labels == person, np.arange(among_others.shape[1]) != person
        scores[rows] = clear_nearness(embeddings[rows], means[others], among_others[rows][:, others].argmax(1))
    return scores
