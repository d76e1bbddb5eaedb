"""Telling people apart with a margin (CosFace, Wang et al. 2018)."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

SCALE = 24.0  # of the cosines before the softmax; with few pictures a person, less than CosFace's 64
MARGIN = 0.25
WEIGHT = 0.05  # beside the distillation, which teaches more than the few people with several pictures


class MarginLoss(nn.Module):
    """Cross-entropy over cosines to a learned centre a person, in which the right one is lowered by the margin.

    Args:
        dimensions: of the descriptors.
        people: how many there are; with fewer than 2 the loss is 0.
    """

    def __init__(self, dimensions: int, people: int):
        super().__init__()
        self.centres = nn.Parameter(torch.randn(max(people, 1), dimensions) * 0.1)

    def forward(self, descriptors: torch.Tensor, people: np.ndarray) -> torch.Tensor:
        """float (n, d) and int (n,), where below 0 a person is not known, to the weighted mean loss, a scalar."""
        who = torch.from_numpy(people).to(descriptors.device)
        known = who >= 0
        if not known.any() or len(self.centres) < 2:
            return descriptors.sum() * 0
        cosines = F.normalize(descriptors[known], dim=1) @ F.normalize(self.centres, dim=1).T
        cosines = cosines - MARGIN * F.one_hot(who[known], len(self.centres))
        loss = F.cross_entropy(SCALE * cosines, who[known], reduction="sum")
        return WEIGHT * loss / len(people)
