"""Learning a face descriptor from a teacher's: Hinton et al. 2015, with the relations of Park et al. 2019."""

import numpy as np
import torch
from torch.nn import functional as F

RELATIONS = 4.0  # weight of the relational part; with it both parts begin at about 1


def teacher_targets(descriptors: np.ndarray) -> torch.Tensor:
    """Descriptors as targets: centred, for all faces lie on one side of the origin, then of unit length.

    Args:
        descriptors: float (n, d), n >= 2.

    Returns:
        float32 (n, d).
    """
    centred = torch.from_numpy(descriptors - descriptors.mean(0)).float()
    return F.normalize(centred, dim=1)


def distillation_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """How far descriptors are from the teacher's, and how far their similarities to each other from its, float (n,).

    Args:
        outputs: float (n, d), of any length.
        targets: float (n, d) of unit length.
    """
    unit = F.normalize(outputs, dim=1)
    apart = 1 - (unit * targets).sum(1)
    relations = (unit @ unit.T - targets @ targets.T).square().mean(1) * len(unit) / max(1, len(unit) - 1)
    return apart + RELATIONS * relations
