"""Multi-task pre-training of the encoder: all labelled sets together, a sample bringing the loss of what it labels."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from ..datasets.augmentation import Augmentation
from ..networks.encoder import Encoder
from ..networks.presets import Preset
from ..networks.topology import encoder_layers
from .corpus import Corpus
from .loop import Recipe, best_autocast, fit

# Crops that pass the encoder together: so few that their maps stay in a CPU's cache, which is nearly twice as fast.
CHUNK = 8


class Head(nn.Module):
    """A small classifier over the encoder's map, thrown away after pre-training."""

    def __init__(self, channels: int, classes: int, width: int = 128):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(width, classes),
        )

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        """float (n, channels, 16, 16) to logits, float (n, classes)."""
        return self.layers(encoded)


def pretrain_multitask(
    preset: Preset,
    corpus: Corpus,
    recipe: Recipe,
    checkpoint: Path | None = None,
    report: Callable[[str], None] = print,
    start: dict[str, torch.Tensor] | None = None,
) -> tuple[Encoder, list[dict]]:
    """Train an encoder on all tasks of the corpus at once.

    Args:
        start: the weights of an encoder of the same preset to begin with, else random ones.

    Returns:
        The encoder, on the CPU and in evaluation mode, and the budgets that `fit` trained it under.

    Raises:
        ValueError: the recipe's half_size is out of its range.
    """
    if not 0 <= recipe.half_size < 1:
        raise ValueError(f"half_size: a share of the budget, 0 to below 1, is expected, got {recipe.half_size}")
    torch.manual_seed(recipe.seed)
    encoder = Encoder(preset)
    if start is not None:
        encoder.load_state_dict(start)
    channels = encoder_layers(preset)[-1].outputs
    heads = {task: Head(channels, len(labels)) for task, labels in corpus.classes.items()}
    module = nn.ModuleDict({"encoder": encoder, "heads": nn.ModuleDict(heads)})
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stub
    module.train()
    augment = Augmentation()

    def loss_of(indices, done: float) -> torch.Tensor:
        crops, chunk = augment(corpus.crops(indices)), CHUNK
        if done < recipe.half_size:
            crops, chunk = F.avg_pool2d(crops, 2), 4 * CHUNK
        crops = crops.to(memory_format=torch.channels_last)
        targets = {task: corpus.targets[task][indices] for task in heads}
        with best_autocast():
            encoded = torch.cat([encoder(part) for part in crops.split(chunk)])
        losses = [_head_loss(head, encoded, targets[task]) for task, head in heads.items()]
        return sum(losses, start=encoded.new_zeros(())) / len(indices)

    budgets = fit(module, loss_of, len(corpus), recipe, checkpoint, report)
    return encoder.eval(), budgets


def _head_loss(head: Head, encoded: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Summed cross-entropy of the samples that label the task; only those pass through the head."""
    labelled = targets.sum(1) > 0
    if labelled.sum() < 2:  # batch statistics need two
        return encoded.sum() * 0
    with best_autocast():
        logits = head(encoded[labelled])
    return soft_cross_entropy(logits.float(), targets[labelled]).sum()


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy to a distribution, float (n,)."""
    return -(targets * F.log_softmax(logits, dim=1)).sum(1)


def tasks_of(datasets: Sequence) -> list[str]:
    """All tasks that the datasets label, in the order in which they first appear."""
    return list(dict.fromkeys(task for dataset in datasets for task in dataset.classes))
