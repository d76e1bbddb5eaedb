"""Figure 4: where the columns look, by their last convolutions, averaged over the pictures that they are tested on."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...bundle.bundle import Bundle
from ...bundle.files import write_atomically
from ...bundle.manifest import ColumnRecord
from ...datasets.crops import some_crops
from ...explain.figure import Panel, draw_figure
from ...explain.maps import OWN, Explainer
from ...vision.alignment import normalize
from .cells import Cell, Run
from .data import TaskData
from .run import column_record, network_for
from .setting import Setting

PICTURES = 200


def write_figure(setting: Setting, data: Mapping[str, TaskData], seed: int) -> Path:
    """Draw the plain columns of one seed into OUT/figure4.png.

    A panel a task: the mean of up to 200 of its test pictures, and of what each of them was judged by, for the class
    that the column finds most probable.

    Raises:
        OSError: a column is not trained yet.
        ModuleNotFoundError: captum is not installed.
    """
    tasks = tuple(data)
    # As a column would that draws on all of them.
    network, _ = network_for(setting, Run(Cell(tasks[0], tasks), seed))
    explainer = Explainer(_with_columns(setting, data, seed), network)
    panels = []
    for task in tasks:
        crops = some_crops(data[task].test, PICTURES)
        inputs = normalize(crops.astype(np.float32))[:, None]
        maps = explainer.explain(inputs, task, explainer.probabilities(inputs, task).argmax(1).tolist(), OWN)
        panels.append(Panel(f"{task}\n{len(crops)} pictures", crops.mean(0).round().astype(np.uint8), maps.average()))
    file = setting.out / "figure4.png"
    write_atomically(file, draw_figure(panels))
    return file


def _with_columns(setting: Setting, data: Mapping[str, TaskData], seed: int) -> Bundle:
    """The encoder's bundle with the columns in its manifest; their weights are the network's."""
    bundle = setting.bundle()
    columns = [
        ColumnRecord(
            task=task,
            labels=list(its.test.classes[task]),
            file=column_record(setting, Run(Cell(task), seed)),
            provenance=bundle.manifest.encoder.provenance,
        )
        for task, its in data.items()
    ]
    manifest = bundle.manifest.model_copy(update={"columns": columns})
    return replace(bundle, manifest=manifest)
