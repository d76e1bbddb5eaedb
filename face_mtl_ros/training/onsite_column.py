"""From a robot's samples to a bundle with a new column, by the recipe `fast`."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..bundle.bundle import PROTOTYPES, Bundle, load_bundle, with_column, write_manifest
from ..bundle.files import describe_tensors, write_atomically, write_tensors
from ..bundle.manifest import ColumnRecord, DescriptorRecord
from ..datasets.dataset import Dataset
from ..runtime.predictor import Predictor
from ..runtime.torch_engine import TorchEngine
from ..samples.caches import DATASET_NAME
from ..vision.alignment import CROP_SIZE
from .calibration import negative_log_likelihood, temperature_of_few
from .corpus import IDENTITY
from .fewshot import FewShot, best_parent, fold_of, train_few_shot
from .last_layer import EPOCHS
from .loop import History, TrainingError
from .onsite_features import describe_samples, keep_features
from .onsite_identity import recognise_each_other
from .onsite_jobs import Order, Progress
from .provenance import provenance

RECIPE = "fast"
COMMAND = "train_column"  # in the provenance of what is trained on site
PREFIX = f"{DATASET_NAME}/held_back"  # of its figures
VIEWS = 5  # of each sample, the first as it is
VIEWS_SHARE = 0.5  # of the time budget, after which no further view of all samples begins
TRAINING_SHARE = 0.8  # of the time budget, after which no further epoch begins
TOLERANCE = 1e-2  # by which the bundle's logits may differ from those in training, beside the largest

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class FastRecipe:
    """What provenance keeps of the recipe."""

    name: str
    seed: int
    views: int
    parent: str
    epochs: int


@dataclass(frozen=True)
class _Samples:
    """What is known of n samples before training.

    Attributes:
        labels: int (n,); folds: int (n,), by which fold one is held back.
        embeddings: float32 (n, d) of length 1, by the bundle; None where it makes none.
        descriptor: the foreign one that the column draws on, if it does; described: float32 (n, d), the samples by it.
    """

    labels: np.ndarray
    folds: np.ndarray
    embeddings: np.ndarray | None
    descriptor: DescriptorRecord | None
    described: np.ndarray | None


def make_few_shot_column(
    order: Order, crops: np.ndarray, labels: np.ndarray, work: Path, output: Path, report: Report, resumed: bool
) -> Bundle:
    """Train, calibrate and evaluate a column, and write the base's bundle with it to a new folder.

    Args:
        crops: uint8 (n, 160, 160); labels: int (n,), places in order.labels.
        work: keeps what a training that is killed goes on from.
        output: folder of the new bundle, which becomes whole with its manifest, written last.

    Raises:
        BundleError, DescriptorError, OSError, TrainingError: it cannot be made; the message says why.
    """
    start = time.monotonic()
    bundle = load_bundle(order.base)
    candidates = parents_of(bundle, order)
    tasks = list(dict.fromkeys([*candidates, *order.sources]))
    progress = Progress(state="training", epochs=EPOCHS, resumed=resumed)

    def left(done: float) -> float:
        """The rest of the time, from the share that is done."""
        return min((time.monotonic() - start) * (1 - done) / max(done, 0.02), order.time_budget_s)

    def looked(done: int, of: int) -> None:
        said = f"passing views of the samples through the model: {done} of at most {of}"
        report(progress.model_copy(update={"message": said, "time_left_s": left(0.7 * done / of)}))

    def described_so_far(done: int, of: int) -> None:
        said = f"describing the samples by '{order.descriptor}': {done} of {of}"
        report(progress.model_copy(update={"message": said, "time_left_s": left(0.1 * done / of)}))

    descriptor = described = None
    if order.descriptor:
        descriptor, described = describe_samples(order.descriptor, crops, work, order.threads, described_so_far)
    hidden, embeddings = keep_features(
        bundle, tasks, crops, work, VIEWS, start + VIEWS_SHARE * order.time_budget_s, order.seed, looked
    )
    samples = _Samples(labels, fold_of(labels, order.seed), embeddings, descriptor, described)
    parent = candidates[0] if len(candidates) == 1 else best_parent(hidden, labels, candidates)

    def trained(epoch: int, loss: float, accuracy: float) -> None:
        progress.epoch, progress.loss, progress.validation_accuracy = epoch, loss, accuracy
        said = f"training from the column '{parent}'"
        report(progress.model_copy(update={"message": said, "time_left_s": left(0.7 + 0.2 * epoch / EPOCHS)}))

    seconds = max(0.0, start + TRAINING_SHARE * order.time_budget_s - time.monotonic())
    made = train_few_shot(
        bundle,
        hidden,
        labels,
        len(order.labels),
        parent,
        order.sources,
        samples.folds,
        described,
        seconds,
        order.seed,
        trained,
    )
    progress.state, progress.epoch, progress.loss = "evaluating", made.epochs, made.loss
    report(progress.model_copy(update={"message": "evaluating", "time_left_s": left(0.9)}))
    record = _evaluated(bundle, order, made, samples, views=len(hidden.of_task[parent]))
    written = _write(bundle, *record, output)
    _check(written, order.task, crops, described, made.logits)
    return written


def parents_of(bundle: Bundle, order: Order) -> list[str]:
    """The columns that the new one may begin as: for people the embedding, else all that draw on no other source."""
    columns = [column for column in bundle.manifest.columns if column.task != order.task]
    fitting = [column.task for column in columns if set(column.sources) <= set(order.sources)]
    embedding = bundle.manifest.embedding
    if order.kind == IDENTITY and embedding and embedding.task in fitting:
        return [embedding.task]
    if not fitting:
        raise TrainingError(
            f"recipe '{RECIPE}' begins with an older column, and {order.base} has none whose sources are among "
            f"{order.sources}: add sources, or take the recipe 'paper'"
        )
    return fitting


def _evaluated(
    bundle: Bundle, order: Order, made: FewShot, samples: _Samples, views: int
) -> tuple[ColumnRecord, dict[str, np.ndarray]]:
    """The column's record with all but its file's place, and its weights."""
    labels = samples.labels
    temperature = temperature_of_few(made.held_back, labels)
    weights = dict(made.weights)
    rule, metrics = None, {}
    if order.kind == IDENTITY:
        rule, means, named = recognise_each_other(
            made.held_back / temperature, labels, samples.folds, samples.embeddings, samples.described
        )
        metrics = {f"{PREFIX}/known_named": named, f"{PREFIX}/strangers_refused": rule.strangers_refused or 0.0}
        if means is not None:
            weights[PROTOTYPES] = means
    metrics |= {
        f"{PREFIX}/n": float(len(labels)),
        f"{PREFIX}/accuracy": float((made.held_back.argmax(1) == labels).mean()),
        f"{PREFIX}/nll": negative_log_likelihood(made.held_back, labels, temperature),
    }
    recipe = FastRecipe(RECIPE, order.seed, views, made.parent, made.epochs)
    history = History(epochs=float(made.epochs))
    parent = bundle.manifest.column(made.parent)
    command = f"{COMMAND} requested_by={order.requested_by}" if order.requested_by else COMMAND
    record = ColumnRecord(
        task=order.task,
        kind=order.kind,
        labels=order.labels,
        values=order.values or None,
        sources=order.sources,
        temperature=temperature,
        open_set=rule,
        descriptor=samples.descriptor,
        skip=parent.skip,
        file=describe_tensors(f"columns/{order.task}.safetensors", weights),
        provenance=provenance([_as_dataset(order)], recipe, history, command, parent.provenance),
        metrics=metrics,
    )
    return record, weights


def _as_dataset(order: Order) -> Dataset:
    """What provenance says the column was trained on: how many samples, not whose."""
    count = len(order.sample_ids)
    return Dataset(DATASET_NAME, "all", [order.store] * count, [""] * count, {}, {})


def _write(bundle: Bundle, record: ColumnRecord, weights: dict[str, np.ndarray], output: Path) -> Bundle:
    """The base's files, unchanged, the column beside them under a name of its own, and last the manifest."""
    replaced = {path for column in bundle.manifest.columns if column.task == record.task for path in column.file.paths}
    for path in (path for file in bundle.manifest.weights for path in file.paths if path not in replaced):
        write_atomically(output / path, (bundle.root / path).read_bytes())
    path = f"columns/{record.task}-{record.file.sha256[:8]}.safetensors"
    record = record.model_copy(update={"file": write_tensors(output, path, weights)})
    write_manifest(output, with_column(bundle.manifest, record))
    return load_bundle(output)


def _check(bundle: Bundle, task: str, crops: np.ndarray, described: np.ndarray | None, logits: np.ndarray) -> None:
    """The bundle as it lies on disk must say what the column said in training.

    The foreign descriptors of other columns need not be installed here, and are left at 0.

    Raises:
        TrainingError: it says something else.
    """
    margin = (crops.shape[1] - CROP_SIZE) // 2
    rows = np.linspace(0, len(crops) - 1, min(8, len(crops))).astype(int)
    inner = crops[rows, margin : margin + CROP_SIZE, margin : margin + CROP_SIZE]
    own = bundle.manifest.column(task).descriptor
    vectors = {
        name: np.zeros((len(rows), record.dimensions), np.float32)
        for name, record in bundle.manifest.descriptors.items()
    }
    if own is not None and described is not None:
        vectors[own.name] = described[rows]
    found = Predictor(bundle, TorchEngine(bundle, "auto", "fp32")).logits(inner, vectors)[task]
    off = float(np.abs(found - logits[rows]).max())
    if not off <= TOLERANCE * max(1.0, float(np.abs(logits).max())):
        raise TrainingError(f"the column '{task}' differs by {off:.3g} from what was trained; this is a defect")
