"""The tables and Figure 5 as pictures.

matplotlib comes with the train extra: import this module where a plot is asked for, not before.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...bundle.files import write_atomically
from .paper import FROZEN, TASKS
from .statistics import Curve, Few, Row, Shares

DPI = 120
PAPER, OURS, PLAIN = "tab:grey", "tab:blue", "tab:orange"
CHANCE: dict[str, Any] = {"color": "black", "linestyle": ":", "linewidth": 1}


def plot_rows(file: Path, rows: Sequence[Row], title: str) -> None:
    """A panel a task: the paper's and our accuracy of each row, ours with its standard error.

    Dashed lines are the plain columns, which the others are to be compared with; a dotted one is what naming the most
    frequent class alone reaches.
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
    if np.isfinite(rows[-1].majority):
        axes.axvline(rows[-1].majority, label="majority class", **CHANCE)
    axes.set_yticks(places, [row.label + (" *" if row.significant else "") for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)  # the first row above
    axes.set_title(task)
    axes.set_xlabel("accuracy on test pictures, %")
    axes.grid(axis="x", alpha=0.3)


def plot_learning(file: Path, pairs: Sequence[tuple[Curve | None, Curve | None]], title: str, majority: Shares) -> None:
    """Figure 5: a panel a task, with (blue) and without (orange) lateral connections.

    Args:
        pairs: without and with; a band is the standard error over the runs, and thin lines are the runs.
        majority: of the validation pictures.
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
        if task in majority and any(pair):
            axes.axhline(majority[task], label="majority class", **CHANCE)
        axes.set(title=task, xlabel="epoch", ylabel="accuracy on validation pictures, %")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, loc="best")
    figure.suptitle(title)
    _save(figure, file)


def plot_few(file: Path, rows: Sequence[Few], title: str) -> None:
    """A panel a task: macro F1 by the number of pictures, with (blue) and without (orange) lateral connections.

    Filled marks are of pictures drawn evenly from the classes. Hollow ones are of all pictures of the other tables, in
    natural proportion, and so not on the line.
    """
    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    for axes, task in zip(panels, TASKS, strict=True):
        of_task = [row for row in rows if row.task == task]
        even, all_of_them = ([row for row in of_task if bool(row.per_class) == few] for few in (True, False))
        _plot_few(axes, even, "o-", "evenly from the classes")
        _plot_few(axes, all_of_them, "s", "in natural proportion", markerfacecolor="none")
        hollow = f" (hollow: {all_of_them[0].of_a_class})" if all_of_them else ""
        axes.set(title=f"{task}{hollow}", xlabel="training pictures", ylabel="macro F1 on test pictures, %")
        axes.grid(alpha=0.3)
        if of_task:
            axes.set_xscale("log")
            axes.set_xticks([row.train for row in even or of_task], [str(row.train) for row in even or of_task])
            axes.minorticks_off()
    entries = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries[label] = handle
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(title)
    _save(figure, file)


def _plot_few(axes: Axes, rows: Sequence[Few], marks: str, drawn: str, **style: Any) -> None:
    for colour, name in ((PLAIN, "without"), (OURS, "with")) if rows else ():
        seeds = [row.without if name == "without" else row.lateral for row in rows]
        axes.errorbar(
            [row.train for row in rows],
            [one.mean for one in seeds],
            yerr=np.nan_to_num([one.error for one in seeds]),
            fmt=marks,
            color=colour,
            capsize=2,
            label=f"{name} lateral connections, pictures {drawn}",
            **style,
        )


def _save(figure: Figure, file: Path) -> None:
    # A Figure of its own draws with Agg, without pyplot and its windows.
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=DPI)
    write_atomically(file, data.getvalue())
