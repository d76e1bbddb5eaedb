"""A column from a few pictures a class, begun as an older column with prototypes for its last layer.

The new column (Table III, with its lateral connections) starts as a copy of an older one, its parent, so that its
hidden layer says at once what the parent's says. Adapters open at the last layer alone, where they bring in what the
hidden layers of the source columns vary most in. The classifier starts as prototypes: for people, the mean embedding of
each, so that the logits are scaled cosines to them; else the class means. Then it is trained on views that went through
the frozen network once. How long is decided by cross-validation: with a good embedding and few pictures, not at all.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from scipy.special import log_softmax

from ..bundle.bundle import Bundle, Tensors
from ..bundle.network import to_numpy, to_torch
from ..networks.column import Adapter, Column
from ..runtime.open_set import class_means

FOLDS = 5
EPOCHS = 50  # at most
PATIENCE = 10  # epochs without a better cross-validation, after which training ends
BATCH = 32
LEARNING_RATE, BETAS = 3e-3, (0.9, 0.999)
CAUTION = 2.0  # standard errors by which training must better the prototypes of people; less is one sample's chance
SHARPNESS = 10.0  # of the first logits: cosines times this, before calibration
LATERAL_SHARE = 0.5  # of the own hidden layer's scale at which the lateral features begin
HEADROOM = 3.0  # standard deviations by which a lateral unit stays above the ReLU's 0 on the training views

Layer = tuple[np.ndarray, np.ndarray]  # weight, (classes, inputs), and bias, (classes,)
Progress = Callable[[int, float, float], None]  # epochs done, training loss, cross-validated accuracy


@dataclass(frozen=True)
class Hidden:
    """What the hidden layers of the older columns say of n samples: task to float32 (views, n, units).

    The first view is the crop as it is, the others are random ones.
    """

    of_task: dict[str, np.ndarray]

    def rows(self, task: str) -> np.ndarray:
        """float64 (views * n, units), view by view."""
        found = self.of_task[task]
        return found.reshape(-1, found.shape[-1]).astype(np.float64)


@dataclass(frozen=True)
class FewShot:
    """A trained column, and what cross-validation says of it.

    Attributes:
        weights: by the names of networks.shapes.column_shapes.
        parent: task whose column it began as.
        epochs: passes over the views that were made; 0 where the prototypes were not to be bettered.
        loss: cross-entropy on the training views at the end, in nats.
        held_back: float32 (n, classes), each sample's logits by a classifier that was trained without it.
        logits: float32 (n, classes), those of the column itself.
    """

    weights: Tensors
    parent: str
    epochs: int
    loss: float
    held_back: np.ndarray
    logits: np.ndarray


def train_few_shot(
    bundle: Bundle,
    hidden: Hidden,
    labels: np.ndarray,
    classes: int,
    parent: str,
    sources: Sequence[str],
    folds: np.ndarray,
    seconds: float = 20.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> FewShot:
    """Train a column beside the bundle's.

    Args:
        bundle: its column `parent` is what the new one begins as; that one's sources must be among `sources`.
        hidden: of the parent and of all sources.
        labels: int (n,), 0 to classes - 1, each at least twice.
        sources: tasks that the column draws on through adapters.
        folds: int (n,), by which fold a sample is held back; see `fold_of`.
        seconds: after which no further epoch begins.
        seed: of the batches.
    """
    column = begin_as(bundle, parent, sources, classes)
    own = hidden.rows(parent)
    lateral = _open_last_adapter(column, [hidden.rows(source) for source in sources], own)
    inputs = np.concatenate([own, lateral], axis=1)
    views = len(inputs) // len(labels)
    scaled = _Scaled.of(inputs)
    x, y = scaled.apply(inputs).astype(np.float32), np.tile(labels, views)
    embedding = _embedding_matrix(bundle, parent)

    def prototypes(rows: np.ndarray) -> Layer:
        plain = inputs[: len(labels)][rows]
        if embedding is None:
            return _class_means(scaled.apply(plain), labels[rows], classes)
        weight, bias = _people_means(plain[:, : own.shape[1]], labels[rows], classes, *embedding)
        return scaled.from_outside(np.pad(weight, ((0, 0), (0, lateral.shape[1]))), bias)

    everything = np.arange(len(labels))
    parts = [(everything[folds != fold], everything[folds == fold]) for fold in np.unique(folds)]
    trials = [_Trial(x, y, rows, held_back, prototypes(rows), seed) for rows, held_back in parts]
    caution = CAUTION if embedding else 0.0
    epochs, held_back = _stop_early(trials, labels, classes, caution, seconds, progress)
    final = _Trial(x, y, everything, everything, prototypes(everything), seed)
    for _ in range(epochs):
        final.advance()
    loss = float(-log_softmax(final.logits(x), axis=1)[np.arange(len(y)), y].mean())
    weight, bias = scaled.to_outside(*final.layer)
    with torch.no_grad():
        column.classifier.weight.copy_(torch.from_numpy(weight))
        column.classifier.bias.copy_(torch.from_numpy(bias))
    logits = (inputs[: len(labels)] @ weight.T + bias).astype(np.float32)
    return FewShot(to_numpy(column), parent, epochs, loss, held_back, logits)


def fold_of(labels: np.ndarray, seed: int, folds: int = FOLDS) -> np.ndarray:
    """int (n,): which fold holds a sample back, each class spread evenly over all of them at random."""
    rng = np.random.default_rng(seed)
    found = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        found[rng.permutation(rows)] = (np.arange(len(rows)) + rng.integers(folds)) % folds
    return found


def best_parent(hidden: Hidden, labels: np.ndarray, candidates: Sequence[str]) -> str:
    """The column whose hidden layer tells the classes apart best.

    Judged by ridge regression on the crops as they are, each answered without itself (the closed form of
    leaving one out).
    """
    targets = np.eye(labels.max() + 1)[labels]

    def accuracy(task: str) -> float:
        x = hidden.of_task[task][0].astype(np.float64)
        x = (x - x.mean(0)) / max(x.std(), 1e-9)
        x = np.pad(x, ((0, 0), (0, 1)), constant_values=1.0)
        gram = x @ x.T
        hat = gram @ np.linalg.inv(gram + x.shape[1] * np.eye(len(x)))
        left_out = (hat @ targets - np.diag(hat)[:, None] * targets) / (1 - np.diag(hat))[:, None]
        return float((left_out.argmax(1) == labels).mean())

    return max(candidates, key=accuracy)


def begin_as(bundle: Bundle, parent: str, sources: Sequence[str], classes: int) -> Column:
    """A new column, in evaluation mode, whose hidden layer says the same as the parent's.

    The weights of adapters that the parent lacks act on nothing yet.

    Raises:
        ValueError: the parent draws on a column that is not among the sources.
    """
    record = bundle.manifest.column(parent)
    if missing := [source for source in record.sources if source not in sources]:
        raise ValueError(f"'{parent}' draws on '{missing[0]}', which is not among the sources {list(sources)}")
    torch.manual_seed(0)
    column = Column(bundle.preset, classes, len(sources)).eval()
    own, begun = column.state_dict(), to_torch(bundle.columns[parent])
    places = [list(sources).index(source) for source in record.sources]
    for name, value in own.items():
        if name.startswith("classifier.") or name.startswith(f"adapters.{len(column.layers)}."):
            value.zero_()
        elif name.startswith("adapters."):
            _widen(name, value, begun.get(name), places, len(sources))
        elif value.shape == begun[name].shape:
            value.copy_(begun[name])
        else:  # what is lateral comes last, also in the hidden layer's maps laid out flat
            value.zero_()[:, : begun[name].shape[1]] = begun[name]
    column.load_state_dict(own)
    return column.requires_grad_(False)


def _widen(name: str, value: torch.Tensor, begun: torch.Tensor | None, places: list[int], sources: int) -> None:
    """An adapter's weights from the parent's, which has fewer sources or none."""
    if begun is None:
        return  # as it is drawn at random: what it feeds has weights of 0
    if name.endswith("bias"):
        value.copy_(begun)
    elif name.endswith("scale"):
        value.fill_(1.0)[places] = begun
    else:
        width = value.shape[1] // sources
        value.zero_()
        for i, place in enumerate(places):
            value[:, place * width : (place + 1) * width] = begun[:, i * width : (i + 1) * width]


def _open_last_adapter(column: Column, sources: Sequence[np.ndarray], own: np.ndarray) -> np.ndarray:
    """Let the last adapter bring in the principal components of the sources' hidden layers.

    A bias keeps its ReLU open, so that the components pass as they are.

    Args:
        sources: float64 (m, units) each, over all training views.
        own: float64 (m, units), the column's own hidden layer.

    Returns:
        float64 (m, adapter's units), what the classifier gets from it; (m, 0) where there is no source.
    """
    if not sources:
        return np.empty((len(own), 0))
    adapter = cast(Adapter, column.adapters[-1])
    scales = np.repeat([max(float(np.sqrt((part**2).mean())), 1e-9) for part in sources], own.shape[1])
    joined = np.concatenate(sources, axis=1)
    centred = joined / scales - (joined / scales).mean(0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    # From the largest on; what does not vary is left out.
    order = [i for i in np.argsort(-variances)[: adapter.reduce.out_channels] if variances[i] > 1e-9]
    components = centred @ directions[:, order]
    size = LATERAL_SHARE * np.sqrt((own**2).sum(1).mean() / max((components**2).sum(1).mean(), 1e-9))
    matrix = np.zeros((adapter.reduce.out_channels, joined.shape[1]))
    matrix[: len(order)] = size * directions[:, order].T / scales
    reached = joined @ matrix.T
    bias = HEADROOM * reached.std(0) - reached.min(0)
    with torch.no_grad():
        adapter.scale.fill_(1.0)
        adapter.reduce.weight.copy_(torch.from_numpy(matrix)[:, :, None, None])
        assert adapter.reduce.bias is not None
        adapter.reduce.bias.copy_(torch.from_numpy(bias))
    return np.maximum(reached + bias, 0.0)


def _embedding_matrix(bundle: Bundle, parent: str) -> tuple[np.ndarray, np.ndarray] | None:
    """The last layer of a parent that describes faces, (d, units) and (d,); None where it is a classifier.

    Only the part that reads its own hidden layer: where it has sources, prototypes do without theirs.
    """
    record = bundle.manifest.column(parent)
    if record.kind != "embedding":
        return None
    weights = bundle.columns[parent]
    units = bundle.preset.hidden_units
    return weights["classifier.weight"][:, :units].astype(np.float64), weights["classifier.bias"].astype(np.float64)


def _people_means(
    hidden: np.ndarray, labels: np.ndarray, classes: int, matrix: np.ndarray, offset: np.ndarray
) -> Layer:
    """A last layer whose logits are an embedding's products with the class means, SHARPNESS at a cosine of 1."""
    embeddings = hidden @ matrix.T + offset
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    means = class_means(embeddings / np.maximum(lengths, 1e-12), labels, classes)
    sharpness = SHARPNESS / max(float(lengths.mean()), 1e-12)
    return sharpness * means @ matrix, sharpness * means @ offset


def _class_means(inputs: np.ndarray, labels: np.ndarray, classes: int) -> Layer:
    """A last layer that decides for the nearest class mean: x m - |m|^2 / 2, over the spread within the classes."""
    means = np.stack([inputs[labels == label].mean(0) for label in range(classes)])
    spread = ((inputs - means[labels]) ** 2).sum(1).mean()
    sharpness = SHARPNESS / max(float(spread), 1e-9)
    return sharpness * means, -sharpness * (means**2).sum(1) / 2


@dataclass(frozen=True)
class _Scaled:
    """The classifier's inputs, centred and of a mean square of 1, on which it learns evenly."""

    mean: np.ndarray
    scale: float

    @classmethod
    def of(cls, inputs: np.ndarray) -> "_Scaled":
        mean = inputs.mean(0)
        return cls(mean, max(float(np.sqrt(((inputs - mean) ** 2).mean())), 1e-9))

    def apply(self, inputs: np.ndarray) -> np.ndarray:
        return (inputs - self.mean) / self.scale

    def from_outside(self, weight: np.ndarray, bias: np.ndarray) -> Layer:
        """A last layer for the inputs as they are, as one for scaled inputs."""
        return weight * self.scale, bias + weight @ self.mean

    def to_outside(self, weight: np.ndarray, bias: np.ndarray) -> Layer:
        """The other way round, float32."""
        outside = (weight / self.scale).astype(np.float32)
        return outside, (bias - outside @ self.mean).astype(np.float32)


class _Trial:
    """A last layer that learns from some of the samples, by Adam (Kingma and Ba 2015).

    In NumPy: torch's optimizers bring their compiler along, whose import takes longer than all of this.

    Args:
        x: float32 (views * n, inputs), scaled; y: int64 (views * n,).
        rows: int (m,), the samples that it learns from; held_back: those that it is tried on, as they are.
        begin: weight and bias to begin with.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, rows: np.ndarray, held_back: np.ndarray, begin: Layer, seed: int):
        samples = int(max(rows.max(), held_back.max())) + 1
        self._x, self._y, self.held_back = x, y, held_back
        self._rows = np.concatenate([rows + start for start in range(0, len(x), samples)])
        self._parameters = [part.astype(np.float32) for part in begin]
        self._moments = [(np.zeros_like(part), np.zeros_like(part)) for part in self._parameters]
        self._steps, self._rng = 0, np.random.default_rng(seed)

    @property
    def layer(self) -> Layer:
        weight, bias = self._parameters
        return weight, bias

    def logits(self, x: np.ndarray) -> np.ndarray:
        weight, bias = self._parameters
        return x @ weight.T + bias

    def advance(self) -> float:
        """One pass over the views. Returns the mean loss in nats."""
        order = self._rng.permutation(self._rows)
        return float(np.mean([self._step(order[i : i + BATCH]) for i in range(0, len(order), BATCH)]))

    def held_back_logits(self) -> np.ndarray:
        return self.logits(self._x[self.held_back])

    def _step(self, batch: np.ndarray) -> float:
        x, rows, labels = self._x[batch], np.arange(len(batch)), self._y[batch]
        log_probabilities = log_softmax(self.logits(x), axis=1)
        error = np.exp(log_probabilities)
        error[rows, labels] -= 1
        self._steps += 1
        gradients = error.T @ x / len(batch), error.mean(0)
        for value, gradient, (first, second) in zip(self._parameters, gradients, self._moments, strict=True):
            first += (1 - BETAS[0]) * (gradient - first)
            second += (1 - BETAS[1]) * (gradient**2 - second)
            corrected = [m / (1 - beta**self._steps) for m, beta in zip((first, second), BETAS, strict=True)]
            value -= LEARNING_RATE * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        return float(-log_probabilities[rows, labels].mean())


def _stop_early(
    trials: Sequence[_Trial],
    labels: np.ndarray,
    classes: int,
    caution: float,
    seconds: float,
    progress: Progress | None,
) -> tuple[int, np.ndarray]:
    """Train all trials side by side until their held-back samples gain no more.

    Returns:
        How many epochs were best, 0 unless they better the prototypes by more than `caution` standard errors, and
        each sample's logits then, float32 (n, classes).
    """
    deadline = time.monotonic() + seconds
    held_back = _held_back(trials, len(labels), classes)
    first = best = held_back.argmax(1) == labels
    epochs, chosen, loss = 0, held_back, float("nan")
    for epoch in range(1, EPOCHS + 1):
        if time.monotonic() > deadline or epoch - epochs > PATIENCE:
            break
        loss = float(np.mean([trial.advance() for trial in trials]))
        found = _held_back(trials, len(labels), classes)
        right = found.argmax(1) == labels
        if right.mean() > best.mean():
            best, epochs, chosen = right, epoch, found
        if progress:
            progress(epoch, loss, float(best.mean()))
    gain = best.astype(float) - first
    if gain.mean() <= caution * gain.std() / np.sqrt(len(labels)):
        return 0, held_back
    return epochs, chosen


def _held_back(trials: Sequence[_Trial], samples: int, classes: int) -> np.ndarray:
    found = np.zeros((samples, classes), np.float32)
    for trial in trials:
        found[trial.held_back] = trial.held_back_logits()
    return found
