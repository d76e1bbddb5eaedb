"""The tables and Figure 5 as pictures.

matplotlib comes with the train extra: import this module where a plot is asked for, not before.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...bundle.files import write_atomically
from .paper import FROZEN, TASKS
from .statistics import Curve, Few, Row

DPI = 120
PAPER, OURS, PLAIN = "tab:grey", "tab:blue", "tab:orange"


def plot_rows(file: Path, rows: Sequence[Row], title: str) -> None:
    """A panel a task: the paper's and our accuracy of each row, ours with its standard error.

    Dashed lines are the plain columns, which the others are to be compared with.
    """
    tasks = [task for task in TASKS if any(row.task == task for row in rows)]
    most = max(sum(row.task == task for row in rows) for task in tasks)
    figure = Figure(figsize=(11, 2 * (1.3 + 0.34 * most)), layout="constrained")
    panels = figure.subplots(2, (len(tasks) + 1) // 2, squeeze=False).ravel()
    for axes, task in zip(panels, tasks, strict=False):
        _plot_task(axes, task, [row for row in rows if row.task == task])
    for axes in panels[len(tasks) :]:
        axes.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(title)
    _save(figure, file)


def _plot_task(axes: Axes, task: str, rows: Sequence[Row]) -> None:
    places = np.arange(len(rows))
    paper = np.array([row.paper for row in rows])
    errors = np.nan_to_num([row.paper_error for row in rows])
    axes.errorbar(paper, places - 0.12, xerr=errors, fmt="s", color=PAPER, markersize=5, capsize=2, label="paper")
    done = [i for i, row in enumerate(rows) if row.ours]
    ours = [rows[i].ours for i in done]
    spread = np.nan_to_num([seeds.error for seeds in ours if seeds])
    means = [seeds.mean for seeds in ours if seeds]
    axes.errorbar(
        means, places[done] + 0.12, xerr=spread, fmt="o", color=OURS, capsize=2, label="ours ± standard error"
    )
    axes.axvline(FROZEN[task][0], color=PAPER, linestyle="--", linewidth=1, label="paper, without lateral connections")
    for row in rows:
        if row.ours and row.cell and not row.cell.sources and not row.cell.retrain_encoder:
            label = "ours, without lateral connections"
            axes.axvline(row.ours.mean, color=OURS, linestyle="--", linewidth=1, label=label)
    axes.set_yticks(places, [row.label + (" *" if row.significant else "") for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)  # the first row above
    axes.set_title(task)
    axes.set_xlabel("accuracy on test pictures, %")
    axes.grid(axis="x", alpha=0.3)


def plot_learning(file: Path, pairs: Sequence[tuple[Curve | None, Curve | None]], title: str) -> None:
    """Figure 5: a panel a task, with (blue) and without (orange) lateral connections.

    Args:
        pairs: without and with; a band is the standard error over the runs, and thin lines are the runs.
    """
    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    for axes, task, pair in zip(panels, TASKS, pairs, strict=True):
        for curve, colour, name in zip(pair, (PLAIN, OURS), ("without", "with"), strict=True):
            if curve is None:
                continue
            epochs = np.arange(1, curve.values.shape[1] + 1)
            drawn_on = f": {', '.join(curve.cell.sources)}" if curve.cell.sources else ""
            label = f"{name} lateral connections{drawn_on} (runs: {len(curve.values)})"
            axes.plot(epochs, curve.values.T, color=colour, linewidth=0.5, alpha=0.5)
            axes.fill_between(epochs, curve.mean - curve.error, curve.mean + curve.error, color=colour, alpha=0.25)
            axes.plot(epochs, curve.mean, color=colour, marker="o", markersize=2.5, label=label)
        axes.set(title=task, xlabel="epoch", ylabel="accuracy on validation pictures, %")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, loc="lower right")
    figure.suptitle(title)
    _save(figure, file)


def plot_few(file: Path, rows: Sequence[Few], title: str) -> None:
    """A panel a task: accuracy by the number of pictures, with (blue) and without (orange) lateral connections."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    for axes, task in zip(figure.subplots(2, 2).ravel(), TASKS, strict=True):
        of_task = sorted((row for row in rows if row.task == task), key=lambda row: row.train)
        pictures = [row.train for row in of_task]
        for colour, name in ((PLAIN, "without"), (OURS, "with")):
            seeds = [row.without if name == "without" else row.lateral for row in of_task]
            errors = np.nan_to_num([one.error for one in seeds])
            label = f"{name} lateral connections"
            axes.errorbar(
                pictures, [one.mean for one in seeds], yerr=errors, fmt="o-", color=colour, capsize=2, label=label
            )
        axes.set(title=task, xlabel="training pictures", ylabel="accuracy on test pictures, %")
        axes.grid(alpha=0.3)
        if of_task:
            axes.set_xscale("log")
            axes.legend(fontsize=8, loc="lower right")
    figure.suptitle(title)
    _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    # A Figure of its own draws with Agg, without pyplot and its windows.
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=DPI)
    write_atomically(file, data.getvalue())
