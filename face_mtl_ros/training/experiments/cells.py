"""Which columns the paper's tables and our own consist of, and which must be there before which. No torch here."""

from collections.abc import Iterable
from dataclasses import dataclass

from .paper import BEST, PROGRESSIVE, TASKS


@dataclass(frozen=True)
class Cell:
    """A column to train: one number of Table IV or V, or of what few labels bring.

    Attributes:
        task: what it learns.
        sources: columns, trained on the frozen encoder alone, that it draws on; in the order of TASKS.
        retrain_encoder: the second row of Table IV.
        per_class: so many training pictures of each class at most; 0 for all. Its sources have learned from all.
    """

    task: str
    sources: tuple[str, ...] = ()
    retrain_encoder: bool = False
    per_class: int = 0

    @property
    def name(self) -> str:
        """As in `emotion`, `emotion-retrained`, `emotion-from-age-gender` and `emotion-from-age-gender-50`."""
        parts = [self.task, *(["from", *self.sources] if self.sources else [])]
        parts += ["retrained"] if self.retrain_encoder else []
        return "-".join([*parts, *([str(self.per_class)] if self.per_class else [])])

    @property
    def needs(self) -> tuple["Cell", ...]:
        """The columns that it draws on."""
        return tuple(Cell(source) for source in self.sources)

    @property
    def tasks(self) -> set[str]:
        """The tasks whose data it needs, its own or by way of its sources."""
        return {self.task, *self.sources}


PLAIN = tuple(Cell(task) for task in TASKS)
RETRAINED = tuple(Cell(task, retrain_encoder=True) for task in TASKS)
PROGRESSIVE_CELLS = tuple(Cell(task, sources) for task in TASKS for sources in PROGRESSIVE[task])
BEST_CELLS = tuple(Cell(task, BEST[task][0]) for task in TASKS)

# Pictures of a class to try the paper's claim with that lateral connections help where labels are few. LFW's people
# have twenty each.
LABELS = {task: (2, 5, 10) if task == "identity" else (10, 50, 250, 1000) for task in TASKS}
FEW_CELLS = tuple(
    Cell(task, sources, per_class=count) for task in TASKS for count in LABELS[task] for sources in ((), BEST[task][0])
)

FIGURE4 = "figure4"  # which is no table: training.experiments.figure4

TABLES: dict[str, tuple[Cell, ...]] = {
    FIGURE4: PLAIN,
    "table4": PLAIN + RETRAINED,
    "table5": PLAIN + PROGRESSIVE_CELLS,
    "table6": PLAIN + BEST_CELLS,
    "figure5": PLAIN + BEST_CELLS,  # the paper does not say which connections its curves have
    "labels": PLAIN + BEST_CELLS + FEW_CELLS,
    "all": PLAIN + RETRAINED + PROGRESSIVE_CELLS,
}


def choose(table: str, only: Iterable[str] = ()) -> tuple[Cell, ...]:
    """The cells of a table, or those of them that are named, with the columns that they draw on, which come first.

    Raises:
        ValueError: the table has no cell of a name.
    """
    cells = TABLES[table]
    names = {cell.name: cell for cell in cells}
    for name in only:
        if name not in names:
            raise ValueError(f"--only {name}: {table} has no such cell; it has {', '.join(names)}")
    chosen = [names[name] for name in only] or cells
    return tuple(dict.fromkeys(one for cell in chosen for one in (*cell.needs, cell)))


@dataclass(frozen=True)
class Run:
    """A cell trained with one seed. Its source columns are those of the same seed."""

    cell: Cell
    seed: int

    @property
    def name(self) -> str:
        return f"{self.cell.name}-seed{self.seed}"

    @property
    def needs(self) -> tuple["Run", ...]:
        return tuple(Run(cell, self.seed) for cell in self.cell.needs)


def runs_of(cells: Iterable[Cell], seeds: Iterable[int]) -> list[Run]:
    """All cells with the first seed, then with the next: what is there early is a whole table."""
    cells = list(cells)
    return [Run(cell, seed) for seed in seeds for cell in cells]
