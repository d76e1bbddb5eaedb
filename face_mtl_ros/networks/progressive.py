"""The progressive network: one encoder, and columns of which each may draw on earlier ones (Fig. 3)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import nn

from .column import Column
from .encoder import Encoder
from .presets import Preset

TASK_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")  # a task names a file, an ONNX output and a torch module


class ProgressiveNetwork(nn.Module):
    """Encoder and columns, in the order in which they were added.

    Everything but the column added last is frozen, also its batch statistics, so that adding and training a column
    leaves the outputs of the older ones bit-identical.
    """

    def __init__(self, preset: Preset):
        super().__init__()
        self.preset = preset
        self.encoder = Encoder(preset)
        self.columns = nn.ModuleDict()
        self.sources: dict[str, tuple[str, ...]] = {}

    def add_column(
        self,
        task: str,
        outputs: int,
        sources: Sequence[str] = (),
        descriptor: int = 0,
        preset: Preset | None = None,
        skip: bool = False,
    ) -> Column:
        """Freeze what there is and add a column that may be trained.

        Args:
            task: a new name of lower-case letters, digits and underscores.
            outputs: number of labels, or an embedding's dimensions, at least 2.
            sources: earlier columns that it draws on.
            descriptor: dimensions of the foreign face descriptor that it draws on; 0 for none.
            preset: the network's with another normalisation, for the time of training.
            skip: give it a skip connection from the encoder's map.

        Raises:
            ValueError: the name is malformed or taken, a source is unknown or named twice, too few outputs.
        """
        if not TASK_NAME.fullmatch(task):
            raise ValueError(f"task '{task}' must match {TASK_NAME.pattern}")
        if task in self.columns:
            raise ValueError(f"task '{task}' has a column already")
        if outputs < 2:
            raise ValueError(f"task '{task}' needs at least 2 classes, got {outputs}")
        for source in sources:
            if source not in self.columns:
                raise ValueError(f"source '{source}' of task '{task}' is not one of the columns {list(self.columns)}")
        if len(set(sources)) != len(sources):
            raise ValueError(f"task '{task}' names a source twice: {list(sources)}")
        self.requires_grad_(False)
        column = Column(preset or self.preset, outputs, len(sources), descriptor, skip)
        self.columns[task] = column
        self.sources[task] = tuple(sources)
        return column

    def forward(
        self,
        crops: torch.Tensor,
        tasks: Sequence[str] | None = None,
        descriptors: Mapping[str, torch.Tensor] | None = None,
    ) -> dict[str, torch.Tensor]:
        """The logits, float (n, classes), of each of the tasks (default all).

        Args:
            crops: float (n, 1, 128, 128).
            descriptors: task to float (n, d) of length 1, for each of the tasks whose column has a foreign descriptor.

        Raises:
            ValueError: a column's descriptor is missing or of another size.
        """
        return self.run_columns(self.encoder(crops), tasks, descriptors)

    def run_columns(
        self,
        encoded: torch.Tensor,
        tasks: Sequence[str] | None = None,
        descriptors: Mapping[str, torch.Tensor] | None = None,
    ) -> dict[str, torch.Tensor]:
        """As forward, from the encoder's map, float (n, c, s, s); runs only the columns that the tasks need."""
        wanted = list(self.columns) if tasks is None else list(tasks)
        needed, described = self.with_sources(wanted), descriptors or {}
        logits: dict[str, torch.Tensor] = {}
        activations: dict[str, list[torch.Tensor]] = {}
        for task, column in self._columns():
            sources = [activations[source] for source in self.sources[task]] if task in needed else []
            if task in wanted:
                logits[task], activations[task] = column(encoded, sources, described.get(task))
            elif task in needed:
                activations[task] = column.activations(encoded, sources)
        return {task: logits[task] for task in wanted}

    def activations(self, encoded: torch.Tensor, tasks: Sequence[str]) -> dict[str, list[torch.Tensor]]:
        """The activations of each of these columns that columns drawing on them see, from the encoder's map."""
        needed = self.with_sources(tasks)
        activations: dict[str, list[torch.Tensor]] = {}
        for task, column in self._columns():
            if task in needed:
                activations[task] = column.activations(encoded, [activations[source] for source in self.sources[task]])
        return {task: activations[task] for task in tasks}

    def _columns(self) -> Iterable[tuple[str, Column]]:
        return cast(Iterable[tuple[str, Column]], self.columns.items())

    def with_sources(self, tasks: Sequence[str]) -> set[str]:
        """The tasks and all the columns that they draw on, directly or by way of others."""
        needed: set[str] = set()
        queue = list(tasks)
        while queue:
            task = queue.pop()
            if task not in needed:
                needed.add(task)
                queue.extend(self.sources[task])
        return needed

    def train(self, mode: bool = True) -> "ProgressiveNetwork":
        """Training mode for what may be trained; what is frozen keeps its batch statistics and drops nothing."""
        super().train(mode)
        for module in (self.encoder, *self.columns.values()):
            if not any(parameter.requires_grad for parameter in module.parameters()):
                module.eval()
        return self
