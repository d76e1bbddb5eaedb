"""Pictures of how a training or an evaluation went, as PNG files.

matplotlib comes with the train extra: import this module where a plot is asked for, not before.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..bundle.files import write_atomically
from .evaluation import CALIBRATION_BINS

DPI = 120
ANNOTATED = 12  # classes up to which a cell shows its count and share; beyond, colours alone are readable
FEW = 20  # pictures; the bars of a reliability diagram that stand for fewer are paler
LABELLED = 100  # classes up to which each has its name at the axis


def plot_confusion(file: Path, confusion: np.ndarray, labels: Sequence[str], title: str) -> None:
    """A confusion matrix: rows the true label, columns the predicted one, coloured by the share of the row.

    Args:
        file: where the PNG goes; an older one is replaced.
        confusion: int (classes, classes), rows the true label, as Evaluation has it.
        labels: a name a class.
        title: what was evaluated; the number of pictures and the accuracy are added.
    """
    pictures, n = confusion.sum(1, keepdims=True), int(confusion.sum())
    shares = confusion / np.maximum(pictures, 1)
    side = 3.0 + min(0.75 * len(labels), 12)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true label's pictures")
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(f"{title}\naccuracy {np.trace(confusion) / max(n, 1):.1%}, {n} pictures")
    if len(labels) <= LABELLED:
        small = 9 if len(labels) <= ANNOTATED else 6
        axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor", fontsize=small)
        axes.set_yticks(range(len(labels)), labels, fontsize=small)
    if len(labels) <= ANNOTATED:
        for (row, column), share in np.ndenumerate(shares):
            colour = "white" if share > 0.5 else "black"
            if confusion[row, column]:
                text = f"{share:.0%}\n{confusion[row, column]}"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    _save(figure, file)


def plot_reliability(file: Path, probabilities: np.ndarray, labels: np.ndarray, title: str) -> None:
    """A reliability diagram: how often a column is right by how sure it says it is, above how often it is so sure.

    Args:
        file: where the PNG goes; an older one is replaced.
        probabilities: float (n, classes), n >= 1.
        labels: int (n,).
        title: what was evaluated, and its calibration error.
    """
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    bins = np.digitize(confidence, edges[1:-1], right=True)
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)
    filled = counts > 0
    alpha = np.clip(counts[filled] / FEW, 0.15, 1)
    accuracy = np.bincount(bins, right, CALIBRATION_BINS)[filled] / counts[filled]
    said = np.bincount(bins, confidence, CALIBRATION_BINS)[filled] / counts[filled]

    figure = Figure(figsize=(5.5, 6.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width, centres = 1 / CALIBRATION_BINS, (edges[:-1] + edges[1:]) / 2
    bars = above.bar(centres[filled], accuracy, width, color="tab:blue", edgecolor="white", label="share right")
    above.plot([0, 1], [0, 1], "--", color="black", linewidth=1, label="perfectly calibrated")
    above.plot(said, accuracy, "o", color="tab:orange", markersize=4, label="mean confidence of the bin")
    above.set(ylabel="share right", ylim=(0, 1), xlim=(0, 1))
    above.set_title(title, fontsize=10)
    above.legend(loc="upper left", fontsize=8)
    # After the legend, which would take over the first bar's shade.
    for bar, shade in zip(bars, alpha, strict=True):
        bar.set_alpha(shade)
    below.bar(centres, counts / counts.sum(), width, color="tab:grey", edgecolor="white")
    below.set(xlabel="confidence, the highest probability", ylabel="share of pictures")
    _save(figure, file)


def plot_curves(
    file: Path, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], x_label: str, y_label: str, title: str
) -> None:
    """Learning curves: lines over epochs or steps.

    Args:
        file: where the PNG goes; an older one is replaced.
        curves: a line's name to its x and its y values, of one length a line; NaN leaves a gap.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, (x, y) in curves.items():
        axes.plot(x, y, marker="o" if len(x) <= 40 else None, markersize=3, label=name)
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend()
    _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    # A Figure of its own draws with Agg, without pyplot and its windows.
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=DPI)
    write_atomically(file, data.getvalue())
