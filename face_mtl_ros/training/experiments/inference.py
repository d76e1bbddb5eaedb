"""What a few runs can tell: tests, the difference that they could show, and whether a column has learned at all."""

import warnings
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

from ..evaluation import Seeds

ALPHA = 0.05
POWER = 0.8
NAN = float("nan")

Values = Sequence[float] | np.ndarray


def welch(first: Values, second: Values) -> float:
    """p of Welch's two-sided t-test; NaN where there are less than two values a side, or no spread at all."""
    if min(len(first), len(second)) < 2 or np.ptp(first) == np.ptp(second) == 0:
        return NAN
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of nearly identical values
        return float(stats.ttest_ind(first, second, equal_var=False).pvalue)


def against_zero(values: Values) -> float:
    """p of a two-sided t-test of the values' mean against 0; NaN for less than two values, or no spread at all."""
    if len(values) < 2 or np.ptp(values) == 0:
        return NAN
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of nearly identical values
        return float(stats.ttest_1samp(values, 0).pvalue)


def adjust(found: Sequence[float]) -> list[float]:
    """p values, adjusted for their number (Benjamini and Hochberg 1995); NaN, which is no test, stays NaN."""
    values = np.array(found, float)
    tested = np.isfinite(values)
    if tested.any():
        values[tested] = stats.false_discovery_control(values[tested])
    return values.tolist()


def detectable_difference(first: Values, second: Values) -> float:
    """The smallest difference of means that a two-sided t-test of so many values with this spread would show.

    It does so in POWER of all trials. NaN where there are less than two values a side, or no spread at all.
    """
    n, m = len(first), len(second)
    if min(n, m) < 2 or np.ptp(first) == np.ptp(second) == 0:
        return NAN
    freedom = n + m - 2
    pooled = np.sqrt(((n - 1) * np.var(first, ddof=1) + (m - 1) * np.var(second, ddof=1)) / freedom)
    limit = stats.t.ppf(1 - ALPHA / 2, freedom)

    def missing(shift: float) -> float:
        # The square of a noncentral t is a noncentral F, of which scipy has the tail without NaN.
        return stats.ncf.sf(limit**2, 1, freedom, shift**2) - POWER

    shift = optimize.brentq(missing, 0.01, 10)  # two degrees of freedom, the fewest there are, take 5.7
    return float(shift * pooled * np.sqrt(1 / n + 1 / m))


def sampling_error(percent: float, pictures: int) -> float:
    """Standard error in % of an accuracy that the number of pictures alone brings about, sqrt(a (1 - a) / n)."""
    return float(np.sqrt(percent * (100 - percent) / pictures))


def has_learned(ours: Seeds, pictures: int, majority: float) -> bool:
    """Whether an accuracy in % lies above the majority class's share by more than two standard errors.

    The error is that over the runs and that of so many pictures together.
    """
    error = np.hypot(np.nan_to_num(ours.error), sampling_error(ours.mean, pictures))
    return bool(ours.mean - majority > 2 * error)
