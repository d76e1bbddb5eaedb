"""From datasets to a column of a bundle: train, evaluate, calibrate, and record how it was done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..bundle.bundle import MANIFEST, PROTOTYPES, Bundle, Tensors, load_bundle, with_column, write_manifest
from ..bundle.files import BundleError, describe_tensors, write_atomically, write_tensors
from ..bundle.manifest import ColumnRecord, EncoderRecord, Provenance
from ..bundle.network import build_network, to_numpy
from ..datasets.dataset import Dataset, check_classes
from ..datasets.labels import AGE_VALUES, AGES
from ..runtime.descriptor import Descriptor, load_descriptor, load_descriptors
from ..runtime.predictor import Predictor
from ..runtime.torch_engine import TorchEngine
from . import distributed
from .calibration import HIGHEST, LOWEST, fit_temperature
from .columns import Plan, train_column
from .corpus import EMBEDDING, IDENTITY, Corpus
from .descriptors import dataset_descriptors
from .encoder_production import Log, Report, new_manifest, refuse_to_replace
from .evaluation import evaluate_groups, mean_and_error
from .identity import recognise_strangers
from .provenance import checkpoint_file, provenance
from .recipe import Recipe
from .scoring import column_logits, embedding_scores, predict_column
from .teacher import teacher_descriptors
from .whitening import whiten_descriptor


@dataclass(frozen=True)
class ColumnOrder:
    """What column to make.

    Attributes:
        task: its name; "embedding" makes a descriptor that dlib's teaches, any other a classifier.
        kind: "classification", or "identity" for one that calls strangers unknown.
        sources: older columns that it draws on.
        datasets: to train on.
        validation: to evaluate and calibrate on.
        strangers: pictures of other people, by which an identity column's threshold is chosen.
        output: folder of a new bundle that gets the column; None adds it to the bundle itself.
        begin: a safetensors file of convolutions to begin with, such as a head of the pre-training.
        retrain_encoder: train the encoder along, for a bundle without columns, into another `output`.
        replace: train the task's older column anew, which no other column may draw on.
        seeds: train so many times, from the recipe's seed on; the first is kept, and the manifest tells the mean and
            standard error of all.
        descriptor: name of an installed foreign descriptor that it draws on as well; see runtime.descriptor.
        skip: give it a skip connection from the encoder's map.
        last_layers: train the hidden layer and the classifier alone, beside the convolutions of `begin`.
    """

    task: str
    datasets: Sequence[Dataset]
    validation: Sequence[Dataset] = ()
    sources: Sequence[str] = ()
    kind: str = "classification"
    strangers: Sequence[Dataset] = field(default_factory=tuple)
    output: Path | None = None
    begin: Path | None = None
    retrain_encoder: bool = False
    replace: bool = False
    seeds: int = 1
    descriptor: str = ""
    skip: bool = False
    last_layers: bool = False

    def __post_init__(self):
        if self.seeds < 1:
            raise ValueError(f"seeds: at least 1 is expected, got {self.seeds}")
        if self.last_layers and (self.begin is None or self.retrain_encoder):
            raise ValueError("last_layers: give it `begin`, whose convolutions stay, and not `retrain_encoder`")


def make_column(
    root: Path, order: ColumnOrder, recipe: Recipe, command: str, report: Report, log: Log | None = None
) -> Bundle:
    """Train a column beside the bundle's older ones and add it to the bundle, with its validation figures.

    The older weight files stay as they are. The manifest is written once, last, so a training or evaluation that is
    killed leaves the old bundle, and run again it goes on from its checkpoint.

    Raises:
        ValueError: the order does not go together with the bundle.
        DescriptorError: a foreign descriptor that the bundle or the order names is not installed.
        TrainingError, CheckpointError, OSError: see training.loop.fit.
    """
    bundle, output = load_bundle(root), order.output or root
    if order.replace:
        bundle = _without(bundle, order.task)
    elif order.task in bundle.columns:
        raise ValueError(f"task '{order.task}' has a column already: pass --replace to train it anew")
    foreign = load_descriptors(bundle)
    if order.descriptor:
        foreign[order.descriptor] = load_descriptor(order.descriptor)
    begin = _read_begin(order.begin)
    if order.retrain_encoder and output == root:
        raise ValueError("a re-trained encoder makes another bundle: pass --output")
    if order.output:
        refuse_to_replace(output, force=False)
    if order.task != EMBEDDING:
        check_classes(order.datasets, order.task)
    descriptors = [teacher_descriptors(d, report) for d in order.datasets] if order.task == EMBEDDING else None
    tasks = [] if order.task == EMBEDDING else [order.task]
    described = _describe(order, order.datasets, foreign, report)
    corpus = Corpus(order.datasets, tasks, recipe.smoothing, descriptors, recipe.soft_labels, described)
    made = []
    for seed in range(recipe.seed, recipe.seed + order.seeds):
        if order.seeds > 1:
            report(f"seed {seed}")
        checkpoint = checkpoint_file(output, f"{order.task}-{seed}")
        made.append(
            _train(bundle, order, corpus, foreign, begin, replace(recipe, seed=seed), checkpoint, command, report, log)
        )
    if distributed.rank() == 0:
        _write_column(root, output, order, bundle, made)
        for seed in range(recipe.seed, recipe.seed + order.seeds):
            checkpoint_file(output, f"{order.task}-{seed}").unlink(missing_ok=True)
    return distributed.of_first(lambda: load_bundle(output))


@dataclass(frozen=True)
class _Made:
    """A trained column, and the bundle that it was trained beside."""

    base: Bundle
    record: ColumnRecord
    weights: Tensors


def _write_column(root: Path, output: Path, order: ColumnOrder, bundle: Bundle, made: Sequence[_Made]) -> None:
    """The first seed's weights, with the figures of all, into the bundle or into the new one."""
    first = made[0]
    record = first.record.model_copy(update={"metrics": first.record.metrics | _spread(made)})
    if order.retrain_encoder:
        write_tensors(output, first.base.manifest.encoder.file.path, first.base.encoder)
    elif output != root:
        _copy_files(bundle, root, output)
    manifest = load_bundle(root).manifest if output == root else first.base.manifest
    older = {column.task: column.file.paths for column in manifest.columns}.get(order.task, [])
    path = _path(order.task)
    if older:  # beside the older file, which the manifest goes on to name until the new one is whole
        path = f"columns/{order.task}-{describe_tensors(path, first.weights).sha256[:8]}.safetensors"
    record = record.model_copy(update={"file": write_tensors(output, path, first.weights)})
    write_manifest(output, with_column(manifest, record))
    for replaced in set(older) - {path}:
        (output / replaced).unlink()


def _train(
    bundle: Bundle,
    order: ColumnOrder,
    corpus: Corpus,
    foreign: Mapping[str, Descriptor],
    begin: dict[str, torch.Tensor],
    recipe: Recipe,
    checkpoint: Path,
    command: str,
    report: Report,
    log: Log | None,
) -> _Made:
    """Train, calibrate and evaluate a column with one seed, all in memory."""
    task, embedding = order.task, order.task == EMBEDDING
    network = build_network(bundle)
    spec = foreign[order.descriptor].spec if order.descriptor else None
    validation = None
    if order.validation and not embedding:
        validation = Corpus(order.validation, [task], foreign=_describe(order, order.validation, foreign, report))
    plan = Plan(
        task=task,
        sources=order.sources,
        corpus=corpus,
        validation=validation,
        retrain_encoder=order.retrain_encoder,
        begin=begin,
        key=frozen_key(bundle, order.sources),
        descriptor=spec.sha256 if spec else "",
        skip=order.skip,
        last_layers=order.last_layers,
    )
    column, history = train_column(network, plan, recipe, checkpoint, report, log)
    made_by = provenance(order.datasets, recipe, history, command, _begun_from(order.begin))
    if order.retrain_encoder:
        encoder = to_numpy(network.encoder)
        record = EncoderRecord(file=describe_tensors("encoder.safetensors", encoder), provenance=made_by)
        manifest = new_manifest(bundle.manifest.name, bundle.manifest.preset, record)
        bundle = replace(bundle, manifest=manifest, encoder=encoder)
    weights = to_numpy(column)
    labels = [] if embedding else list(corpus.classes[task])
    column_record = ColumnRecord(
        task=task,
        kind=EMBEDDING if embedding else order.kind,
        labels=labels,
        dimensions=corpus.targets[EMBEDDING].shape[1] if embedding else None,
        values=list(AGE_VALUES) if tuple(labels) == AGES else None,
        unit="years" if tuple(labels) == AGES else "",
        sources=list(order.sources),
        descriptor=spec.record() if spec else None,
        skip=order.skip,
        file=describe_tensors(_path(task), weights),
        provenance=made_by,
    )
    if distributed.rank():
        return _Made(bundle, column_record, weights)
    predictor = _predictor(bundle, column_record, weights, foreign)
    if embedding:
        weights = whiten_descriptor(predictor, order.datasets, weights)
    if order.validation and not embedding:
        pairs = [column_logits(predictor, task, dataset) for dataset in order.validation]
        logits, truth = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        if len(np.unique(truth)) < 2:
            report(f"'{task}' stays uncalibrated: all {len(truth)} validation pictures are of one class")
        else:
            temperature = fit_temperature(logits, truth)
            if temperature in (LOWEST, HIGHEST):  # such as where every picture is right
                report(f"'{task}' stays uncalibrated: {len(truth)} validation pictures determine no temperature")
            else:
                column_record = column_record.model_copy(update={"temperature": temperature})
    if order.kind == IDENTITY and order.validation:
        rule, means = recognise_strangers(predictor, column_record, order.datasets, order.validation, order.strangers)
        column_record = column_record.model_copy(update={"open_set": rule})
        weights = weights if means is None else weights | {PROTOTYPES: means}
    metrics = _metrics(_predictor(bundle, column_record, weights, foreign), task, order.validation, report)
    return _Made(bundle, column_record.model_copy(update={"metrics": metrics}), weights)


def _scores(predictor: Predictor, task: str, dataset: Dataset) -> dict[str, float]:
    """A classifier's figures on a dataset; by group of people as "sex/female", and "sex/female/n" for how many."""
    predictions = predict_column(predictor, task, dataset)
    scores = predictions.evaluate()
    figures: dict[str, float] = {"n": scores.n, "accuracy": scores.accuracy, "macro_f1": scores.macro_f1}
    figures |= {"ece": scores.ece, "nll": scores.nll}
    if scores.within_one is not None:
        figures["within_one"] = scores.within_one
    for kind, groups in evaluate_groups(predictions.probabilities, predictions.labels, predictions.groups).items():
        for group, score in groups.items():
            figures |= {f"{kind}/{group}": score.accuracy, f"{kind}/{group}/n": score.n}
    return figures


def _without(bundle: Bundle, task: str) -> Bundle:
    """The bundle without a column, in memory; BundleError where another draws on it."""
    kept = [column for column in bundle.manifest.columns if column.task != task]
    if users := [column.task for column in kept if task in column.sources]:
        raise BundleError(f"column '{task}' cannot be replaced: {', '.join(users)} draws on it")
    columns = {column.task: bundle.columns[column.task] for column in kept}
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"columns": kept}), columns=columns)


def _path(task: str) -> str:
    return f"columns/{task}.safetensors"


def _predictor(bundle: Bundle, record: ColumnRecord, weights: Tensors, foreign: Mapping[str, Descriptor]) -> Predictor:
    """What reads faces by the bundle with the column added, in memory: what a manifest lists has its figures."""
    columns = {**bundle.columns, record.task: weights}
    grown = replace(bundle, manifest=with_column(bundle.manifest, record), columns=columns)
    needed = {name: foreign[name] for name in grown.manifest.descriptors}
    return Predictor(grown, TorchEngine(grown, "auto", "fp32"), needed)


def _describe(
    order: ColumnOrder, datasets: Sequence[Dataset], foreign: Mapping[str, Descriptor], report: Report
) -> list[np.ndarray] | None:
    """Each dataset's pictures by the descriptor that the column shall draw on, if it shall."""
    if not order.descriptor:
        return None
    return [dataset_descriptors(dataset, foreign[order.descriptor], report) for dataset in datasets]


def _spread(made: Sequence[_Made]) -> dict[str, float]:
    """Mean and standard error of each figure over the seeds, as "dataset/split/name/mean" and ".../error"."""
    if len(made) == 1:
        return {}
    spread = {"seeds": float(len(made))}
    for name in made[0].record.metrics:
        if not name.endswith("/n"):
            over = mean_and_error([one.record.metrics[name] for one in made])
            spread |= {f"{name}/mean": over.mean, f"{name}/error": over.error}
    return spread


def _metrics(predictor: Predictor, task: str, validation: Sequence[Dataset], report: Report) -> dict[str, float]:
    """The validation figures that go into the manifest, "dataset/split/name" to shares of 1."""
    metrics: dict[str, float] = {}
    for dataset in validation:
        prefix = f"{dataset.name}/{dataset.split}"
        try:
            figures = embedding_scores(predictor, dataset) if task == EMBEDDING else _scores(predictor, task, dataset)
        except ValueError as error:  # such as too few people to try a descriptor on; the column is no worse for it
            report(f"{task} is not measured on {dataset.name} {dataset.split}: {error}")
            continue
        said = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if "/" not in name)
        report(f"{task} on {dataset.name} {dataset.split}: {said}")
        metrics |= {f"{prefix}/{name}": float(value) for name, value in figures.items()}
    return metrics


def frozen_key(bundle: Bundle, sources: Sequence[str]) -> str:
    """What identifies the encoder and these columns, for Plan.key; BundleError for a column that is not there."""
    known = {column.task: column.file.sha256 for column in bundle.manifest.columns}
    if missing := [source for source in sources if source not in known]:
        raise BundleError(f"{bundle.root} has no column '{missing[0]}' to draw on; it has {', '.join(known) or 'none'}")
    return "-".join([bundle.manifest.encoder.file.sha256, *(known[source] for source in sources)])


def _read_begin(file: Path | None) -> dict[str, torch.Tensor]:
    if file is None:
        return {}
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"begin: {file} is no safetensors file that can be read: {error}") from error


def _begun_from(begin: Path | None) -> Provenance | None:
    """The record of the column whose file in a bundle was begun with; None for other files, such as heads."""
    root = begin.resolve().parent.parent if begin else None
    if begin is None or root is None or not (root / MANIFEST).is_file():
        return None
    path = begin.resolve().relative_to(root).as_posix()
    columns = load_bundle(root).manifest.columns
    return next((column.provenance for column in columns if column.file.path == path), None)


def _copy_files(bundle: Bundle, root: Path, output: Path) -> None:
    """Give a new bundle the encoder's and the older columns' files."""
    for path in (path for record in bundle.manifest.weights for path in record.paths):
        write_atomically(output / path, (root / path).read_bytes())
