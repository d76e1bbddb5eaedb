"""Multi-task pre-training of the encoder: all labelled sets together, a sample bringing the loss of what it labels."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..networks.column import Column
from ..networks.encoder import Encoder
from ..networks.normalization import fold_normalization, normalised
from ..networks.presets import Preset
from . import distributed
from .chunks import encode
from .corpus import EMBEDDING, Corpus
from .device import best_autocast, best_device
from .distillation import distillation_loss
from .graphed import SideStream, graphed
from .loop import History, fit
from .order import layout, mixed_indices
from .recipe import Recipe
from .views import Views


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
    views = Views("augmented" if recipe.augment else "plain", preset.shrink)
    targets = {task: value.to(device) for task, value in corpus.targets.items()}
    places = _places(corpus, recipe.batch, device)
    side = SideStream(device)  # which waits for all of the above

    def read(indices: np.ndarray) -> Sequence[torch.Tensor]:
        with side():
            crops = views(corpus.crops(indices)).to(memory_format=torch.channels_last)
            chosen = torch.from_numpy(indices).to(device)
            made = [crops, *(targets[task][chosen[places[task]]] for task in heads)]
        return side.join(made)

    multitask = MultitaskLoss(encoder, heads, places)
    first = distributed.share(mixed_indices(0, corpus.parts, recipe.batch, recipe.seed))
    loss = graphed(multitask, read(first))

    def loss_of(indices: np.ndarray, _done: float) -> torch.Tensor:
        return loss(*read(indices))

    history = fit(
        module,
        loss_of,
        corpus.parts,
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


class MultitaskLoss(nn.Module):
    """The mean loss of a batch: each sample's losses of the tasks that it labels, summed.

    Args:
        heads: a column without sources a task.
        places: of each task the places of a batch whose samples may label it, int64 (m,); only those pass through the
            head. The places are the same in every batch, so that it can be a CUDA graph.
    """

    def __init__(self, encoder: Encoder, heads: Mapping[str, Column], places: Mapping[str, torch.Tensor]):
        super().__init__()
        self.encoder, self.heads, self.places = encoder, nn.ModuleDict(heads), places

    def forward(self, crops: torch.Tensor, *targets: torch.Tensor) -> torch.Tensor:
        """float (n, 1, h, w) crops and of each head float (m, classes) targets, zeros where a sample has none."""
        losses = []
        with best_autocast(crops.device):
            encoded = encode(self.encoder, crops)
            outputs = [head(encoded[self.places[task]])[0].float() for task, head in self.heads.items()]
        for task, output, target in zip(self.heads, outputs, targets, strict=True):
            loss_of = distillation_loss if task == EMBEDDING else soft_cross_entropy
            losses.append(loss_of(output, target).sum())
        return torch.stack(losses).sum() / len(crops)


def _places(corpus: Corpus, batch: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Of each task the places of this process's share of a batch that hold samples of datasets which label it.

    Raises:
        ValueError: the share of a process has none, which would leave the batch statistics of its head as they began.
    """
    owners = layout(tuple(corpus.parts), batch)
    places = {}
    for task, targets in corpus.targets.items():
        labelled = [part.any() for part in (targets != 0).split(corpus.parts)]
        labels = np.array(labelled)[owners]
        if labels.any() and not all(share.any() for share in np.array_split(labels, distributed.world())):
            raise ValueError(f"batch: of {batch} samples each process needs one of '{task}': take larger batches")
        places[task] = torch.from_numpy(np.flatnonzero(distributed.share(labels))).to(device)
    return places


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy to a distribution, float (n,)."""
    return -(targets * F.log_softmax(logits, dim=1)).sum(1)


def tasks_of(datasets: Sequence) -> list[str]:
    """All tasks that the datasets label, in the order in which they first appear."""
    return list(dict.fromkeys(task for dataset in datasets for task in dataset.classes))
