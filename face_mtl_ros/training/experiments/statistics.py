"""From runs to the rows of a table: means, standard errors, and tests of progressive columns against plain ones."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from ..evaluation import Seeds, mean_and_error
from .cells import LABELS, TABLES, Cell
from .paper import BEST, FROZEN, LITERATURE, PROGRESSIVE, RETRAINED

ALPHA = 0.05
REACHED = 0.95  # of what the plain columns end with: where a curve counts as having got there
NAN = float("nan")


@dataclass(frozen=True)
class Row:
    """A row of a table. Accuracies, errors and gains are in %; NaN where there is none.

    Attributes:
        task: what is recognised.
        label: the source columns, "frozen" or "re-trained" encoder, or another model's name.
        cell: ours; None for another model.
        paper, paper_error: the paper's mean and standard error.
        ours: mean and standard error over our runs; None where there are none yet.
        paper_gain, gain: above the plain column of the task (frozen encoder, no sources), in the paper and here.
        p: of Welch's t-test of our runs against those of the plain column.
        adjusted: p, adjusted for the number of tests in the table (Benjamini and Hochberg 1995).
        sampling: standard error of one run that the number of test pictures brings about, sqrt(a (1 - a) / n).
        train, test, epochs: pictures and epochs of our runs; 0 where there are none.
    """

    task: str
    label: str
    cell: Cell | None
    paper: float
    paper_error: float = NAN
    ours: Seeds | None = None
    paper_gain: float = NAN
    gain: float = NAN
    p: float = NAN
    adjusted: float = NAN
    sampling: float = NAN
    train: int = 0
    test: int = 0
    epochs: float = 0.0

    @property
    def difference(self) -> float:
        """Ours minus the paper's."""
        return self.ours.mean - self.paper if self.ours else NAN

    @property
    def significant(self) -> bool:
        return self.adjusted < ALPHA  # NaN is not


Results = Mapping[str, Sequence[Mapping[str, Any]]]


def by_cell(results: Sequence[Mapping[str, Any]]) -> Results:
    """Runs by the name of their cell, in the order of their seeds."""
    cells: dict[str, list[Mapping[str, Any]]] = {}
    for result in sorted(results, key=lambda one: one["seed"]):
        cells.setdefault(result["cell"], []).append(result)
    return cells


def table_rows(table: str, results: Results) -> list[Row]:
    """The rows of table4, table5 or table6, by tasks, with what the runs came to."""
    rows = [_row(cell, table, results) for cell in TABLES[table]]
    if table == "table6":
        rows = [Row(task, name, None, value) for task, (name, value) in LITERATURE.items()] + rows
    tested = [i for i, row in enumerate(rows) if np.isfinite(row.p)]
    if tested:
        adjusted = stats.false_discovery_control([rows[i].p for i in tested])
        for i, value in zip(tested, adjusted, strict=True):
            rows[i] = Row(**{**rows[i].__dict__, "adjusted": float(value)})
    tasks = list(FROZEN)
    return sorted(rows, key=lambda row: tasks.index(row.task))


def welch(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """p of Welch's two-sided t-test; NaN where there are less than two values a side, or no spread at all."""
    if min(len(first), len(second)) < 2 or np.ptp(first) == np.ptp(second) == 0:
        return NAN
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of nearly identical values
        return float(stats.ttest_ind(first, second, equal_var=False).pvalue)


def _row(cell: Cell, table: str, results: Results) -> Row:
    paper, error = _paper(cell, table)
    plain = cell == Cell(cell.task)
    label = "re-trained encoder" if cell.retrain_encoder else ", ".join(cell.sources) or "frozen encoder"
    head = Row(cell.task, label, cell, paper, error, paper_gain=NAN if plain else paper - FROZEN[cell.task][0])
    found = results.get(cell.name, [])
    if not found:
        return head
    accuracies = [100 * one["accuracy"] for one in found]
    baseline = [100 * one["accuracy"] for one in results.get(cell.task, [])]
    ours, share = mean_and_error(accuracies), float(np.mean(accuracies)) / 100
    compared = not plain and bool(baseline)
    measured = {
        "ours": ours,
        "gain": ours.mean - float(np.mean(baseline)) if compared else NAN,
        "p": welch(accuracies, baseline) if compared else NAN,
        "sampling": 100 * float(np.sqrt(share * (1 - share) / found[0]["test"])),
        "train": found[0]["train"],
        "test": found[0]["test"],
        "epochs": found[0]["epochs"],
    }
    return Row(**{**head.__dict__, **measured})


def _paper(cell: Cell, table: str) -> tuple[float, float]:
    if cell.retrain_encoder:
        return RETRAINED[cell.task]
    if not cell.sources:
        return FROZEN[cell.task]
    if table == "table6":
        return BEST[cell.task][1], NAN
    return PROGRESSIVE[cell.task][cell.sources], NAN


@dataclass(frozen=True)
class Few:
    """A task learned from some pictures of each class, without lateral connections and with the paper's best ones.

    Attributes:
        per_class: pictures of a class at most; 0 for all that the experiment has.
        train: pictures in all.
        without, lateral: accuracy in % on the test pictures.
        p: of Welch's t-test of one against the other.
    """

    task: str
    sources: tuple[str, ...]
    per_class: int
    train: int
    without: Seeds
    lateral: Seeds
    p: float

    @property
    def gain(self) -> float:
        """In percentage points."""
        return self.lateral.mean - self.without.mean


def few_rows(results: Results) -> list[Few]:
    """A row for each task and number of pictures of which both columns have been trained; ends with all pictures."""
    rows = []
    for task, (sources, _) in BEST.items():
        for count in (*LABELS[task], 0):
            both = [results.get(Cell(task, drawn_on, per_class=count).name, []) for drawn_on in ((), sources)]
            if all(both):
                without, lateral = ([100 * one["accuracy"] for one in found] for found in both)
                given = mean_and_error(without), mean_and_error(lateral), welch(without, lateral)
                rows.append(Few(task, sources, count, both[0][0]["train"], *given))
    return rows


@dataclass(frozen=True)
class Curve:
    """Learning curves of a cell: float (runs, epochs), accuracies in % on the validation pictures."""

    cell: Cell
    values: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return self.values.mean(0)

    @property
    def error(self) -> np.ndarray:
        """Standard error over the runs, 0 for a single one."""
        runs = len(self.values)
        return self.values.std(0, ddof=1) / np.sqrt(runs) if runs > 1 else np.zeros(self.values.shape[1])

    def epochs_to(self, accuracy: float) -> np.ndarray:
        """float (runs,): the first epoch after which it was reached, counted from 1; one more than all if never."""
        reached = self.values >= accuracy
        return np.where(reached.any(1), reached.argmax(1) + 1, self.values.shape[1] + 1).astype(float)


def curve_of(cell: Cell, results: Results) -> Curve | None:
    """The curves of a cell's runs; None where none has a whole epoch."""
    curves = [100 * np.array(one["curve"]) for one in results.get(cell.name, []) if one["curve"]]
    if not curves:
        return None
    epochs = min(len(curve) for curve in curves)
    return Curve(cell, np.stack([curve[:epochs] for curve in curves]))


@dataclass(frozen=True)
class Speed:
    """How a task's learning with lateral connections compares with that without.

    Attributes:
        start: accuracies in % after the first epoch, (without, with); start_p of Welch's t-test.
        target: the accuracy in % that counts as reached, REACHED of the mean with which the plain columns end.
        epochs: epochs until then, (without, with); epochs_p likewise.
    """

    task: str
    sources: tuple[str, ...]
    start: tuple[Seeds, Seeds]
    start_p: float
    target: float
    epochs: tuple[Seeds, Seeds]
    epochs_p: float


def speeds(results: Results) -> list[Speed]:
    """Of each task whose plain column and whose best progressive one have been trained."""
    found = []
    for task, (sources, _) in BEST.items():
        plain, lateral = curve_of(Cell(task), results), curve_of(Cell(task, sources), results)
        if plain is None or lateral is None:
            continue
        target = REACHED * float(plain.mean[-1])
        starts = plain.values[:, 0], lateral.values[:, 0]
        epochs = plain.epochs_to(target), lateral.epochs_to(target)
        found.append(
            Speed(
                task,
                sources,
                (mean_and_error(starts[0]), mean_and_error(starts[1])),
                welch(*starts),
                target,
                (mean_and_error(epochs[0]), mean_and_error(epochs[1])),
                welch(*epochs),
            )
        )
    return found
