"""The labels that several datasets share: gender, and age in Adience's eight groups."""

import numpy as np

GENDERS = ("male", "female")
# Adience's groups (Eidinger et al. 2014), first and last year of each.
AGE_GROUPS = ((0, 2), (4, 6), (8, 13), (15, 20), (25, 32), (38, 43), (48, 53), (60, 116))
AGES = tuple("60+" if low == 60 else f"{low}-{high}" for low, high in AGE_GROUPS)
# Years that stand for a group when its expectation is taken: the middle, and for the last the mean of UTKFace's ages.
AGE_VALUES = (1.0, 5.0, 10.5, 17.5, 28.5, 40.5, 50.5, 70.0)


def age_group(years: float) -> int:
    """Index of the Adience group of an age; between two groups the nearer one, and the younger at equal distance."""
    distances = [max(low - years, years - high, 0) for low, high in AGE_GROUPS]
    return int(np.argmin(distances))
