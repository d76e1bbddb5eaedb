"""Multi-task pre-training of the encoder: all labelled sets together, a sample bringing the loss of what it labels."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from ..networks.encoder import Encoder
from ..networks.layers import ConvLayer
from ..networks.presets import Preset
from ..networks.topology import column_layers, encoder_layers
from .chunks import chunk_of
from .corpus import EMBEDDING, Corpus
from .distillation import distillation_loss
from .loop import History, best_autocast, fit
from .recipe import Recipe
from .views import Views


class ColumnHead(nn.Module):
    """A column's convolutions (Table III) under a global pooling, which takes maps of any size.

    A column that is trained on the finished encoder may begin with the convolutions that its task had here.
    """

    def __init__(self, preset: Preset, classes: int):
        super().__init__()
        plans = column_layers(preset)
        self.layers = nn.Sequential(*(ConvLayer(plan, preset) for plan in plans))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(plans[-1].outputs, classes))

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        """float (n, channels, h, w), h and w at least 4, to float (n, classes)."""
        return self.classifier(self.layers(encoded).mean((2, 3)))


class DescriptorHead(nn.Module):
    """What imitates the teacher's descriptor from the encoder's map: light, for every sample passes it."""

    def __init__(self, channels: int, outputs: int, width: int = 192):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),  # a face's quarters: where a feature lies tells people apart
            nn.Flatten(),
            nn.Linear(4 * width, outputs),
        )

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        """float (n, channels, h, w), h and w at least 8, to float (n, outputs)."""
        return self.layers(encoded)


def pretrain_multitask(
    preset: Preset,
    corpus: Corpus,
    recipe: Recipe,
    checkpoint: Path | None = None,
    report: Callable[[str], None] = print,
    start: dict[str, dict[str, torch.Tensor]] | None = None,
    log: Callable[[int, dict[str, float]], None] | None = None,
) -> tuple[Encoder, dict[str, nn.Module], History]:
    """Train an encoder on all tasks of the corpus at once, and on the teacher's descriptors where it has them.

    Args:
        start: weights to begin with, else random ones: "encoder", of the same preset, and of any tasks their heads,
            which are taken where they fit.

    Returns:
        The encoder and the heads of all tasks, in evaluation mode, and how `fit` trained them.
    """
    torch.manual_seed(recipe.seed)
    encoder = Encoder(preset)
    heads: dict[str, nn.Module] = {task: ColumnHead(preset, len(c)) for task, c in corpus.classes.items()}
    if EMBEDDING in corpus.targets:
        outputs = corpus.targets[EMBEDDING].shape[1]
        heads[EMBEDDING] = DescriptorHead(encoder_layers(preset)[-1].outputs, outputs)
    for name, weights in (start or {}).items():
        part = {"encoder": encoder, **heads}.get(name)
        if part is not None and (name == "encoder" or _fits(part, weights)):
            part.load_state_dict(weights)
    module = nn.ModuleDict({"encoder": encoder, "heads": nn.ModuleDict(heads)})
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stub
    module.train()
    views = Views(recipe.augment, preset.shrink)

    def loss_of(indices, done: float) -> torch.Tensor:
        crops = views(corpus.crops(indices)).to(memory_format=torch.channels_last)
        with best_autocast():
            encoded = torch.cat([encoder(part) for part in crops.split(chunk_of(preset))])
        losses = [_head_loss(task, head, encoded, corpus.targets[task][indices]) for task, head in heads.items()]
        return sum(losses, start=encoded.new_zeros(())) / len(indices)

    history = fit(
        module,
        loss_of,
        len(corpus),
        recipe,
        checkpoint,
        report,
        names=corpus.ids,
        identity={"preset": preset.name, "tasks": sorted(heads)},
        log=log,
    )
    module.eval()
    return encoder, heads, history


def _fits(part: nn.Module, weights: dict[str, torch.Tensor]) -> bool:
    own = part.state_dict()
    return own.keys() == weights.keys() and all(own[name].shape == value.shape for name, value in weights.items())


def _head_loss(task: str, head: nn.Module, encoded: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Summed loss of the samples that have a target for the task; only those pass through the head."""
    having = targets.abs().sum(1) > 0
    if having.sum() < 2:  # batch statistics need two
        return encoded.sum() * 0
    with best_autocast():
        outputs = head(encoded[having])
    loss_of = distillation_loss if task == EMBEDDING else soft_cross_entropy
    return loss_of(outputs.float(), targets[having]).sum()


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy to a distribution, float (n,)."""
    return -(targets * F.log_softmax(logits, dim=1)).sum(1)


def tasks_of(datasets: Sequence) -> list[str]:
    """All tasks that the datasets label, in the order in which they first appear."""
    return list(dict.fromkeys(task for dataset in datasets for task in dataset.classes))
