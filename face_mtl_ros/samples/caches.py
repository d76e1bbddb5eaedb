"""Copies of samples that training keeps under FACE_MTL_HOME/cache."""

from ..paths import cache_dir

DATASET_NAME = "samples"  # which datasets.crops and training.descriptors put into their files' names


def erase_cached_crops() -> None:
    """Erase the crops and foreign descriptors of samples that training has kept, and those of killed trainings.

    Forgetting calls it; whoever trains on a store's dataset calls it when done, since each state of the store has files
    of its own.
    """
    for pattern in (f"crops/{DATASET_NAME}-*", f"descriptors/*-{DATASET_NAME}-*"):
        for file in cache_dir().glob(pattern):
            file.unlink(missing_ok=True)
