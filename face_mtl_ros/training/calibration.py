"""Temperature scaling (Guo et al. 2017): one number a column that makes its confidence mean what it says."""

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_softmax

LOWEST, HIGHEST = 0.05, 20.0  # temperatures that are looked at


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T for which softmax(logits / T) gives the labels the least mean negative log-likelihood.

    Fit it on pictures that training did not see. It leaves every decision as it is and moves the confidence alone.

    Args:
        logits: float (n, classes), before the softmax. A constant added to a row changes nothing, so logarithms of
            probabilities serve as well.
        labels: int (n,), 0 to classes - 1, of at least two different classes.

    Returns:
        0.05 to 20. Where every picture is right, the likelihood has no best temperature and this is the lowest; a
        lasting 0.05 or 20 says that there are too few pictures to calibrate on, or that the logits are broken.

    Raises:
        ValueError: there is no picture, just one class, a logit that is not finite, or a label that is no class.
    """
    logits, labels = _checked(logits, labels)
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(logits, labels, np.exp(log_t)),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    # The search never looks at the bounds themselves, and stops short of the optimum by its tolerance.
    candidates = (float(np.exp(found.x)), LOWEST, HIGHEST, 1.0)
    return min(candidates, key=lambda temperature: negative_log_likelihood(logits, labels, temperature))


def temperature_of_few(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature at which the mean confidence is the accuracy, (right + 1) / (n + 2) by Laplace's rule.

    For samples so few that all may be right, where the likelihood has no best temperature.

    Args, raises:
        As of fit_temperature; held-back samples.
    """
    logits, labels = _checked(logits, labels)
    accuracy = ((logits.argmax(1) == labels).sum() + 1) / (len(labels) + 2)

    def surplus(log_t: float) -> float:
        return float(np.exp(log_softmax(logits / np.exp(log_t), axis=1).max(1)).mean()) - accuracy

    low, high = np.log(LOWEST), np.log(HIGHEST)
    if surplus(low) <= 0 or surplus(high) >= 0:
        return LOWEST if surplus(low) <= 0 else HIGHEST
    return float(np.exp(brentq(surplus, low, high)))


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Mean over the pictures of -log softmax(logits / temperature) at the label, in nats.

    Args:
        logits: float (n, classes).
        labels: int (n,).
    """
    scaled = log_softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    return float(-scaled[np.arange(len(labels)), labels].mean())


def _checked(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels, np.int64)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"logits {logits.shape} and labels {labels.shape} don't match; expected (n, classes) and (n,)")
    if not len(labels):
        raise ValueError("there is no picture to fit a temperature on; calibrate on a split that has labelled ones")
    broken = np.flatnonzero(~np.isfinite(logits).all(1))
    if len(broken):
        raise ValueError(f"the logits of picture {broken[0]} are not finite ({len(broken)} of {len(labels)} pictures)")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels reach from {labels.min()} to {labels.max()}; expected 0 to {logits.shape[1] - 1}")
    if len(np.unique(labels)) < 2:
        raise ValueError(
            f"all {len(labels)} pictures are of class {labels[0]}; a temperature needs at least two classes"
        )
    return logits, labels
