"""In which order training goes through its samples."""

from functools import lru_cache

import numpy as np


def batch_indices(step: int, samples: int, batch: int, seed: int) -> np.ndarray:
    """The samples of a step: consecutive ones of an endless row of shuffled epochs, from the seed and step alone.

    Returns:
        int (batch,), 0 to samples - 1.
    """
    positions = np.arange(step * batch, (step + 1) * batch)
    epochs = positions // samples
    orders = {int(epoch): _order(seed, int(epoch), samples) for epoch in np.unique(epochs)}
    return np.array([orders[int(epoch)][position % samples] for epoch, position in zip(epochs, positions, strict=True)])


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, samples: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(samples)
