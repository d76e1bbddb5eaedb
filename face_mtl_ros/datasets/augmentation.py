"""What a robot's camera does to a face, done to training crops."""

import kornia.augmentation as K
import torch
from torch import nn
from torch.nn import functional as F

from ..vision.alignment import CROP_SIZE, normalize


class Augmentation(nn.Module):
    """Random view of a crop: mirrored, turned, shifted, scaled, blurred, noisy, partly covered, badly exposed.

    The scale reaches from the framing of LFW's pictures, whose faces are small, to a detector's tightest boxes, so that
    the network reads crops of either framing.

    Args:
        shrink: 2 makes views of half the size, by as much cheaper.
    """

    def __init__(self, shrink: int = 1):
        super().__init__()
        self.shrink = shrink
        self.geometry = K.AugmentationSequential(
            K.RandomHorizontalFlip(p=0.5),
            K.RandomAffine(
                degrees=18, translate=(0.06, 0.06), scale=(0.75, 1.2), shear=(-6, 6), padding_mode="border", p=0.95
            ),
            K.CenterCrop(CROP_SIZE // shrink),
            data_keys=["input"],
        )
        blur = (5, 5) if shrink == 1 else (3, 3)
        self.photometry = K.AugmentationSequential(
            K.RandomGamma((0.5, 1.8), p=0.5),
            K.RandomGaussianBlur(blur, (0.3 / shrink, 2.0 / shrink), p=0.2),
            K.RandomGaussianNoise(std=0.03, p=0.2),
            K.RandomErasing(scale=(0.02, 0.12), value=0.5, p=0.3),
            data_keys=["input"],
        )

    @torch.no_grad()
    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """uint8 (n, side, side) crops with a margin to float (n, 1, 128 / shrink, 128 / shrink), normalised."""
        x = crops[:, None].float() / 255
        if self.shrink > 1:
            x = F.avg_pool2d(x, self.shrink)
        return normalize(self.photometry(self.geometry(x)).clamp(0, 1) * 255)


def plain(crops: torch.Tensor, shrink: int = 1) -> torch.Tensor:
    """The same without chance."""
    margin = (crops.shape[-1] - CROP_SIZE) // 2
    inner = crops[:, None, margin : margin + CROP_SIZE, margin : margin + CROP_SIZE].float()
    return normalize(F.avg_pool2d(inner, shrink) if shrink > 1 else inner)
