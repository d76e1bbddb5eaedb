"""In which order training goes through its samples."""

import numpy as np


def batch_indices(step: int, samples: int, batch: int, seed: int) -> np.ndarray:
    """The samples of a step: consecutive ones of an endless row of shuffled epochs, from the seed and step alone.

    Returns:
        int (batch,), 0 to samples - 1.
    """
    positions = np.arange(step * batch, (step + 1) * batch)
    epochs = positions // samples
    orders = {epoch: np.random.default_rng((seed, int(epoch))).permutation(samples) for epoch in np.unique(epochs)}
    return np.array([orders[epoch][position % samples] for epoch, position in zip(epochs, positions, strict=True)])
