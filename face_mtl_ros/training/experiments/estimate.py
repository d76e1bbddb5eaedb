"""How long an experiment will take, by steps of training that are timed here and now."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from ...networks.presets import Preset
from ...networks.progressive import ProgressiveNetwork
from ..chunks import encode
from ..device import best_autocast, best_device
from ..features import passes_anew
from ..pretraining import soft_cross_entropy
from ..recipe import Recipe
from .cells import Cell, Run
from .setting import Setting

CLASSES = 8
REPEATS = 2


def seconds_of(cell: Cell, sizes: Mapping[str, int], preset: Preset, recipe: Recipe, costs: Mapping) -> float:
    """How long a run of the cell takes in one process.

    The frozen part runs once over training and validation pictures, for its results are kept, or where they are not
    (random views, a GPU) at every step; the column at every step, and over the validation pictures after each epoch.

    Args:
        sizes: numbers of pictures, "train", "val", "test".
        costs: as of `measure`.
    """
    frozen, step, look = costs[len(cell.sources), cell.retrain_encoder]
    epochs = recipe.epochs
    kept = not recipe.augment and not cell.retrain_encoder and not passes_anew()
    views = recipe.views if recipe.augment else 0
    passes = 1 if kept else views or epochs
    training = sizes["train"] * (epochs * step + passes * frozen)
    looking = sizes["val"] * (epochs * look + (1 if kept else epochs) * frozen)
    return training + looking + sizes["test"] * (look + frozen)


def measure(
    cells: Sequence[Cell], preset: Preset, recipe: Recipe, threads: int
) -> dict[tuple[int, bool], tuple[float, float, float]]:
    """Time a few batches of noise.

    Returns:
        (number of sources, whether the encoder is re-trained) to seconds a picture of the frozen part, of a training
        step, and of the column looking at it.
    """
    torch.set_num_threads(threads)
    kinds = dict.fromkeys((len(cell.sources), cell.retrain_encoder) for cell in cells)
    return {kind: _measure(*kind, preset, recipe) for kind in kinds}


def total_seconds(runs: Sequence[Run], setting: Setting) -> dict[Run, float]:
    """Seconds of each run."""
    preset = setting.preset()
    costs = measure([run.cell for run in runs], preset, setting.recipe, setting.threads)
    sizes = {run.cell: setting.read(run.cell.task, run.cell.per_class).sizes for run in runs}
    return {run: seconds_of(run.cell, sizes[run.cell], preset, setting.recipe_of(run), costs) for run in runs}


def _measure(sources: int, retrain: bool, preset: Preset, recipe: Recipe) -> tuple[float, float, float]:
    device = best_device()
    network = ProgressiveNetwork(preset)
    names = [f"source{i}" for i in range(sources)]
    for name in names:
        network.add_column(name, CLASSES)
    network.requires_grad_(False)
    column = network.add_column("target", CLASSES, names)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stub
    if retrain:
        network.encoder.requires_grad_(True)
    network.train()
    crops = torch.randn(recipe.batch, 1, 128, 128, device=device).contiguous(memory_format=torch.channels_last)
    targets = torch.full((recipe.batch, CLASSES), 1 / CLASSES, device=device)
    trained = nn.ModuleList([column, network.encoder] if retrain else [column])
    optimizer = torch.optim.Adam([p for p in trained.parameters() if p.requires_grad], lr=0.0)

    def frozen() -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
        with torch.set_grad_enabled(retrain), best_autocast(device):
            encoded = encode(network.encoder, crops)
            return encoded, list(network.activations(encoded, names).values())

    def step() -> None:
        given = frozen() if retrain else kept
        with best_autocast(device):
            logits, _ = column(*given)
        optimizer.zero_grad()
        soft_cross_entropy(logits.float(), targets).mean().backward()
        optimizer.step()

    @torch.no_grad()
    def look() -> None:
        given = frozen() if retrain else kept
        with best_autocast(device):
            column(*given)

    kept = frozen()
    return _seconds(frozen) / recipe.batch * (not retrain), _seconds(step) / recipe.batch, _seconds(look) / recipe.batch


def _seconds(work) -> float:
    """The fastest of a few, after one to warm up."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return float(np.min(times[1:]))
