"""Multi-task pre-training of the encoder: all labelled sets together, a sample bringing the loss of what it labels."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from ..networks.column import Column
from ..networks.encoder import Encoder
from ..networks.normalization import fold_normalization, normalised
from ..networks.presets import Preset
from .chunks import encode
from .corpus import EMBEDDING, Corpus
from .device import best_autocast, best_device
from .distillation import distillation_loss
from .loop import History, fit
from .recipe import Recipe
from .views import Views

GPU_MULTIPLE = 16


def pretrain_multitask(
    preset: Preset,
    corpus: Corpus,
    recipe: Recipe,
    checkpoint: Path | None = None,
    report: Callable[[str], None] = print,
    start: dict[str, dict[str, torch.Tensor]] | None = None,
    log: Callable[[int, dict[str, float]], None] | None = None,
) -> tuple[Encoder, dict[str, Column], History]:
    """Train an encoder on all tasks of the corpus at once, and on the teacher's descriptors where it has them.

    Args:
        start: weights to begin with, else random ones: "encoder", of the same preset, and of any tasks their heads,
            which are taken where they fit.

    Returns:
        The encoder and a column without sources of each task, in evaluation mode, and how `fit` trained them.
    """
    torch.manual_seed(recipe.seed)
    built = preset if start else normalised(preset, recipe.normalize)
    encoder = Encoder(built)
    heads = {task: Column(built, targets.shape[1]) for task, targets in corpus.targets.items()}
    if EMBEDDING in heads:
        heads[EMBEDDING].dropout.p = 0.0  # what is dropped before a classifier is noise to a descriptor
    for name, weights in (start or {}).items():
        part = {"encoder": encoder, **heads}.get(name)
        if part is not None and (name == "encoder" or _fits(part, weights)):
            part.load_state_dict(weights)
    module = nn.ModuleDict({"encoder": encoder, "heads": nn.ModuleDict(heads)})
    device = best_device()
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stub
    module.train()
    views = Views(recipe.augment, preset.shrink)

    def loss_of(indices, done: float) -> torch.Tensor:
        crops = views(corpus.crops(indices)).to(memory_format=torch.channels_last)
        with best_autocast(device):
            encoded = encode(encoder, crops)
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
    module.cpu().eval()
    if built != preset:
        fold_normalization(module)
    return encoder, heads, history


def _fits(part: nn.Module, weights: dict[str, torch.Tensor]) -> bool:
    own = part.state_dict()
    return own.keys() == weights.keys() and all(own[name].shape == value.shape for name, value in weights.items())


def _head_loss(task: str, head: nn.Module, encoded: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Summed loss of the samples that have a target for the task; only those pass through the head."""
    rows = targets.abs().sum(1).nonzero()[:, 0]
    if len(rows) < 2:  # batch statistics need two
        return encoded.sum() * 0
    passing = encoded if len(rows) == len(encoded) else encoded[_padded(rows, encoded.device)]
    with best_autocast(encoded.device):
        outputs, _ = head(passing)
    loss_of = distillation_loss if task == EMBEDDING else soft_cross_entropy
    return loss_of(outputs[: len(rows)].float(), targets[rows].to(encoded.device)).sum()


def _padded(rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """On a GPU some rows once more, up to a multiple of 16: cuDNN plans every number of samples anew."""
    surplus = -len(rows) % GPU_MULTIPLE if device.type == "cuda" else 0
    return torch.cat([rows, rows[torch.arange(surplus) % len(rows)]]).to(device)


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy to a distribution, float (n,)."""
    return -(targets * F.log_softmax(logits, dim=1)).sum(1)


def tasks_of(datasets: Sequence) -> list[str]:
    """All tasks that the datasets label, in the order in which they first appear."""
    return list(dict.fromkeys(task for dataset in datasets for task in dataset.classes))
