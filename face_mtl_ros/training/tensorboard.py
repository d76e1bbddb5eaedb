"""Figures of a training for TensorBoard."""

from collections.abc import Callable
from pathlib import Path


def tensorboard_log(folder: Path) -> Callable[[int, dict[str, float]], None]:
    """What writes the figures of a step into the folder's event files; ModuleNotFoundError without tensorboard."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))

    def log(step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return log
