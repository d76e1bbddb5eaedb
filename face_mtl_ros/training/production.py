"""From datasets to a bundle: pre-train an encoder, add columns, evaluate, and record how it was done."""

import hashlib
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch

from .. import __version__
from ..bundle.bundle import MANIFEST, Bundle, load_bundle, with_column, write_manifest
from ..bundle.files import write_tensors
from ..bundle.manifest import ColumnRecord, EncoderRecord, Manifest, Preprocessing, Provenance
from ..bundle.network import build_network, to_numpy
from ..datasets.crops import MARGIN, load_crops
from ..datasets.dataset import UNLABELLED, Dataset
from ..datasets.utkface import AGE_VALUES, AGES
from ..networks.presets import get_preset
from ..paths import cache_dir
from ..runtime.predictor import Predictor
from ..runtime.torch_engine import TorchEngine
from ..vision.alignment import CROP_SIZE, TEMPLATE
from .columns import train_column
from .corpus import Corpus
from .evaluation import Evaluation, evaluate
from .loop import Recipe
from .pretraining import pretrain_multitask, tasks_of

TERMS = {
    "ferplus": "FER+ labels: MIT; FER2013 pictures: published for research",
    "lfw-gender": "LFW: published for research",
    "utkface": "UTKFace: non-commercial research",
}
BATCH = 8  # pictures at once in an evaluation: so few that their maps stay in a CPU's cache


def make_encoder(
    output: Path,
    name: str,
    preset: str,
    datasets: Sequence[Dataset],
    recipe: Recipe,
    command: str,
    report: Callable,
    start: Path | None = None,
    force: bool = False,
) -> Bundle:
    """Pre-train an encoder on all tasks that the datasets label and write it as a bundle without columns.

    Args:
        start: a bundle whose encoder is trained further, instead of random weights.
        force: replace the bundle that `output` holds; its columns go with the encoder that they were trained beside.

    Raises:
        ValueError: there is a bundle already, or the one to start from is of another preset.
    """
    if (output / MANIFEST).exists() and not force:
        raise ValueError(
            f"{output} holds a bundle already, whose encoder and columns would be lost: pass another --output, or "
            "--force to replace it"
        )
    weights = None
    if start is not None:
        older = load_bundle(start)
        if older.manifest.preset != preset:
            raise ValueError(f"{start} is of the preset '{older.manifest.preset}', not '{preset}': pass --preset")
        weights = build_network(older).encoder.state_dict()
    corpus = Corpus(datasets, tasks_of(datasets), recipe.smoothing)
    checkpoint = _checkpoint(output, "encoder")
    encoder, budgets = pretrain_multitask(get_preset(preset), corpus, recipe, checkpoint, report, weights)
    record = EncoderRecord(
        file=write_tensors(output, "encoder.safetensors", to_numpy(encoder)),
        provenance=_provenance(datasets, recipe, budgets, command),
    )
    template = [(float(x), float(y)) for x, y in TEMPLATE]
    write_manifest(
        output,
        Manifest(name=name, preset=preset, preprocessing=Preprocessing(template=template), encoder=record),
    )
    checkpoint.unlink(missing_ok=True)
    return load_bundle(output)


def make_column(
    root: Path,
    task: str,
    sources: list[str],
    datasets: Sequence[Dataset],
    validation: Sequence[Dataset],
    recipe: Recipe,
    command: str,
    report: Callable,
) -> Bundle:
    """Train a column beside the bundle's older ones and add it to the bundle, with its validation figures.

    The older weight files stay as they are. The manifest is written once, last, so a training or evaluation that is
    killed leaves the old bundle, and run again it goes on from its checkpoint.
    """
    bundle = load_bundle(root)
    network = build_network(bundle)
    corpus = Corpus(datasets, [task], recipe.smoothing)
    checkpoint = _checkpoint(root, task)
    column, budgets = train_column(network, task, sources, corpus, recipe, checkpoint, report)
    weights = to_numpy(column)
    record = ColumnRecord(
        task=task,
        labels=list(corpus.classes[task]),
        values=list(AGE_VALUES) if corpus.classes[task] == AGES else None,
        unit="years" if corpus.classes[task] == AGES else "",
        sources=sources,
        file=write_tensors(root, f"columns/{task}.safetensors", weights),
        provenance=_provenance(datasets, recipe, budgets, command),
    )
    # Evaluated in memory: what a manifest lists has its figures.
    grown = replace(bundle, manifest=with_column(bundle.manifest, record), columns={**bundle.columns, task: weights})
    predictor = Predictor(grown, TorchEngine(grown, "cpu"))
    metrics: dict[str, float] = {}
    for dataset in validation:
        scores = evaluate_column(predictor, task, dataset)
        report(f"{task} on {dataset.name} {dataset.split}: accuracy {scores.accuracy:.4f} over {scores.n} pictures")
        prefix = f"{dataset.name}/{dataset.split}"
        metrics |= {f"{prefix}/n": scores.n, f"{prefix}/accuracy": scores.accuracy}
        metrics |= {f"{prefix}/macro_f1": scores.macro_f1, f"{prefix}/ece": scores.ece}
    record = record.model_copy(update={"metrics": metrics})
    write_manifest(root, with_column(load_bundle(root).manifest, record))
    checkpoint.unlink(missing_ok=True)
    return load_bundle(root)


def evaluate_column(predictor: Predictor, task: str, dataset: Dataset) -> Evaluation:
    """Score a column on the labelled pictures of a dataset, cut to the framing that the dataset's reader gives.

    Raises:
        ValueError: the bundle has no such column, or its labels are not the dataset's.
    """
    manifest = predictor.bundle.manifest
    tasks = [column.task for column in manifest.columns]
    if task not in tasks:
        raise ValueError(f"{predictor.bundle.root} has no column '{task}'; it has {', '.join(tasks)}")
    if task not in dataset.classes:
        raise ValueError(f"dataset '{dataset.name}' does not label '{task}'; it labels {', '.join(dataset.classes)}")
    labels = manifest.column(task).labels
    if not set(dataset.classes[task]) <= set(labels):
        raise ValueError(f"column '{task}' has the labels {labels}, '{dataset.name}' has {list(dataset.classes[task])}")
    labelled = np.flatnonzero(dataset.labels[task] != UNLABELLED)
    crops = load_crops(dataset)
    window = slice(MARGIN, MARGIN + CROP_SIZE)
    probabilities = [
        predictor.predict(crops[labelled[start : start + BATCH], window, window])[task]
        for start in range(0, len(labelled), BATCH)
    ]
    # By name, for a dataset may list the labels in another order or lack some.
    index = np.array([labels.index(label) for label in dataset.classes[task]])
    return evaluate(np.concatenate(probabilities), index[dataset.labels[task][labelled]])


def _provenance(datasets: Sequence[Dataset], recipe: Recipe, budgets: list[dict], command: str) -> Provenance:
    return Provenance(
        command=command,
        package_version=__version__,
        torch_version=f"{torch.__version__} {platform.machine()}",
        date=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
        seed=recipe.seed,
        epochs=recipe.epochs,
        samples={f"{dataset.name}/{dataset.split}": len(dataset) for dataset in datasets},
        recipe={**asdict(recipe), "budgets": budgets},
        terms="; ".join(TERMS[dataset.name] for dataset in datasets if dataset.name in TERMS),
    )


def _checkpoint(output: Path, part: str) -> Path:
    key = hashlib.sha256(f"{output.resolve()}/{part}".encode()).hexdigest()[:16]
    folder = cache_dir() / "training"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{part}-{key}.pt"
