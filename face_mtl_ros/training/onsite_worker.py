"""The process that trains on a robot: python -m face_mtl_ros.training.onsite_worker FOLDER_OF_A_JOB

It only writes into the job's folder: progress.json, and work/bundle, a whole new bundle. The one that is in use it
reads. It runs at low priority, is the first that the system ends where memory is short, and ends with its parent.
"""

import os
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..bundle.bundle import MANIFEST, Bundle, load_bundle, with_column, write_manifest
from ..bundle.files import BundleError
from ..file_lock import alone
from ..samples.dataset import samples_dataset
from ..samples.pictures import with_margin
from ..samples.store import SampleStore
from .onsite_jobs import BUNDLE, JOB_FILE, TRAINER_PID, WORK, JobRecord, OnsiteError, Order, Progress, write_progress

OOM_SCORE = "500"
PARENT_EVERY_S = 0.5


def main(arguments: list[str]) -> int:
    """Exit status 0 where the bundle is made, 1 where not; progress.json then says why."""
    folder = Path(arguments[0])
    job = JobRecord.model_validate_json((folder / JOB_FILE).read_bytes())
    _end_with_parent()
    _be_modest(job.order)
    with alone(folder / WORK / "lock", "the worker of a killed trainer is ending"):
        progress = _Reporter(folder)
        try:
            bundle = run_job(job.order, folder / WORK, progress)
        except MemoryError:
            return progress.fail("there is too little memory: train with fewer samples, or end other programs")
        except (ValueError, OSError, RuntimeError) as error:
            traceback.print_exc()
            return progress.fail(" ".join(str(error).split()) or type(error).__name__)
        except Exception as error:  # the one who waits for the job sees no traceback
            traceback.print_exc()
            return progress.fail(f"a defect ended the training: {type(error).__name__}: {error}")
        progress.finish(bundle, job.order.task)
    return 0


def run_job(order: Order, work: Path, progress: "_Reporter") -> Bundle:
    """Make the bundle that a job is for, or go on where an earlier process was killed."""
    output = work / BUNDLE
    with suppress(BundleError):  # whole: only the last word was missing
        return load_bundle(output)
    from .onsite_column import RECIPE, make_few_shot_column

    if order.recipe != RECIPE:
        return _make_long(order, work, output, progress)
    crops, labels = _samples(order, work)
    return make_few_shot_column(order, crops, labels, work, output, progress, progress.resumed)


def _samples(order: Order, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n, 160, 160) crops and int64 (n,) labels; SampleStoreError where one was erased meanwhile."""
    store = SampleStore(order.store)
    label_of = {sample.id: sample.label for sample in store.find(order.task, ids=order.sample_ids)}
    if missing := [i for i in order.sample_ids if i not in label_of]:
        raise OnsiteError(f"{len(missing)} samples, such as {missing[0]}, were erased meanwhile: train again")
    labels = np.array([order.labels.index(label_of[i]) for i in order.sample_ids], np.int64)
    return np.stack([with_margin(store.crop(i)) for i in order.sample_ids]), labels


def _make_long(order: Order, work: Path, output: Path, progress: "_Reporter") -> Bundle:
    """By a recipe that trains all layers, for hours if it is given them; the loop keeps its own checkpoints."""
    from ..samples.caches import erase_cached_crops
    from .fewshot import fold_of
    from .onsite_column import COMMAND
    from .production import ColumnOrder, make_column
    from .recipe import RECIPES, WITH_SKIP

    _samples(order, work)  # says what is missing
    everything = samples_dataset(SampleStore(order.store), order.task, "all", order.labels)
    wanted = {f"{everything.name}/{i}" for i in order.sample_ids}
    everything = everything.take(np.flatnonzero([name in wanted for name in everything.ids]))
    held_back = fold_of(everything.labels[order.task], order.seed) == 0
    train = replace(everything.take(np.flatnonzero(~held_back)), split="train")
    validation = replace(everything.take(np.flatnonzero(held_back)), split="held_back")
    recipe = replace(RECIPES[order.recipe], minutes=order.time_budget_s / 60, seed=order.seed)
    progress.training(round(recipe.epochs))
    column = ColumnOrder(
        order.task,
        [train],
        [validation],
        order.sources,
        order.kind,
        output=output,
        replace=_has(order),
        descriptor=order.descriptor,
        skip=order.recipe in WITH_SKIP,
    )
    if (output / MANIFEST).exists():
        raise OnsiteError(f"{output} is damaged: train again")
    try:
        made = make_column(order.base, column, recipe, COMMAND, progress.say, progress.log)
    finally:
        erase_cached_crops()
    if not order.values:
        return made
    record = made.manifest.column(order.task).model_copy(update={"values": order.values})
    write_manifest(output, with_column(made.manifest, record))
    return load_bundle(output)


def _has(order: Order) -> bool:
    return order.task in {column.task for column in load_bundle(order.base).manifest.columns}


class _Reporter:
    """Writes progress.json."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._progress = Progress(state="training")
        self._started = time.monotonic()
        self.resumed = any((folder / WORK).glob("view-*.npz")) or (folder / WORK / "resumable").exists()
        self._progress.resumed = self.resumed

    def __call__(self, progress: Progress) -> None:
        self._progress = progress
        write_progress(self._folder, progress)

    def training(self, epochs: int) -> None:
        (self._folder / WORK / "resumable").touch()
        self(self._progress.model_copy(update={"epochs": epochs}))

    def say(self, line: str) -> None:
        self(self._progress.model_copy(update={"message": line}))

    def log(self, step: int, figures: dict[str, float]) -> None:
        """Figures of training.loop.fit."""
        changed = self._progress.model_copy(update={"epoch": self._progress.epoch + ("accuracy" in figures)})
        changed.loss = figures.get("loss", changed.loss)
        changed.validation_accuracy = figures.get("accuracy", changed.validation_accuracy)
        if changed.epoch and changed.epochs:
            spent = time.monotonic() - self._started
            changed.time_left_s = spent * max(0, changed.epochs - changed.epoch) / changed.epoch
        self(changed)

    def fail(self, why: str) -> int:
        self(self._progress.model_copy(update={"state": "failed", "message": why}))
        return 1

    def finish(self, bundle: Bundle, task: str) -> None:
        record = bundle.manifest.column(task)
        figures = {name.rpartition("/")[2]: value for name, value in record.metrics.items() if "held_back/" in name}
        rule = record.open_set
        known = rule.known_kept if rule else float("nan")
        refused = rule.strangers_refused if rule and rule.strangers_refused is not None else float("nan")
        accuracy = figures.get("accuracy", float("nan"))
        self(
            self._progress.model_copy(
                update={
                    "state": "evaluating",
                    "message": f"trained: {accuracy:.1%} of the held-back samples right",
                    "accuracy": accuracy,
                    "validation_accuracy": accuracy,
                    "known_named": figures.get("known_named", known),
                    "strangers_refused": figures.get("strangers_refused", refused),
                    "time_left_s": 2.0,
                }
            )
        )


def _be_modest(order: Order) -> None:
    """Low priority, few threads, and first in line where memory is short."""
    import torch

    with suppress(OSError):
        os.nice(order.nice)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    torch.set_num_threads(order.threads)


def _end_with_parent() -> None:
    """A worker whose trainer was killed must not train on beside the next one's."""
    parent = int(os.environ.get(TRAINER_PID, os.getppid()))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
