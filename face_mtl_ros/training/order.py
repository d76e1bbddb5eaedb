"""In which order training goes through its samples."""

from collections.abc import Sequence
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


def mixed_indices(step: int, parts: Sequence[int], batch: int, seed: int) -> np.ndarray:
    """The same of samples that come in parts, numbered one part after another: each place of a batch holds a sample of
    the part that `layout` says.
    """
    if len(parts) == 1:
        return batch_indices(step, parts[0], batch, seed)
    owners, indices = layout(tuple(parts), batch), np.empty(batch, int)
    firsts = np.cumsum([0, *parts])
    for part in np.unique(owners):
        places = owners == part
        own = batch_indices(step, parts[part], int(places.sum()), seed + 1_000_003 * int(part))
        indices[places] = firsts[part] + own
    return indices


@lru_cache(maxsize=16)
def layout(parts: tuple[int, ...], batch: int) -> np.ndarray:
    """Of which part the sample at each place of every batch is, int (batch,).

    Each part has places in proportion to its size, at least one unless it is empty, spread evenly over the batch, so
    that a piece of a batch is mixed as the whole is.

    Raises:
        ValueError: the batch has fewer places than there are parts.
    """
    if batch < np.count_nonzero(parts):
        raise ValueError(f"batch: at least {np.count_nonzero(parts)} is expected, one of each dataset, got {batch}")
    wanted = np.array(parts) * batch / sum(parts)
    given = np.maximum(np.sign(parts), np.floor(wanted).astype(int))
    while missing := batch - given.sum():
        # The part that has too few, or too many, by most; none loses its last place.
        need = (wanted - given) * np.sign(missing)
        given[np.argmax(np.where((missing > 0) | (given > 1), need, -np.inf))] += np.sign(missing)
    spread = np.concatenate([(np.arange(count) + 0.5) / count for count in given])
    return np.repeat(np.arange(len(parts)), given)[np.argsort(spread, kind="stable")]


@lru_cache(maxsize=16)
def _order(seed: int, epoch: int, samples: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(samples)
