"""Training one column beside the frozen encoder and the frozen older columns (paper, sections II.B and III)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import nn

from ..networks.column import Column
from ..networks.normalization import fold_normalization, normalised
from ..networks.progressive import ProgressiveNetwork
from ..networks.standardization import fold_standardization, standardize_hidden
from .chunks import encode
from .corpus import EMBEDDING, Corpus
from .device import best_autocast, best_device
from .distillation import distillation_loss
from .features import LIMIT_BYTES, CachedFeatures, Frozen, passes_anew
from .frozen_convolutions import FrozenConvolutions
from .loop import History, fit
from .margin import MarginLoss
from .pretraining import soft_cross_entropy
from .recipe import Recipe
from .views import Kind, Views

VALIDATION_BATCH = 64
GROUP = 3  # convolutions of the same width, Table III
STATISTICS = 2048  # samples by which the hidden layer's inputs are standardised

Features = Callable[[np.ndarray, int], tuple[torch.Tensor, list[list[torch.Tensor]]]]


@dataclass
class Plan:
    """What column to train, and on what.

    Attributes:
        task: the new column's name.
        sources: older columns that it draws on.
        corpus: its samples. An embedding's has descriptors, and people for the margin loss.
        validation: samples whose accuracy is measured after each epoch, if any.
        retrain_encoder: train the encoder along (second row of Table IV), which needs a network without columns.
        adapters: "layers", one before each layer (Rusu et al. 2016), or "groups", one before each group of three
            convolutions, the hidden layer and the classifier; the others are closed.
        begin: weights by the names of Column's state to begin with, such as a head's of the multi-task pre-training;
            those that fit are taken, beside a skip connection only the convolutions'.
        key: what identifies the frozen weights, for the cache of their results; None keeps none.
        descriptor: sha256 of the foreign descriptor by which the corpora are described, if they are.
        skip: give the column a skip connection from the encoder's map.
        last_layers: train the hidden layer and the classifier alone, beside convolutions as they are begun with.
    """

    task: str
    sources: Sequence[str]
    corpus: Corpus
    validation: Corpus | None = None
    retrain_encoder: bool = False
    adapters: Literal["layers", "groups"] = "layers"
    begin: dict[str, torch.Tensor] = field(default_factory=dict)
    key: str | None = None
    descriptor: str = ""
    skip: bool = False
    last_layers: bool = False


def train_column(
    network: ProgressiveNetwork,
    plan: Plan,
    recipe: Recipe,
    checkpoint: Path | None = None,
    report: Callable[[str], None] = print,
    log: Callable[[int, dict[str, float]], None] | None = None,
    every_epoch: bool = False,
) -> tuple[Column, History]:
    """Add a column to the network and train it. Nothing else of the network changes, unless the plan says so.

    Args:
        checkpoint, report, log, every_epoch: as of training.loop.fit.

    Returns:
        The column, in evaluation mode, and how `fit` trained it.

    Raises:
        ValueError: the task has a column already, a source is unknown, or no weight to begin with fits.
        TrainingError, CheckpointError, OSError: see training.loop.fit.
    """
    if plan.retrain_encoder and network.columns:
        raise ValueError(f"the encoder cannot be re-trained: the columns {list(network.columns)} were trained on it")
    torch.manual_seed(recipe.seed)
    corpus, embedding = plan.corpus, plan.task == EMBEDDING
    built = network.preset if plan.begin else normalised(network.preset, recipe.normalize)
    column = network.add_column(
        plan.task, corpus.targets[plan.task].shape[1], plan.sources, corpus.foreign_dimensions, built, plan.skip
    )
    if embedding:
        column.dropout.p = 0.0  # as in the pre-training
    # Beside the skip connection the hidden layer has other things to say than the one that is begun with.
    begun = ("layers.", "adapters.") if plan.skip else ""
    begin = {name: value for name, value in plan.begin.items() if name.startswith(begun)}
    if plan.begin and not begin_with(column, begin, 0.0 if plan.last_layers else 0.1):
        raise ValueError(f"begin: none of its {len(plan.begin)} weights fits the column; is it of another preset?")
    if plan.last_layers:
        column.freeze_convolutions()
    if plan.adapters == "groups":
        _close_adapters(column)
    trained = nn.ModuleDict({"column": column})
    if plan.retrain_encoder:
        trained["encoder"] = network.encoder.requires_grad_(True)
    margin = MarginLoss(corpus.targets[EMBEDDING].shape[1], int(corpus.people.max()) + 1) if embedding else None
    if margin is not None:
        trained["margin"] = margin
    device = best_device()
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stub
    trained.to(device)
    network.train()
    first, last = _kinds(recipe)
    features = _features(network, plan, recipe, corpus, first, report)
    at_the_end = features if last == first else _features(network, plan, recipe, corpus, last, report)
    if plan.skip:
        standardize_hidden(column, _hidden_inputs(column, features, len(corpus), plan.last_layers))
    weights = _class_weights(corpus.targets[plan.task], 0.0 if embedding else recipe.class_weight).to(device)

    def run(of: Corpus, seen: Features, indices: np.ndarray, epoch: int) -> torch.Tensor:
        encoded, sources = seen(indices, epoch)
        with best_autocast(device):
            if plan.last_layers:
                return column.last_layers(encoded, sources[0][0], sources[1:], of.described(indices))
            return column(encoded, sources, of.described(indices))[0]

    def loss_of(indices: np.ndarray, done: float) -> torch.Tensor:
        seen = at_the_end if done >= 1 - recipe.plain_end else features
        outputs = run(corpus, seen, indices, int(done * max(1, round(recipe.epochs)))).float()
        targets = corpus.targets[plan.task][indices].to(device)
        if margin is not None:
            return distillation_loss(outputs, targets).mean() + margin(outputs, corpus.people[indices])
        weight = targets @ weights
        return (soft_cross_entropy(outputs, targets) * weight).mean()

    validate = None
    if plan.validation is not None and not embedding:
        shown = _features(network, plan, recipe, plan.validation, "plain", report)
        truth = plan.validation.targets[plan.task].argmax(1).to(device)
        validation = plan.validation

        def accuracy() -> dict[str, float]:
            right = torch.zeros((), dtype=torch.int64, device=device)
            for start in range(0, len(validation), VALIDATION_BATCH):
                indices = np.arange(start, min(start + VALIDATION_BATCH, len(validation)))
                right += (run(validation, shown, indices, 0).argmax(1) == truth[indices]).sum()
            return {"accuracy": right.item() / len(validation)}

        validate = accuracy

    identity = {
        "preset": network.preset.name,
        "task": plan.task,
        "sources": list(plan.sources),
        "frozen": plan.key or "",
        "begin": sorted(plan.begin),
        "retrain_encoder": plan.retrain_encoder,
        "descriptor": plan.descriptor,
    }
    if plan.adapters != "layers":  # else checkpoints from before there were others go on
        identity["adapters"] = plan.adapters
    if plan.skip:
        identity["skip"] = True
    if plan.last_layers:
        identity["last_layers"] = True
    history = fit(
        trained,
        loss_of,
        len(corpus),
        recipe,
        checkpoint,
        report,
        names=corpus.ids,
        identity=identity,
        validate=validate,
        log=log,
        every_epoch=every_epoch,
    )
    network.cpu().requires_grad_(False).eval()
    fold_standardization(column)
    if built != network.preset:
        fold_normalization(column)
    return column, history


@torch.no_grad()
def _hidden_inputs(column: Column, features: Features, samples: int, last_layers: bool) -> torch.Tensor:
    """What the column's hidden layer reads of up to STATISTICS samples."""
    rows, parts = np.linspace(0, samples - 1, min(samples, STATISTICS)).astype(int), []
    for start in range(0, len(rows), VALIDATION_BATCH):
        encoded, sources = features(rows[start : start + VALIDATION_BATCH], 0)
        with best_autocast(encoded.device):
            if last_layers:
                (last, _), *sources = sources
            else:
                last = column.activations(encoded, sources)[-2]
            parts.append(column.hidden_inputs(encoded, last, sources).float())
    return torch.cat(parts)


def begin_with(column: Column, weights: dict[str, torch.Tensor], beside: float = 0.1) -> int:
    """Take weights that the column has by name and, but for inputs that it has beside, by shape.

    A column with sources or a skip connection has more inputs than a head without; its own ones come first, and the
    others begin small, so that what was learned is not drowned at first.

    Args:
        beside: by which the weights of the others are multiplied; 0 for layers that shall say the same as they did.

    Returns:
        How many were taken.
    """
    own, taken = column.state_dict(), 0
    with torch.no_grad():
        for name, value in weights.items():
            target = own.get(name)
            if target is None or target.ndim != value.ndim or target.shape[:1] != value.shape[:1]:
                continue
            if target.shape == value.shape:
                target.copy_(value)
            elif target.ndim in (2, 4) and target.shape[1] > value.shape[1]:
                target[:, value.shape[1] :] *= beside
                target[:, : value.shape[1]] = value
            else:
                continue
            taken += 1
    return taken


def _close_adapters(column: Column) -> None:
    """Have the adapters within a group give 0, whatever the sources say, and never learn."""
    last = len(column.adapters)
    for layer, adapter in enumerate(column.adapters, start=1):  # the layer that reads it
        if layer % GROUP and layer != last:
            for parameter in adapter.parameters():
                nn.init.zeros_(parameter.requires_grad_(False))


def _kinds(recipe: Recipe) -> tuple[Kind, Kind]:
    """What the column sees, and what in the share `plain_end` of the steps, the last."""
    if not recipe.augment:
        return "plain", "plain"
    return "mirrored" if recipe.plain_end == 1 else "augmented", "mirrored" if recipe.plain_end else "augmented"


def _features(
    network: ProgressiveNetwork,
    plan: Plan,
    recipe: Recipe,
    corpus: Corpus,
    kind: Kind,
    report: Callable[[str], None],
) -> Features:
    """What the column reads: from the cache where the views are few enough to keep, the frozen part is frozen, and
    reading is the faster way."""
    frozen, key = Frozen(network, plan.sources, corpus, Views(kind, network.preset.shrink)), plan.key
    if plan.last_layers:
        frozen = FrozenConvolutions(frozen, cast(Column, network.columns[plan.task]))
        key = None if key is None else f"{key}-{frozen.key}"
    if plan.retrain_encoder:
        return lambda indices, epoch: (encode(network.encoder, frozen.views(corpus.crops(indices))), [])
    views = 1 if kind == "plain" else recipe.views
    if not views or key is None or (kind == "plain" and not plan.last_layers and passes_anew()):
        return frozen
    needed = CachedFeatures.bytes_of(frozen, views)
    if needed > LIMIT_BYTES:
        report(f"features are not kept: they would take {needed / 2**30:.0f} GB of at most {LIMIT_BYTES / 2**30:.0f}")
        return frozen
    return CachedFeatures(frozen, views, key, report)


def _class_weights(targets: torch.Tensor, power: float) -> torch.Tensor:
    """float (classes,): how much a sample of each class weighs, 1 on average over the samples."""
    counts = targets.sum(0).clamp(min=1e-3)
    weights = (counts.mean() / counts) ** power
    return weights * counts.sum() / (weights * counts).sum()
