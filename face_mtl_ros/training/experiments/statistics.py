"""From runs to the rows of a table: means, standard errors, and tests of progressive columns against plain ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..evaluation import Seeds, mean_and_error
from .cells import LABELS, TABLES, Cell
from .inference import ALPHA, NAN, adjust, detectable_difference, has_learned, sampling_error, welch
from .paper import BEST, FROZEN, LITERATURE, PROGRESSIVE, RETRAINED

REACHED = 0.95  # of what the plain columns end with: where a curve counts as having got there

Runs = Sequence[Mapping[str, Any]]
Results = Mapping[str, Runs]
Shares = Mapping[str, float]  # task to the share of the most frequent class, in %


@dataclass(frozen=True)
class Row:
    """A row of a table. Accuracies, errors and gains are in %; NaN where there is none.

    Attributes:
        task: what is recognised.
        label: the source columns, "frozen" or "re-trained" encoder, or another model's name.
        cell: ours; None for another model.
        paper, paper_error: the paper's mean and standard error.
        ours, macro_f1: mean and standard error over our runs; None where there are none yet.
        majority: what naming the most frequent class of the test pictures alone reaches.
        paper_gain: above the plain column of the task (frozen encoder, no sources), in the paper.
        detectable: the smallest gain that a test of these runs would show in four of five trials.
        p: of Welch's t-test of our runs against those of the plain column, of the seeds that both have.
        adjusted: p, adjusted for the number of tests in the table.
        sampling: standard error of one run that the number of test pictures brings about.
        train, test, epochs, devices: of our runs; 0 and "" where there are none.
        same_device: the plain column was trained on the same device, in the same precision.
        by_seed: our gain likewise, with each seed that ours and the plain column share.
    """

    task: str
    label: str
    cell: Cell | None
    paper: float
    paper_error: float = NAN
    ours: Seeds | None = None
    macro_f1: Seeds | None = None
    majority: float = NAN
    paper_gain: float = NAN
    detectable: float = NAN
    p: float = NAN
    adjusted: float = NAN
    sampling: float = NAN
    train: int = 0
    test: int = 0
    epochs: float = 0.0
    devices: str = ""
    same_device: bool = True
    by_seed: Mapping[int, float] = field(default_factory=dict)

    @property
    def gain(self) -> float:
        """Ours above the plain column, over the seeds that both have."""
        return float(np.mean(list(self.by_seed.values()))) if self.by_seed else NAN

    @property
    def difference(self) -> float:
        """Ours minus the paper's."""
        return self.ours.mean - self.paper if self.ours else NAN

    @property
    def significant(self) -> bool:
        return self.adjusted < ALPHA  # NaN is not

    @property
    def learned(self) -> bool | None:
        """Whether ours is better than the majority class; None where that is not known."""
        if self.ours is None or np.isnan(self.majority):
            return None
        return has_learned(self.ours, self.test, self.majority)


def by_cell(results: Runs) -> Results:
    """Runs by the name of their cell, in the order of their seeds."""
    cells: dict[str, list[Mapping[str, Any]]] = {}
    for result in sorted(results, key=lambda one: one["seed"]):
        cells.setdefault(result["cell"], []).append(result)
    return cells


def majorities(configuration: Mapping[str, Any], name: str = "majority") -> dict[str, float]:
    """Each task's share of the most frequent class, in %, of those of which the folder has it.

    Args:
        name: `majority` of the test pictures, `val_majority` of those for the curves.
    """
    return {task: 100 * of[name] for task, of in configuration["data"].items() if name in of}


def table_rows(table: str, results: Results, majority: Shares | None = None) -> list[Row]:
    """The rows of table4, table5 or table6, by tasks, with what the runs came to."""
    rows = [
        replace(_row(cell, table, results), majority=(majority or {}).get(cell.task, NAN)) for cell in TABLES[table]
    ]
    rows = [replace(row, adjusted=p) for row, p in zip(rows, adjust([row.p for row in rows]), strict=True)]
    if table == "table6":
        rows = [Row(task, name, None, value) for task, (name, value) in LITERATURE.items()] + rows
    tasks = list(FROZEN)
    return sorted(rows, key=lambda row: tasks.index(row.task))


def _row(cell: Cell, table: str, results: Results) -> Row:
    paper, error = _paper(cell, table)
    plain = cell == Cell(cell.task)
    label = "re-trained encoder" if cell.retrain_encoder else ", ".join(cell.sources) or "frozen encoder"
    head = Row(cell.task, label, cell, paper, error, paper_gain=NAN if plain else paper - FROZEN[cell.task][0])
    found = results.get(cell.name, [])
    if not found:
        return head
    ours = mean_and_error(_percent(found))
    # A run is compared with those that began with the same weights and order.
    mine, others = _same_seeds(found, [] if plain else results.get(cell.task, []))
    compared = _percent(mine), _percent(others)
    return replace(
        head,
        ours=ours,
        macro_f1=mean_and_error(_percent(found, "macro_f1")),
        by_seed=_differences(mine, others),
        detectable=detectable_difference(*compared),
        p=welch(*compared),
        sampling=sampling_error(ours.mean, found[0]["test"]),
        train=found[0]["train"],
        test=found[0]["test"],
        epochs=found[0]["epochs"],
        devices=_devices(found),
        same_device=_devices(mine) == _devices(others),
    )


def _paper(cell: Cell, table: str) -> tuple[float, float]:
    if cell.retrain_encoder:
        return RETRAINED[cell.task]
    if not cell.sources:
        return FROZEN[cell.task]
    if table == "table6":
        return BEST[cell.task][1], NAN
    return PROGRESSIVE[cell.task][cell.sources], NAN


def _percent(runs: Runs, name: str = "accuracy") -> list[float]:
    return [100 * one[name] for one in runs]


def _devices(runs: Runs) -> str:
    return ", ".join(sorted({one["device"] for one in runs}))


def _same_seeds(first: Runs, second: Runs) -> tuple[Runs, Runs]:
    """The runs of both of the seeds that both have."""
    seeds = {one["seed"] for one in first} & {one["seed"] for one in second}
    return [one for one in first if one["seed"] in seeds], [one for one in second if one["seed"] in seeds]


def _differences(first: Runs, second: Runs, name: str = "accuracy") -> dict[int, float]:
    """In % by seed, of runs with the same seeds in the same order."""
    return {one["seed"]: 100 * (one[name] - other[name]) for one, other in zip(first, second, strict=True)}


@dataclass(frozen=True)
class Few:
    """A task learned from some pictures of each class, without lateral connections and with the paper's best ones.

    Few pictures are drawn evenly from the classes and all of them are not, so that a column learns to expect other
    shares of the classes than the test pictures have. Macro F1 weighs each class alike, which accuracy does not.

    Attributes:
        per_class: pictures of a class at most; 0 for all that the experiment has, in natural proportion.
        train, epochs, devices: pictures and epochs of the runs, and what they ran on.
        without, lateral: macro F1 in % on the test pictures, over the seeds that both have.
        accuracies: accuracy in %, (without, lateral).
        majority: what naming the most frequent class of the test pictures alone reaches, accuracy in %.
        p, adjusted: of Welch's t-test of one macro F1 against the other, and adjusted for the number of rows.
        by_seed: the gain of macro F1 with each seed.
    """

    task: str
    sources: tuple[str, ...]
    per_class: int
    train: int
    epochs: float
    devices: str
    without: Seeds
    lateral: Seeds
    accuracies: tuple[Seeds, Seeds]
    majority: float
    p: float
    by_seed: Mapping[int, float]
    adjusted: float = NAN

    @property
    def gain(self) -> float:
        """Of macro F1, in percentage points."""
        return self.lateral.mean - self.without.mean

    @property
    def of_a_class(self) -> str:
        return str(self.per_class) if self.per_class else f"{self.train}, natural proportion"


def few_rows(results: Results, majority: Shares | None = None) -> list[Few]:
    """A row for each task and number of pictures of which both columns have been trained; ends with all pictures."""
    rows = []
    for task, (sources, _) in BEST.items():
        for count in (*LABELS[task], 0):
            cells = [results.get(Cell(task, drawn_on, per_class=count).name, []) for drawn_on in ((), sources)]
            both = _same_seeds(*cells)
            if not both[0]:
                continue
            without, lateral = (_percent(found, "macro_f1") for found in both)
            rows.append(
                Few(
                    *(task, sources, count, both[0][0]["train"], both[0][0]["epochs"], _devices([*both[0], *both[1]])),
                    *(mean_and_error(without), mean_and_error(lateral)),
                    accuracies=(mean_and_error(_percent(both[0])), mean_and_error(_percent(both[1]))),
                    majority=(majority or {}).get(task, NAN),
                    p=welch(without, lateral),
                    by_seed=_differences(both[1], both[0], "macro_f1"),
                )
            )
    return [replace(row, adjusted=p) for row, p in zip(rows, adjust([row.p for row in rows]), strict=True)]


@dataclass(frozen=True)
class Curve:
    """Learning curves of a cell: float (runs, epochs), accuracies in % on the validation pictures.

    Attributes:
        seeds: of the runs.
        train, val, epochs, devices: of the runs.
    """

    cell: Cell
    values: np.ndarray
    seeds: tuple[int, ...]
    train: int
    val: int
    epochs: float
    devices: str

    @property
    def mean(self) -> np.ndarray:
        return self.values.mean(0)

    @property
    def error(self) -> np.ndarray:
        """Standard error over the runs, 0 for a single one."""
        runs = len(self.values)
        return self.values.std(0, ddof=1) / np.sqrt(runs) if runs > 1 else np.zeros(self.values.shape[1])

    def start(self, seed: int) -> float:
        """After the first epoch of a seed."""
        return float(self.values[self.seeds.index(seed), 0])

    def epochs_to(self, accuracy: float) -> np.ndarray:
        """float (runs,): the first epoch after which it was reached, counted from 1; one more than all if never."""
        reached = self.values >= accuracy
        return np.where(reached.any(1), reached.argmax(1) + 1, self.values.shape[1] + 1).astype(float)


def curve_of(cell: Cell, results: Results) -> Curve | None:
    """The curves of a cell's runs; None where none has a whole epoch."""
    runs = [one for one in results.get(cell.name, []) if one["curve"]]
    if not runs:
        return None
    epochs = min(len(one["curve"]) for one in runs)
    values = 100 * np.stack([one["curve"][:epochs] for one in runs])
    return Curve(
        cell,
        values,
        tuple(one["seed"] for one in runs),
        runs[0]["train"],
        runs[0]["val"],
        runs[0]["epochs"],
        _devices(runs),
    )


@dataclass(frozen=True)
class Speed:
    """How a task's learning with lateral connections compares with that without, on the validation pictures.

    Attributes:
        start: accuracies in % after the first epoch, (without, with); start_p of Welch's t-test.
        target: the accuracy in % that counts as reached, REACHED of the mean with which the plain columns end.
        epochs: epochs until then, (without, with); epochs_p likewise.
        curves: (without, with).
        majority: what naming the most frequent class alone reaches; NaN where that is not known.
        by_seed: what lateral connections add after the first epoch, with each seed that both have.
        start_adjusted, epochs_adjusted: adjusted for the number of all tests of both kinds.
    """

    task: str
    sources: tuple[str, ...]
    start: tuple[Seeds, Seeds]
    start_p: float
    target: float
    epochs: tuple[Seeds, Seeds]
    epochs_p: float
    curves: tuple[Curve, Curve]
    majority: float = NAN
    by_seed: Mapping[int, float] = field(default_factory=dict)
    start_adjusted: float = NAN
    epochs_adjusted: float = NAN

    @property
    def end(self) -> Seeds:
        """What the plain columns end with."""
        return mean_and_error(self.curves[0].values[:, -1])

    @property
    def learned(self) -> bool | None:
        """Whether the plain columns end better than the majority class; None where that is not known."""
        return None if np.isnan(self.majority) else has_learned(self.end, self.curves[0].val, self.majority)


def speeds(results: Results, majority: Shares | None = None) -> list[Speed]:
    """Of each task whose plain column and whose best progressive one have been trained.

    Args:
        majority: of the validation pictures.
    """
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
                (plain, lateral),
                (majority or {}).get(task, NAN),
                {s: lateral.start(s) - plain.start(s) for s in plain.seeds if s in lateral.seeds},
            )
        )
    adjusted = adjust([p for speed in found for p in (speed.start_p, speed.epochs_p)])
    return [
        replace(speed, start_adjusted=start, epochs_adjusted=epochs)
        for speed, start, epochs in zip(found, adjusted[::2], adjusted[1::2], strict=True)
    ]
