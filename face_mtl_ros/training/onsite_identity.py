"""When an identity column of few people says `unknown`: by each other, for a robot has no pictures of strangers."""

import numpy as np

from ..bundle.manifest import OpenSet
from ..runtime.open_set import MARGIN, class_means, clear_nearness, probability
from .open_set import threshold_between
from .prototypes import contrast


def recognise_each_other(
    held_back: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    embeddings: np.ndarray | None,
    described: np.ndarray | None = None,
) -> tuple[OpenSet, np.ndarray | None, float]:
    """Choose the threshold with each person in turn as a stranger to the others.

    Args:
        held_back: float (n, classes), each sample's logits by a classifier that was trained without it.
        labels: int (n,); folds: int (n,), by which fold a sample was held back.
        embeddings: float (n, d) of length 1, by the bundle; None where it makes none.
        described: float (n, d) of length 1, by a foreign descriptor that the column draws on, if it does. That was
            made to tell people apart, so the rule then compares it alone. Without either, probabilities have to do.

    Returns:
        The rule; the people's mean embeddings or descriptors, float32 (classes, d), where it compares such; and the
        share of the held-back samples that were named, and rightly.
    """
    named = held_back.argmax(1)
    among_others = held_back.copy()
    among_others[np.arange(len(labels)), labels] = -np.inf
    vectors = embeddings if described is None else described
    if vectors is None:
        scores, strangers = probability(held_back), probability(among_others)
        rule, means = threshold_between(scores, strangers, "probability"), None
    else:
        means = class_means(vectors, labels, held_back.shape[1]).astype(np.float32)
        # What all faces have in common in a foreign descriptor brings all cosines closer together, and so the margin.
        margin = MARGIN if described is None else MARGIN * contrast(means)
        scores = _nearness_of_held_back(vectors, labels, folds, named, held_back.shape[1], margin)
        strangers = nearness_as_stranger(vectors, labels, means, among_others, margin)
        rule = threshold_between(scores, strangers, "embedding" if described is None else "descriptor")
        if described is not None:
            rule = rule.model_copy(update={"margin": margin})
    return rule, means, float(((named == labels) & (scores > rule.threshold)).mean())


def _nearness_of_held_back(
    embeddings: np.ndarray, labels: np.ndarray, folds: np.ndarray, named: np.ndarray, classes: int, margin: float
) -> np.ndarray:
    """float64 (n,): each sample's score by means that it has no part in."""
    scores = np.empty(len(labels))
    for fold in np.unique(folds):
        out = folds == fold
        means = class_means(embeddings[~out], labels[~out], classes)
        scores[out] = clear_nearness(embeddings[out], means, named[out], margin)
    return scores


def nearness_as_stranger(
    embeddings: np.ndarray, labels: np.ndarray, means: np.ndarray, among_others: np.ndarray, margin: float
) -> np.ndarray:
    """Each sample's score if its person were not known, float64 (n,).

    Args:
        embeddings: float (n, d) of length 1; labels: int (n,); means: float (classes, d).
        among_others: float (n, classes), the logits, of which each sample's own is -inf.
        margin: as of runtime.open_set.clear_nearness.
    """
    scores = np.empty(len(labels))
    for person in range(among_others.shape[1]):
        rows, others = labels == person, np.arange(among_others.shape[1]) != person
        named = among_others[rows][:, others].argmax(1)
        scores[rows] = clear_nearness(embeddings[rows], means[others], named, margin)
    return scores
