"""What the frozen network and a foreign descriptor say of a robot's samples: each is run once, and its answer kept."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..bundle.bundle import Bundle
from ..bundle.manifest import DescriptorRecord
from ..bundle.network import build_network
from ..runtime.descriptor import load_descriptor
from .descriptors import file_key
from .device import best_device
from .fewshot import Hidden
from .views import Views

BATCH = 16
Report = Callable[[int, int], None]  # crops done, and of how many


def keep_features(
    bundle: Bundle,
    tasks: Sequence[str],
    crops: np.ndarray,
    folder: Path,
    views: int,
    deadline: float,
    seed: int,
    report: Report,
) -> tuple[Hidden, np.ndarray | None]:
    """Run the network on all crops, first as they are and then on random views of them.

    Args:
        tasks: the columns whose hidden layers are wanted.
        crops: uint8 (n, 160, 160), with the margin that random views need.
        folder: keeps each pass when it is done; those that are there are taken from it.
        views: passes, the first of which is of the crops as they are.
        deadline: of time.monotonic, from which on no further pass begins.
        seed: of the random views.

    Returns:
        The hidden layers, and the embeddings of the crops as they are, float32 (n, d) of length 1; None where the
        bundle has no embedding column, or it draws on a foreign descriptor.
    """
    passes: list[dict[str, np.ndarray]] = []
    network = None
    for view in range(views):
        file = folder / f"view-{view}.npz"
        if not file.exists():
            if passes and time.monotonic() > deadline:
                break
            network = network or _Frozen(bundle, tasks)
            torch.manual_seed(seed * 1_000 + view)
            offset = partial(_further, report, view * len(crops), views * len(crops))
            found = network.run(crops, augment=view > 0, report=offset)
            _save(file, found)
        passes.append(dict(np.load(file)))
    embeddings = passes[0].get(_Frozen.EMBEDDINGS)
    return Hidden({task: np.stack([found[task] for found in passes]) for task in tasks}), embeddings


def describe_samples(
    name: str, crops: np.ndarray, folder: Path, threads: int, report: Report
) -> tuple[DescriptorRecord, np.ndarray]:
    """Describe the crops as they are by an installed foreign descriptor.

    Args:
        crops: uint8 (n, 160, 160).
        folder: keeps the vectors; those that are there are taken from it.
        threads: of the CPU.

    Returns:
        What a manifest holds of the descriptor, and float32 (n, d) of length 1.

    Raises:
        DescriptorError: it is not installed, or cannot be run.
    """
    descriptor = load_descriptor(name, threads)
    record = descriptor.spec.record()
    file = folder / f"described-{file_key(record)}.npz"
    if not file.exists():
        parts = []
        for start in range(0, len(crops), BATCH):
            parts.append(descriptor.describe_crops(crops[start : start + BATCH]))
            report(min(start + BATCH, len(crops)), len(crops))
        _save(file, {"described": np.concatenate(parts)})
    return record, np.load(file)["described"]


def _further(report: Report, before: int, of: int, done: int) -> None:
    report(before + done, of)


class _Frozen:
    """A bundle's network, and what is wanted of it."""

    EMBEDDINGS = "/embeddings"  # among the results, beside the tasks, whose names have no slash

    def __init__(self, bundle: Bundle, tasks: Sequence[str]):
        self._device = best_device()
        self._network = build_network(bundle).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._tasks = list(tasks)
        embedding = bundle.manifest.embedding
        self._embedding = embedding.task if embedding and not embedding.descriptor else None
        self._views = {False: Views("plain", bundle.preset.shrink), True: Views("augmented", bundle.preset.shrink)}

    def run(self, crops: np.ndarray, augment: bool, report: Callable[[int], None]) -> dict[str, np.ndarray]:
        """float32 (n, units) a task, and the embeddings where the crops are not augmented."""
        parts = []
        for start in range(0, len(crops), BATCH):
            batch = torch.from_numpy(crops[start : start + BATCH]).to(self._device)
            parts.append(self._run(self._views[augment](batch), with_embeddings=not augment))
            report(min(start + BATCH, len(crops)))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @torch.no_grad()
    def _run(self, views: torch.Tensor, with_embeddings: bool) -> dict[str, np.ndarray]:
        encoded = self._network.encoder(views.contiguous(memory_format=torch.channels_last))
        activations = self._network.activations(encoded, self._tasks)
        found = {task: activations[task][-1].flatten(1).cpu().numpy() for task in self._tasks}
        if with_embeddings and self._embedding:
            embeddings = self._network.run_columns(encoded, [self._embedding])[self._embedding]
            found[self.EMBEDDINGS] = torch.nn.functional.normalize(embeddings, dim=1).cpu().numpy()
        return found


def _save(file: Path, arrays: dict[str, np.ndarray]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    with partial.open("wb") as out:
        np.savez(out, **arrays)  # type: ignore[arg-type]
    partial.replace(file)
