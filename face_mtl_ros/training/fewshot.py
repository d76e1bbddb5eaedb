"""A column from a few pictures a class, begun as an older column with prototypes for its last layer.

The new column (Table III, with its lateral connections) starts as a copy of an older one, its parent, so that its
hidden layer says at once what the parent's says. Adapters open at the last layer alone, where they bring in what the
hidden layers of the source columns vary most in, and where it draws on a foreign face descriptor, all of that. The
classifier starts as prototypes: for people, the mean embedding and the mean foreign descriptor of each, so that the
logits are scaled cosines to them; else the class means. Then it is trained on views that went through the frozen
network once. How long is decided by cross-validation: with a good embedding and few pictures, not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from scipy.special import log_softmax

from ..bundle.bundle import Bundle, Tensors
from ..bundle.network import to_numpy, to_torch
from ..networks.column import Adapter, Column, DescriptorAdapter
from .last_layer import Layer, Progress, Scaled, Trial, stop_early
from .prototypes import embedding_matrix, nearest_descriptor, nearest_embedding, nearest_mean

FOLDS = 5
CAUTION = 2.0  # standard errors by which training must better the prototypes of people; less is one sample's chance
# Of the embedding's part in the first logits beside a foreign descriptor's. On LFW's val people, enrolled by three to
# five pictures, dlib's descriptor and a tenth to a quarter of the embedding err two thirds as often as dlib's alone.
EMBEDDING_SHARE = 0.25
LATERAL_SHARE = 0.5  # of the own hidden layer's scale at which the lateral features begin
HEADROOM = 3.0  # standard deviations by which a unit of these adapters stays above the ReLU's 0 on the training views


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
    described: np.ndarray | None = None,
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
        described: float (n, d) of length 1, the samples by the foreign descriptor that the column draws on, if it does.
            No view reaches it: it has learned by itself what does not matter.
        seconds: after which no further epoch begins.
        seed: of the batches.
    """
    column = begin_as(bundle, parent, sources, classes, 0 if described is None else described.shape[1])
    own = hidden.rows(parent)
    views = len(own) // len(labels)
    parts = [own, _open_last_adapter(column, [hidden.rows(source) for source in sources], own)]
    if described is not None:
        described = described.astype(np.float64)
        parts.append(np.tile(_open_descriptor_adapter(column, described), (views, 1)))
    inputs = np.concatenate(parts, axis=1)
    scaled = Scaled.of(inputs)
    x, y = scaled.apply(inputs).astype(np.float32), np.tile(labels, views)
    embedding = embedding_matrix(bundle, parent)

    def prototypes(rows: np.ndarray) -> Layer:
        if embedding is None and described is None:
            return nearest_mean(scaled.apply(inputs[rows]), labels[rows], classes)
        weight, bias = np.zeros((classes, inputs.shape[1])), np.zeros(classes)
        if embedding is not None:
            share, units = 1.0 if described is None else EMBEDDING_SHARE, own.shape[1]
            of_embedding, offset = nearest_embedding(own[rows], labels[rows], classes, embedding)
            weight[:, :units], bias = share * of_embedding, share * offset
        if described is not None:
            adapter = cast(DescriptorAdapter, column.foreign)
            of_descriptor, offset = nearest_descriptor(described[rows], labels[rows], classes, adapter)
            weight[:, -of_descriptor.shape[1] :] = of_descriptor
            bias = bias + offset
        return scaled.from_outside(weight, bias)

    everything = np.arange(len(labels))
    splits = [(everything[folds != fold], everything[folds == fold]) for fold in np.unique(folds)]
    trials = [Trial(x, y, rows, held_back, prototypes(rows), seed) for rows, held_back in splits]
    caution = 0.0 if embedding is None and described is None else CAUTION
    epochs, held_back = stop_early(trials, labels, classes, caution, seconds, progress)
    final = Trial(x, y, everything, everything, prototypes(everything), seed)
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


def begin_as(bundle: Bundle, parent: str, sources: Sequence[str], classes: int, descriptor: int = 0) -> Column:
    """A new column, in evaluation mode, whose hidden layer says the same as the parent's.

    The weights of adapters that the parent lacks act on nothing yet, as those over a foreign descriptor, whose number
    of dimensions is given (0: none).

    Raises:
        ValueError: the parent draws on a column that is not among the sources.
    """
    record = bundle.manifest.column(parent)
    if missing := [source for source in record.sources if source not in sources]:
        raise ValueError(f"'{parent}' draws on '{missing[0]}', which is not among the sources {list(sources)}")
    torch.manual_seed(0)
    column = Column(bundle.preset, classes, len(sources), descriptor, record.skip).eval()
    own, begun = column.state_dict(), to_torch(bundle.columns[parent])
    places = [list(sources).index(source) for source in record.sources]
    for name, value in own.items():
        if name.startswith("classifier.") or name.startswith(f"adapters.{len(column.layers)}."):
            value.zero_()
        elif name.startswith("foreign."):
            continue  # the classifier's weights of 0 let nothing of it pass
        elif name.startswith("adapters."):
            _widen(name, value, begun.get(name), places, len(sources))
        elif value.shape == begun[name].shape:
            value.copy_(begun[name])
        else:  # what is lateral comes last
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


def _open_descriptor_adapter(column: Column, described: np.ndarray) -> np.ndarray:
    """Let the adapter pass a foreign descriptor's share in the space that the samples span, so also their means.

    Where that has more dimensions than the adapter has units, the least of it is lost. A bias keeps its ReLU open.

    Args:
        described: float64 (n, d) of length 1.

    Returns:
        float64 (n, adapter's units), what the classifier gets from it.
    """
    adapter = cast(DescriptorAdapter, column.foreign)
    basis = np.linalg.svd(described, full_matrices=False)[2][: adapter.reduce.out_features]
    matrix = np.zeros((adapter.reduce.out_features, described.shape[1]))
    matrix[: len(basis)] = basis
    reached = described @ matrix.T * float(adapter.scale)
    bias = HEADROOM * reached.std(0) - reached.min(0)
    with torch.no_grad():
        adapter.reduce.weight.copy_(torch.from_numpy(matrix))
        adapter.reduce.bias.copy_(torch.from_numpy(bias))
    return np.maximum(reached + bias, 0.0)
