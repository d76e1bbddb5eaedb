"""The rule by which a new identity column calls strangers unknown."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..bundle.manifest import ColumnRecord, OpenSet
from ..datasets.dataset import Dataset, DatasetError
from ..runtime.open_set import class_means, clear_nearness, energy, probability
from ..runtime.predictor import Predictor
from .corpus import IDENTITY
from .open_set import Method, best_open_set
from .scoring import dataset_outputs, people_and_embeddings


def recognise_strangers(
    predictor: Predictor,
    record: ColumnRecord,
    training: Sequence[Dataset],
    validation: Sequence[Dataset],
    strangers: Sequence[Dataset],
) -> tuple[OpenSet, np.ndarray | None]:
    """Choose score and threshold on validation pictures of the column's people and on pictures of strangers.

    Among the strangers, people whom the column knows are left out.

    Returns:
        The rule, and where it compares embeddings each person's mean embedding, float32 (people, d), of length 1, over
        the training pictures.
    """
    training = [_as_people(dataset, record.task) for dataset in training]
    strangers = [_others(_as_people(dataset, record.task), record.labels) for dataset in strangers]
    known_logits, known_embeddings = _outputs(predictor, record, validation)
    scores = _of_logits(known_logits, record)
    stranger_scores = None
    means = None
    if predictor.bundle.manifest.embedding:
        people, embeddings = _people(predictor, training)
        index = np.array([record.labels.index(person) for person in people])
        means = class_means(embeddings, index, len(record.labels)).astype(np.float32)
        scores["embedding"] = clear_nearness(known_embeddings, means, known_logits.argmax(1))
    if strangers:
        logits, embeddings = _outputs(predictor, record, strangers)
        stranger_scores = _of_logits(logits, record)
        if means is not None:
            stranger_scores["embedding"] = clear_nearness(embeddings, means, logits.argmax(1))
    chosen = best_open_set(scores, stranger_scores)
    return chosen, means if chosen.method == "embedding" else None


def _of_logits(logits: np.ndarray, record: ColumnRecord) -> dict[Method, np.ndarray]:
    """Rounded as the network's own numbers are: what differs by less differs by engine and tells nobody apart."""
    scores: dict[Method, np.ndarray] = {
        "energy": energy(logits, record.temperature),
        "probability": probability(logits, record.temperature),
    }
    return {method: found.astype(np.float32) for method, found in scores.items()}


def _outputs(predictor: Predictor, record: ColumnRecord, datasets: Sequence[Dataset]) -> tuple[np.ndarray, np.ndarray]:
    """Logits, float32 (n, classes), and embeddings, float32 (n, d), of all pictures."""
    parts = [dataset_outputs(predictor, record.task, dataset) for dataset in datasets]
    return np.concatenate([logits for logits, _ in parts]), np.concatenate([embeddings for _, embeddings in parts])


def _people(predictor: Predictor, datasets: Sequence[Dataset]) -> tuple[np.ndarray, np.ndarray]:
    parts = [people_and_embeddings(predictor, dataset) for dataset in datasets]
    return np.concatenate([people for people, _ in parts]), np.concatenate([found for _, found in parts])


def _as_people(dataset: Dataset, task: str) -> Dataset:
    """The dataset with the labels of the column's task, whatever it is called, as people; DatasetError without any."""
    named = task if task in dataset.labels else IDENTITY
    if named not in dataset.labels:
        raise DatasetError(f"{dataset.name} does not say who is on its pictures; it labels {', '.join(dataset.labels)}")
    return replace(
        dataset,
        classes=dataset.classes | {IDENTITY: dataset.classes[named]},
        labels=dataset.labels | {IDENTITY: dataset.labels[named]},
    )


def _others(dataset: Dataset, known: list[str]) -> Dataset:
    """The dataset without the pictures of people whom the column knows; DatasetError where nobody is left."""
    names = np.array(dataset.classes[IDENTITY])[dataset.labels[IDENTITY]]
    rows = np.flatnonzero(~np.isin(names, known))
    if not len(rows):
        raise DatasetError(f"{dataset.name} has no stranger: the column knows everybody in its split '{dataset.split}'")
    return dataset.take(rows)
