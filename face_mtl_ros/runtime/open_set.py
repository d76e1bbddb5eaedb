"""Whether an identity column knows a face at all: a robot meets strangers, and a softmax always names somebody."""

import numpy as np

from ..bundle.manifest import ColumnRecord

# By how much nearer, in cosine, a face has to be to somebody than to the runner-up. On LFW, five people of the val or
# test split at a time, it takes a sixth to a quarter of the wrong names away and costs hardly a right one.
MARGIN = 0.15


def known_score(
    column: ColumnRecord,
    logits: np.ndarray,
    embeddings: np.ndarray,
    described: np.ndarray | None,
    prototypes: np.ndarray | None,
) -> np.ndarray:
    """How much faces look like somebody whom the column knows, by the column's own method.

    Args:
        column: an identity column with an open-set rule.
        logits: float (n, classes).
        embeddings: float (n, d) of length 1.
        described: float (n, d) of length 1, the faces by the column's foreign descriptor, where it draws on one.
        prototypes: float (classes, d) of length 1, the mean of each person by what the method compares, "embedding" or
            "descriptor"; None for the others.

    Returns:
        float32 (n,); a face whose score is not above the rule's threshold is nobody's.
    """
    assert column.open_set is not None
    if column.open_set.method in ("embedding", "descriptor"):
        faces = embeddings if column.open_set.method == "embedding" else described
        assert faces is not None and prototypes is not None
        return clear_nearness(faces, prototypes, logits.argmax(1), column.open_set.margin or MARGIN)
    score = energy if column.open_set.method == "energy" else probability
    return score(logits, column.temperature)


def energy(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """T logsumexp(logits / T), the negative free energy of Liu et al. 2020: float (n, classes) to float64 (n,)."""
    from scipy.special import logsumexp  # takes a second to import, which a model without names is spared

    return temperature * logsumexp(np.asarray(logits, np.float64) / temperature, axis=1)


def probability(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The highest of softmax(logits / T), 0 to 1: float (n, classes) to float64 (n,)."""
    from scipy.special import softmax

    return softmax(np.asarray(logits, np.float64) / temperature, axis=1).max(1)


def class_means(embeddings: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The mean direction of each class.

    Args:
        embeddings: float (n, d), of length 1.
        labels: int (n,), each of 0 to classes - 1 at least once.

    Returns:
        float64 (classes, d), of length 1.

    Raises:
        ValueError: a class has no sample, or its embeddings cancel out.
    """
    embeddings, labels = np.asarray(embeddings, np.float64), np.asarray(labels)
    means = np.zeros((classes, embeddings.shape[1]))
    np.add.at(means, labels, embeddings)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise ValueError(f"class {np.flatnonzero(~(lengths[:, 0] > 0))[0]} has no embedding to take the mean of")
    return means / lengths


def clear_nearness(embeddings: np.ndarray, means: np.ndarray, named: np.ndarray, margin: float = MARGIN) -> np.ndarray:
    """Cosine to the mean of the class that a face is named by, less what its lead over all others lacks of a margin.

    So a name needs both: a face halfway between two people, or nearer to another one, is nobody's.

    Args:
        embeddings: float (n, d), of length 1.
        means: float (classes, d), as class_means gives them, of at least two classes.
        named: int (n,), the class that the column names.

    Returns:
        float64 (n,).
    """
    cosines = np.asarray(embeddings, np.float64) @ means.T
    own = np.take_along_axis(cosines, named[:, None], axis=1)
    np.put_along_axis(cosines, named[:, None], -np.inf, axis=1)
    return own[:, 0] - np.maximum(0.0, margin - (own[:, 0] - cosines.max(1)))
