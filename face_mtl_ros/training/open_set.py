"""When an identity column says `unknown`: the threshold that strangers fall under, and the score that keeps most."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from ..bundle.manifest import OpenSet

Method = Literal["energy", "probability", "embedding", "descriptor"]
KEPT = 0.95  # share of the known that a threshold keeps where there are no strangers to choose it by


def choose_threshold(
    known_scores: np.ndarray,
    stranger_scores: np.ndarray | None = None,
    refuse: float = 0.95,
    method: Method = "energy",
) -> OpenSet:
    """The lowest threshold at which a share of the strangers is refused.

    Where there are no strangers, the highest at which 95 % of the known samples are kept.

    Args:
        known_scores, stranger_scores: float (n,), (m,), higher for the known, of samples that no training saw.
        refuse: share of the strangers, above 0 and at most 1.
        method: which score these are, for the record.

    Raises:
        ValueError: there is no known sample, a score is not finite, or `refuse` is no such share.
    """
    known = _checked(known_scores, "known")
    strangers = _checked([] if stranger_scores is None else stranger_scores, "stranger")
    if not len(known):
        raise ValueError("there is no known sample to choose a threshold by; keep some for validation")
    if not 0 < refuse <= 1:
        raise ValueError(f"refuse is {refuse}; expected a share of the strangers above 0 and at most 1")
    if not len(strangers):
        lowest_kept = -np.quantile(-known, KEPT, method="inverted_cdf")
        threshold = float(np.nextafter(lowest_kept, -np.inf))
        return OpenSet(method=method, threshold=threshold, known_kept=float((known > threshold).mean()))
    threshold = float(np.quantile(strangers, refuse, method="inverted_cdf"))
    return OpenSet(
        method=method,
        threshold=threshold,
        known_kept=float((known > threshold).mean()),
        strangers_refused=float((strangers <= threshold).mean()),
        auroc=_auroc(known, strangers),
    )


def threshold_between(known_scores: np.ndarray, stranger_scores: np.ndarray, method: Method) -> OpenSet:
    """The threshold halfway between what 95 % of the strangers stay under and what 90 % of the known lie above.

    For few people, whose strangers are each other: their scores are too few for a quantile of theirs alone. Drawn from
    LFW, five at a time, it refuses about 80 % of real strangers, and varies less than such a quantile does.

    Args:
        known_scores, stranger_scores: as of choose_threshold, at least one each.

    Raises:
        ValueError: one of them is empty or not finite.
    """
    known, strangers = _checked(known_scores, "known"), _checked(stranger_scores, "stranger")
    if not len(known) or not len(strangers):
        raise ValueError(f"{len(known)} known and {len(strangers)} strangers: at least one each is needed")
    threshold = float((np.quantile(strangers, 0.95) + np.quantile(known, 0.1)) / 2)
    return OpenSet(
        method=method,
        threshold=threshold,
        known_kept=float((known > threshold).mean()),
        strangers_refused=float((strangers <= threshold).mean()),
    )


def best_open_set(
    known: Mapping[Method, np.ndarray], strangers: Mapping[Method, np.ndarray] | None = None, refuse: float = 0.95
) -> OpenSet:
    """The method that keeps most of the known where the share `refuse` of the strangers is refused.

    The higher area under the curve decides between equals. Without strangers nothing tells the methods apart, and the
    first of `known` is taken.

    Args:
        known, strangers: method to scores, as of choose_threshold; the same methods in both.

    Raises:
        ValueError: as of choose_threshold, or the two have other methods.
    """
    if strangers is not None and set(strangers) != set(known):
        raise ValueError(f"the known have scores by {sorted(known)}, the strangers by {sorted(strangers)}")
    found = [
        choose_threshold(scores, None if strangers is None else strangers[method], refuse, method)
        for method, scores in known.items()
    ]
    if not found:
        raise ValueError("there is no score to choose by; give at least one of energy, probability and embedding")
    if strangers is None:
        return found[0]
    return max(found, key=lambda choice: (choice.known_kept, choice.auroc or 0.0))


def _auroc(known: np.ndarray, strangers: np.ndarray) -> float:
    import torch
    from scipy.stats import rankdata
    from torchmetrics.functional.classification import binary_auroc  # which takes seconds that on-site training saves

    # By rank, because torchmetrics takes scores beyond 0 to 1 for logits, whose sigmoid makes large ones equal.
    ranks = rankdata(np.concatenate([known, strangers])) / (len(known) + len(strangers))
    truth = torch.arange(len(ranks)) < len(known)
    return float(binary_auroc(torch.from_numpy(ranks), truth.long()))


def _checked(scores: np.ndarray | list, whose: str) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError(f"the {whose} scores must be finite, of the shape (n,); found the shape {scores.shape}")
    return scores
