"""What a frozen encoder and frozen source columns say of each sample, computed once and kept on disk in fp16.

A column that is trained on them costs what the column itself costs: on a CPU the encoder is about a third of a training
step, and each source column nearly as much again.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from ..file_lock import alone, claimed
from ..networks.progressive import ProgressiveNetwork
from ..paths import cache_dir
from .chunks import encode
from .corpus import Corpus
from .device import best_autocast, best_device
from .views import Views

LIMIT_BYTES = 24 * 2**30  # all caches together
BATCH = 32
SAVE_EVERY = 25  # batches, after which a filling that is killed goes on: less work than an epoch on them


def passes_anew() -> bool:
    """Whether the frozen part runs on plain pictures at each step, as on a GPU: it takes less time there than reading
    what it gave, up to 2 MB a picture and source."""
    return best_device().type != "cpu"


class Frozen:
    """The frozen part of a column's training, run anew on each batch.

    Args:
        network: its encoder and source columns are in evaluation mode.
        sources: the tasks that the new column draws on.
    """

    def __init__(self, network: ProgressiveNetwork, sources: Sequence[str], corpus: Corpus, views: Views):
        self.network, self.sources, self.corpus, self.views = network, list(sources), corpus, views

    def __call__(self, indices: np.ndarray, epoch: int) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
        """The encoder's map, float (n, c, s, s), and each source's activations, of a view of the samples."""
        return self.of_crops(self.views(self.corpus.crops(indices)))

    @torch.no_grad()
    def of_crops(self, crops: torch.Tensor) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
        """The same of crops, as networks.encoder.Encoder takes them."""
        crops = crops.to(memory_format=torch.channels_last)
        with best_autocast(crops.device):
            encoded = encode(self.network.encoder, crops)
            activations = self.network.activations(encoded, self.sources)
        return encoded, [activations[source] for source in self.sources]

    def shapes(self) -> list[torch.Size]:
        """What it gives of one sample: the map's shape, then the shapes of each source's activations."""
        encoded, sources = self(np.arange(2), 0)
        return [encoded[0].shape, *(activation[0].shape for source in sources for activation in source)]


class CachedFeatures:
    """The same, read from disk. Of each sample there are as many views as the recipe says; epochs take them by turns.

    Args:
        frozen: what to keep the results of.
        views: how many views of each sample.
        key: what determines the results beside the samples: the weights' sha256.
        report: called with a line of progress while the cache is filled; filling that is killed goes on where it was.
    """

    def __init__(self, frozen: Frozen, views: int, key: str, report: Callable[[str], None] = print):
        self._frozen, self._count, self._views = frozen, len(frozen.corpus), views
        self._shapes = frozen.shapes()
        self._sizes = [shape.numel() for shape in self._shapes]
        described = json.dumps([key, frozen.corpus.key, frozen.sources, views, frozen.views.kind, self._sizes])
        self.folder = cache_dir() / "features" / hashlib.sha256(described.encode()).hexdigest()[:20]
        # Several processes may share a training, or a search.
        with alone(_lock_of(self.folder), "keeping features"):
            self._fill(report)

    @property
    def bytes(self) -> int:
        """What the cache takes on disk."""
        return self._count * self._views * sum(self._sizes) * 2

    @staticmethod
    def bytes_of(frozen: Frozen, views: int) -> int:
        """What it would take."""
        return len(frozen.corpus) * views * sum(shape.numel() for shape in frozen.shapes()) * 2

    def __call__(self, indices: np.ndarray, epoch: int) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
        rows = torch.from_numpy(self._maps[indices + self._count * (epoch % self._views)]).to(best_device()).float()
        parts = [
            part.reshape(len(indices), *shape).contiguous(memory_format=torch.channels_last)
            for part, shape in zip(rows.split(self._sizes, dim=1), self._shapes, strict=True)
        ]
        sources = len(self._frozen.sources)
        depth = (len(parts) - 1) // max(1, sources)
        return parts[0], [parts[1 + depth * i : 1 + depth * (i + 1)] for i in range(sources)]

    def _fill(self, report: Callable[[str], None]) -> None:
        rows = self._count * self._views
        file, state = self.folder / "features.npy", self.folder / "filled"
        if not state.exists():
            with alone(cache_dir() / "features" / ".lock", "making room for features"):
                _make_room(self.bytes)
                self.folder.mkdir(parents=True, exist_ok=True)
                np.lib.format.open_memmap(file, "w+", np.float16, (rows, sum(self._sizes))).flush()
                with file.open("r+b") as whole:  # now, for a mapped file that a full disk cannot take ends the process
                    os.posix_fallocate(whole.fileno(), 0, file.stat().st_size)
                state.write_text("0")
        state.touch()  # used just now: the last to be removed when room is needed
        filled = int(state.read_text() or 0)  # empty where it was killed at this very file
        maps = np.load(file, mmap_mode="r+")
        for start in range(filled, rows, BATCH):
            places = np.arange(start, min(start + BATCH, rows))
            # Seeded by the place, so that a cache filled in two goes is the same.
            torch.manual_seed(start)
            encoded, sources = self._frozen(places % self._count, 0)
            parts = [encoded, *(activation for source in sources for activation in source)]
            maps[places] = torch.cat([part.flatten(1) for part in parts], dim=1).float().cpu().numpy()
            if start // BATCH % SAVE_EVERY == SAVE_EVERY - 1:
                maps.flush()
                state.write_text(str(start + BATCH))
                report(f"keeping features: {start + BATCH} of {rows}, {self.bytes / 2**30:.1f} GB in all")
        maps.flush()
        state.write_text(str(rows))
        self._maps = np.load(file, mmap_mode="r")


def _lock_of(folder: Path) -> Path:
    """Held while a cache is filled."""
    return folder.parent / f".{folder.name}.lock"


def _make_room(needed: int) -> None:
    """Remove the caches that were used longest ago, but for those being filled, until the new one fits the limit.

    Raises:
        OSError: the disk has no room for it.
    """
    root = cache_dir() / "features"
    root.mkdir(parents=True, exist_ok=True)
    caches = sorted(root.glob("*/filled"), key=lambda state: state.stat().st_mtime)
    sizes = {state: sum(file.stat().st_size for file in state.parent.iterdir()) for state in caches}
    total = sum(sizes.values())
    for state in caches:
        if total + needed <= LIMIT_BYTES:
            break
        with claimed(_lock_of(state.parent)) as mine:
            if mine:
                shutil.rmtree(state.parent)
                total -= sizes[state]
    free = shutil.disk_usage(root).free
    if free < needed * 1.05:
        raise OSError(
            f"{root} has {free / 2**30:.1f} GB left where the features take {needed / 2**30:.1f} GB: set FACE_MTL_HOME "
            "to a folder on a larger disk; face-mtl train with random views can do without them, by --views 0"
        )
