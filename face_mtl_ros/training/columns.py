"""Training one column beside the frozen encoder and the frozen older columns (paper, sections II.B and III)."""

from collections.abc import Callable
from pathlib import Path

import torch

from ..datasets.augmentation import Augmentation
from ..networks.column import Column
from ..networks.progressive import ProgressiveNetwork
from .corpus import Corpus
from .loop import Recipe, best_autocast, fit
from .pretraining import CHUNK, soft_cross_entropy


def train_column(
    network: ProgressiveNetwork,
    task: str,
    sources: list[str],
    corpus: Corpus,
    recipe: Recipe,
    checkpoint: Path | None = None,
    report: Callable[[str], None] = print,
) -> tuple[Column, list[dict]]:
    """Add a column to the network and train it. Nothing else of the network changes.

    Returns:
        The column, in evaluation mode, and the budgets that `fit` trained it under.

    Raises:
        ValueError: the task has a column already, or a source is unknown.
    """
    torch.manual_seed(recipe.seed)
    column = network.add_column(task, len(corpus.classes[task]), sources)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stub
    network.train()
    augment = Augmentation()

    def loss_of(indices, done: float) -> torch.Tensor:
        crops = augment(corpus.crops(indices)).to(memory_format=torch.channels_last)
        with best_autocast():
            encoded = torch.cat([network.encoder(chunk) for chunk in crops.split(CHUNK)])
            logits = network.run_columns(encoded, [task])[task]
        return soft_cross_entropy(logits.float(), corpus.targets[task][indices]).mean()

    budgets = fit(column, loss_of, len(corpus), recipe, checkpoint, report)
    network.requires_grad_(False).eval()
    return column, budgets
