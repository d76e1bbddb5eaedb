"""How a BEGAN training went: its log, as CSV and as a plot."""

import csv
import io
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from ..bundle.files import write_atomically


@dataclass(frozen=True)
class LogRow:
    """Means over the steps since the row before.

    Attributes:
        step: steps done.
        l_real, l_fake: L(x) and L(G(z)) of equation 1, mean absolute error a pixel.
        k: k_t, after the last of the steps.
        m: the measure of convergence, L(x) + |gamma L(x) - L(G(z))|.
        learning_rate: of the last of the steps.
        seconds: spent on training up to here.
    """

    step: int
    l_real: float
    l_fake: float
    k: float
    m: float
    learning_rate: float
    seconds: float


@dataclass
class BeganHistory:
    """What a training did.

    Attributes:
        epochs: passes over the pictures that were really done.
        budgets: what it ran under, {"step", "epochs", "minutes"} each, from which step on.
        rows: the log.
    """

    epochs: float = 0.0
    budgets: list[dict] = field(default_factory=list)
    rows: list[LogRow] = field(default_factory=list)


def write_log(file: Path, rows: list[LogRow]) -> None:
    """Write a CSV file: the names of LogRow's fields, then a line a row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [column.name for column in fields(LogRow)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in asdict(row).items()}
        )
    write_atomically(file, text.getvalue().encode())


def write_plot(file: Path, rows: list[LogRow]) -> None:
    """Plot M, L(x), L(G(z)) and k over the steps, as PNG."""
    from .plots import plot_curves  # matplotlib, which only a plot needs

    steps = [row.step for row in rows]
    curves = {
        "M": [row.m for row in rows],
        "L(x)": [row.l_real for row in rows],
        "L(G(z))": [row.l_fake for row in rows],
        "k": [row.k for row in rows],
    }
    lines = {name: (steps, values) for name, values in curves.items()}
    plot_curves(file, lines, "step", "mean absolute error a pixel; k", "Convergence of BEGAN")
