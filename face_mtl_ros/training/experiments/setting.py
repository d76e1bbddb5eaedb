"""What all columns of an experiment have in common, and the folder that holds what came of them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ...bundle.bundle import Bundle, load_bundle
from ...bundle.files import write_atomically
from ...file_lock import alone
from ...networks.presets import Preset
from ..recipe import Recipe
from .cells import Run
from .data import TaskData, read_task, with_few

CONFIGURATION = "experiment.json"
LOCKS = "locks"
UNSAID = {"adapters": "layers", "column_width": None}  # of folders from before there were these options
MOST_PASSES = 5  # times as many epochs where labels are few, so that their steps are fewer by less


@dataclass(frozen=True)
class Setting:
    """How an experiment is run. It is handed to other processes, so it holds names and numbers alone.

    Attributes:
        out: the experiment's folder.
        data: the folder with the datasets.
        encoder: a bundle, whose encoder is taken and whose columns are not.
        recipe: of every column; the seed is the run's.
        adapters: as of training.columns.Plan.
        column_width: as of networks.presets.Preset.
        train_limit, val_limit: pictures a task at most; None for all.
        given: as of data.read_task.
        threads: of each process.
        command: the command's options, without what it runs over; goes into each line of the results.
    """

    out: Path
    data: Path
    encoder: Path
    recipe: Recipe
    adapters: Literal["layers", "groups"] = "layers"
    column_width: float | None = None
    train_limit: int | None = None
    val_limit: int | None = None
    given: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1
    command: str = ""

    def result_file(self, run: Run) -> Path:
        """Where a run's figures are when it is done."""
        return self.out / "results" / f"{run.name}.json"

    def is_done(self, run: Run) -> bool:
        return self.result_file(run).exists()

    def result(self, run: Run) -> dict[str, Any]:
        """What a run that is done measured."""
        return _read_result(self.result_file(run))

    def recipe_of(self, run: Run) -> Recipe:
        """A run's recipe; a cell with fewer pictures than the task's other cells passes over them more often."""
        cell, epochs = run.cell, self.recipe.epochs
        if cell.per_class:
            fewer = len(self.read(cell.task).train) / len(self.read(cell.task, cell.per_class).train)
            epochs *= min(MOST_PASSES, max(1.0, fewer))
        return replace(self.recipe, seed=run.seed, epochs=epochs)

    def bundle(self) -> Bundle:
        """The encoder's bundle; read once a process."""
        return _bundle(self.encoder)

    def preset(self) -> Preset:
        """The encoder's, with columns of the width that is asked for."""
        return replace(self.bundle().preset, column_width=self.column_width)

    def read(self, task: str, per_class: int = 0, seed: int = 0) -> TaskData:
        """A task's pictures, or so many of each class out of all, drawn with the seed; read once a process."""
        given = tuple(sorted(self.given.items()))
        if per_class:
            return with_few(_task_data(task, self.data, given, None, self.val_limit), per_class, seed)
        return _task_data(task, self.data, given, self.train_limit, self.val_limit)


def described(setting: Setting, data: Mapping[str, TaskData]) -> dict[str, Any]:
    """What must stay the same in an experiment's folder, as JSON."""
    manifest = setting.bundle().manifest
    recipe = {name: value for name, value in asdict(setting.recipe).items() if name != "seed"}
    return {
        "preset": manifest.preset,
        "encoder": {
            "name": manifest.name,
            "sha256": manifest.encoder.file.sha256,
            "command": manifest.encoder.provenance.command,
            "samples": manifest.encoder.provenance.samples,
            "epochs": manifest.encoder.provenance.epochs,
            "began": any(name.startswith("began/") for name in manifest.encoder.metrics),
        },
        "recipe": recipe,
        "adapters": setting.adapters,
        "column_width": setting.column_width,
        "train_limit": setting.train_limit,
        "val_limit": setting.val_limit,
        "data": {task: found.described for task, found in data.items()},
    }


def check_folder(out: Path, description: Mapping[str, Any]) -> dict[str, Any]:
    """Make sure that the folder is this experiment's, or new. Writes nothing.

    Returns:
        What it says of itself; nothing where it is new.

    Raises:
        ValueError: the folder holds another experiment, or what is no experiment, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file: name a folder")
    # Before the configuration is looked for: what another process writes after its own is no stranger's.
    foreign = [path.name for path in sorted(out.iterdir()) if not _is_ours(path)] if out.exists() else []
    older = {**UNSAID, **read_folder(out)} if (out / CONFIGURATION).exists() else {}
    if not older and foreign:
        raise ValueError(
            f"{out} is no folder of an experiment and not empty: pass another --out (it holds {foreign[0]} and no "
            f"{CONFIGURATION})"
        )
    for name, there, here in _compared(older, description):
        if there != here:
            raise ValueError(
                f"{out} holds an experiment with another configuration ({name}: {there!r} there and {here!r} here): "
                "pass another --out, or the same options as then"
            )
    return older


def mark_folder(out: Path, description: Mapping[str, Any]) -> None:
    """Make sure that the folder is this experiment's, and mark a new one as such; several processes may do so at once.

    Data that were missing before may be there now; the other way round the older ones stay on record.

    Raises:
        ValueError: as of check_folder.
        OSError: it cannot be written.
    """
    check_folder(out, description)  # before the lock, which a stranger's folder shall not get
    with alone(out / LOCKS / ".folder.lock", f"marking {out}"):
        older = check_folder(out, description)
        kept = {**description, "data": {**older.get("data", {}), **description["data"]}}
        if kept != older:
            write_atomically(out / CONFIGURATION, (json.dumps(kept, indent=1) + "\n").encode())


def read_folder(out: Path) -> dict[str, Any]:
    """The configuration of an experiment's folder; ValueError where it is none."""
    try:
        return _read_json(out / CONFIGURATION, "pass another --out")
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{out} is no folder of an experiment: it has no {CONFIGURATION}") from None


def read_results(out: Path) -> list[dict[str, Any]]:
    """What the done runs of a folder measured, by name; see run.train. ValueError where a file is damaged."""
    return [_read_result(file) for file in sorted((out / "results").glob("*.json"))]


def _read_result(file: Path) -> dict[str, Any]:
    return _read_json(file, "remove it, and the same command as then makes the run again")


def _read_json(file: Path, remedy: str) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except ValueError as error:  # no text, or no JSON
        raise ValueError(f"{file} is damaged ({error}): {remedy}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} is damaged (expected an object, found {found!r:.40}): {remedy}")
    return found


def _is_ours(path: Path) -> bool:
    """Whether it is what another process writes that is just beginning the experiment: a lock, a partial file."""
    return path.name in (LOCKS, CONFIGURATION) or path.name.startswith(f".{CONFIGURATION}.")


def _compared(older: Mapping, newer: Mapping, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Each setting that both have: its name, its value there and here."""
    found = []
    for name in older.keys() & newer.keys():
        if isinstance(older[name], dict) and isinstance(newer[name], dict):
            found += _compared(older[name], newer[name], f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", older[name], newer[name]))
    return sorted(found, key=lambda one: one[0])


@cache
def _bundle(encoder: Path) -> Bundle:
    return load_bundle(encoder)


@cache
def _task_data(
    task: str, root: Path, given: tuple[tuple[str, str], ...], train_limit: int | None, val_limit: int | None
) -> TaskData:
    return read_task(task, root, dict(given), train_limit, val_limit)
