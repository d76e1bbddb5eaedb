"""A bundle over a dataset: what its columns say of each picture, and how good that is."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np

from ..datasets.crops import MARGIN, load_crops
from ..datasets.dataset import UNLABELLED, Dataset, DatasetError
from ..runtime.predictor import Predictor
from ..vision.alignment import CROP_SIZE
from .corpus import IDENTITY
from .descriptors import dataset_descriptors
from .embedding_protocol import embedding_protocol
from .evaluation import Evaluation, evaluate

BATCH = 8  # pictures at once: so few that their maps stay in a CPU's cache
GPU_BATCH = 32
Progress = Callable[[int, int], None]  # pictures done, and of how many


@dataclass(frozen=True)
class ColumnPredictions:
    """What a column says of a dataset's labelled pictures.

    Attributes:
        probabilities: float32 (n, classes), calibrated, in the order of the column's labels.
        labels: int64 (n,), the true classes, in the same order.
        groups: as the dataset's, of these pictures: kind of group to str (n,).
        ordered: the column's classes are in an order, such as age groups.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    groups: dict[str, np.ndarray]
    ordered: bool

    def evaluate(self) -> Evaluation:
        return evaluate(self.probabilities, self.labels, self.ordered)


def predict_dataset(
    predictor: Predictor, dataset: Dataset, rows: np.ndarray | None = None, progress: Progress | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Run all columns on a dataset's pictures, cut to the framing that its reader gives.

    Args:
        rows: int (n,), which pictures; all of them by default.
        progress: called after each batch.

    Returns:
        Task to calibrated probabilities, float32 (n, classes), and embeddings, float32 (n, d) of
        length 1.

    Raises:
        DatasetError: a picture cannot be read, or there is none.
    """
    rows = np.arange(len(dataset)) if rows is None else rows
    if not len(rows):
        raise DatasetError(f"dataset '{dataset.name}' has no picture to read in split '{dataset.split}'")
    read = [predictor.read(*batch) for batch in _batches(predictor, dataset, rows, progress)]
    tasks = read[0].probabilities
    probabilities = {task: np.concatenate([part.probabilities[task] for part in read]) for task in tasks}
    return probabilities, np.concatenate([part.embeddings for part in read])


def predict_column(
    predictor: Predictor, task: str, dataset: Dataset, progress: Progress | None = None
) -> ColumnPredictions:
    """Run a column on the pictures that the dataset labels for its task.

    Raises:
        ValueError: the bundle has no such column, its labels are not the dataset's, or no picture is labelled.
    """
    rows, labels = _labelled(predictor, task, dataset)
    probabilities, _ = predict_dataset(predictor, dataset, rows, progress)
    groups = {kind: np.asarray(values)[rows] for kind, values in dataset.groups.items()}
    ordered = predictor.bundle.manifest.column(task).values is not None
    return ColumnPredictions(probabilities[task], labels, groups, ordered)


def column_logits(predictor: Predictor, task: str, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """What a temperature is fitted on: logits, float32 (n, classes), before any temperature, and labels, int64 (n,).

    Raises:
        ValueError: as of predict_column.
    """
    rows, labels = _labelled(predictor, task, dataset)
    return np.concatenate([predictor.logits(*batch)[task] for batch in _batches(predictor, dataset, rows)]), labels


def dataset_outputs(predictor: Predictor, task: str, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """A column's logits, float32 (n, classes), and the embeddings, float32 (n, d) of length 1, of all pictures."""
    rows = np.arange(len(dataset))
    outputs = [predictor.logits(*batch) for batch in _batches(predictor, dataset, rows)]
    logits = np.concatenate([part[task] for part in outputs])
    return logits, np.concatenate([predictor.embeddings(part) for part in outputs])


def embedding_scores(predictor: Predictor, dataset: Dataset, progress: Progress | None = None) -> dict[str, float]:
    """The figures of embedding_protocol by name, with n and people the numbers of pictures and people.

    Raises:
        ValueError: as of people_and_embeddings and embedding_protocol.
    """
    people, embeddings = people_and_embeddings(predictor, dataset, progress)
    scores = asdict(embedding_protocol(embeddings, people))
    return {"n": scores.pop("n_pictures"), "people": scores.pop("n_people"), **scores}


def people_and_embeddings(
    predictor: Predictor, dataset: Dataset, progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Who is on each picture, str (n,), and its embedding, float32 (n, d) of length 1, for embedding_protocol.

    Raises:
        ValueError: the dataset does not say who is on its pictures.
    """
    if IDENTITY not in dataset.classes:
        raise ValueError(
            f"dataset '{dataset.name}' does not label '{IDENTITY}'; it labels {', '.join(dataset.classes)}; "
            "take lfw, lfw-identity, or a folder with one folder a person"
        )
    rows = np.flatnonzero(dataset.labels[IDENTITY] != UNLABELLED)
    people = np.array(dataset.classes[IDENTITY])[dataset.labels[IDENTITY][rows]]
    return people, predict_dataset(predictor, dataset, rows, progress)[1]


def _labelled(predictor: Predictor, task: str, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a dataset that have a label of the task, and the labels in the column's order."""
    manifest = predictor.bundle.manifest
    tasks = [column.task for column in manifest.columns]
    if task not in tasks:
        raise ValueError(f"{predictor.bundle.root} has no column '{task}'; it has {', '.join(tasks)}")
    if task not in dataset.classes:
        raise ValueError(f"dataset '{dataset.name}' does not label '{task}'; it labels {', '.join(dataset.classes)}")
    labels = manifest.column(task).labels
    if not set(dataset.classes[task]) <= set(labels):
        raise ValueError(f"column '{task}' has the labels {labels}, '{dataset.name}' has {list(dataset.classes[task])}")
    rows = np.flatnonzero(dataset.labels[task] != UNLABELLED)
    if not len(rows):
        raise ValueError(f"dataset '{dataset.name}' has no picture labelled for '{task}' in split '{dataset.split}'")
    # By name, for a dataset may list the labels in another order or lack some.
    index = np.array([labels.index(label) for label in dataset.classes[task]])
    return rows, index[dataset.labels[task][rows]]


def _batches(
    predictor: Predictor, dataset: Dataset, rows: np.ndarray, progress: Progress | None = None
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Crops, uint8 (up to 32, 128, 128), and their faces by the foreign descriptors that the predictor needs."""
    described = {name: dataset_descriptors(dataset, found) for name, found in predictor.descriptors.items()}
    crops, window = load_crops(dataset), slice(MARGIN, MARGIN + CROP_SIZE)
    batch = GPU_BATCH if predictor.engine.device.startswith("cuda") else BATCH
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        yield crops[part, window, window], {name: vectors[part] for name, vectors in described.items()}
        if progress:
            progress(min(start + batch, len(rows)), len(rows))
