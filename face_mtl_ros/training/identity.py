"""The rule by which a new identity column calls strangers unknown."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..bundle.manifest import ColumnRecord, OpenSet
from ..datasets.dataset import UNLABELLED, Dataset, DatasetError
from ..runtime.open_set import MARGIN, class_means, clear_nearness, energy, probability
from ..runtime.predictor import Predictor
from .corpus import IDENTITY
from .descriptors import dataset_descriptors
from .onsite_identity import nearness_as_stranger
from .open_set import Method, best_open_set, threshold_between
from .prototypes import contrast
from .scoring import dataset_outputs


def recognise_strangers(
    predictor: Predictor,
    record: ColumnRecord,
    training: Sequence[Dataset],
    validation: Sequence[Dataset],
    strangers: Sequence[Dataset],
) -> tuple[OpenSet, np.ndarray | None]:
    """Choose score and threshold on validation pictures of the column's people and on pictures of strangers.

    Among the strangers, people whom the column knows are left out. Without any, each person in turn is a stranger to
    the others, as where a robot learns from its own samples.

    Returns:
        The rule, and where it compares embeddings or foreign descriptors each person's mean, float32 (people, d), of
        length 1, over the training pictures.
    """
    known = _faces(predictor, record, validation)
    others = [_others(_as_people(dataset, record.task), record.labels) for dataset in strangers]
    method: Method = "descriptor" if record.descriptor else "embedding"
    means, margin = None, MARGIN
    if record.descriptor or predictor.bundle.manifest.embedding:
        taught = _faces(predictor, record, training)
        means = class_means(taught.vectors, taught.people, len(record.labels)).astype(np.float32)
        # What all faces have in common in a foreign descriptor brings all cosines closer together, and so the margin.
        margin = MARGIN * contrast(means) if record.descriptor else MARGIN
    scores = _scores(known, record, method, means, margin)
    if others:
        unknown = _faces(predictor, record, others)
        rule = best_open_set(scores, _scores(unknown, record, method, means, margin))
    elif means is None:
        rule = best_open_set(scores)
    else:
        among_others = known.logits.copy()
        among_others[np.arange(len(known.people)), known.people] = -np.inf
        as_strangers = nearness_as_stranger(known.vectors, known.people, means, among_others, margin)
        rule = threshold_between(scores[method], as_strangers, method)
    if rule.method == "descriptor":
        rule = rule.model_copy(update={"margin": margin})
    return rule, means if rule.method == method else None


@dataclass(frozen=True)
class _Faces:
    """Logits, float32 (n, classes), who it is, int (n,), below 0 for others, and embeddings or foreign descriptors."""

    logits: np.ndarray
    people: np.ndarray
    vectors: np.ndarray


def _faces(predictor: Predictor, record: ColumnRecord, datasets: Sequence[Dataset]) -> _Faces:
    """The pictures of datasets that say who is on them."""
    place = {label: i for i, label in enumerate(record.labels)}
    parts = []
    for dataset in (_as_people(dataset, record.task) for dataset in datasets):
        dataset = dataset.take(np.flatnonzero(dataset.labels[IDENTITY] != UNLABELLED))
        logits, vectors = dataset_outputs(predictor, record.task, dataset)
        if record.descriptor:
            vectors = dataset_descriptors(dataset, predictor.descriptors[record.descriptor.name])
        names = np.array(dataset.classes[IDENTITY])[dataset.labels[IDENTITY]]
        parts.append((logits, np.array([place.get(name, -1) for name in names]), vectors))
    return _Faces(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _scores(
    faces: _Faces, record: ColumnRecord, method: Method, means: np.ndarray | None, margin: float
) -> dict[Method, np.ndarray]:
    """Of the logits, rounded as the network's own numbers are, for what differs by less tells nobody apart; and of
    the vectors where there are means to compare them with."""
    scores: dict[Method, np.ndarray] = {
        "energy": energy(faces.logits, record.temperature).astype(np.float32),
        "probability": probability(faces.logits, record.temperature).astype(np.float32),
    }
    if means is not None:
        scores[method] = clear_nearness(faces.vectors, means, faces.logits.argmax(1), margin)
    return scores


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
