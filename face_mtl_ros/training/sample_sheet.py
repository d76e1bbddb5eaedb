"""What a BEGAN can do so far, as a picture to look at."""

from pathlib import Path

import cv2
import numpy as np
import torch

from ..bundle.files import write_atomically

GAP = 2  # pixels between two faces
MEAN, DEVIATION = 127.5, 55.0  # grey levels for a picture of mean 0 and standard deviation 1


def sample_sheet(rows: list[torch.Tensor]) -> np.ndarray:
    """Tile normalised pictures.

    Args:
        rows: a float (n, 1, h, w) each, on the scale of vision.alignment.normalize, all of the same shape.

    Returns:
        uint8 grey (rows * (h + 2) + 2, n * (w + 2) + 2). All tiles have the same scale of grey.
    """
    tiles = torch.stack([row[:, 0] for row in rows]).detach().float().cpu().numpy()
    tiles = (tiles * DEVIATION + MEAN).round().clip(0, 255).astype(np.uint8)
    tiles = np.pad(tiles, ((0, 0), (0, 0), (GAP, 0), (GAP, 0)), constant_values=255)
    return np.pad(np.block([list(row) for row in tiles]), ((0, GAP), (0, GAP)), constant_values=255)


def write_sheet(folder: Path, step: int, rows: list[torch.Tensor]) -> Path:
    """Write folder/sheet-NNNNNN.png, named after the step, and return its path."""
    file = folder / f"sheet-{step:06d}.png"
    write_atomically(file, cv2.imencode(".png", sample_sheet(rows))[1].tobytes())
    return file
