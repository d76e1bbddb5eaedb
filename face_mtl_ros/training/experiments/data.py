"""The pictures of the paper's four tasks in a folder of datasets."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...datasets.dataset import UNLABELLED, AbsentSplitError, Dataset, DatasetError, check_classes
from ...datasets.registry import read_source
from .paper import TASKS

# What is read for a task, the first that is there: a dataset with its options, and its folder under the data's root.
# The paper's age groups are Adience's; UTKFace's years are cut into the same groups.
DATASETS: dict[str, tuple[tuple[str, str], ...]] = {
    "emotion": (("ferplus", "ferplus"),),
    "age": (("adience", "adience"), ("utkface", "UTKFace")),
    "gender": (("lfw-gender:balanced=true", "lfw"),),
    "identity": (("lfw-identity", "lfw"),),
}


@dataclass(frozen=True)
class TaskData:
    """A task's pictures: to learn from, to measure after each epoch, and to test on at the end.

    Attributes:
        name: the dataset as commands name it, with its options.
        test: the split of that name; where a copy lacks it the validation split, by which nothing is chosen either.
    """

    task: str
    name: str
    train: Dataset
    val: Dataset
    test: Dataset

    @property
    def described(self) -> dict[str, str | int | float]:
        """What a report tells of it."""
        shares = {"majority": self.majority, "val_majority": _largest(self.val, self.task)}
        return {"dataset": self.name, **self.sizes, "tested_on": self.test.split, **shares}

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of pictures."""
        return {"train": len(self.train), "val": len(self.val), "test": len(self.test)}

    @property
    def majority(self) -> float:
        """The share of the test pictures' largest class: the accuracy of who always says the same."""
        return _largest(self.test, self.task)


def read_task(
    task: str, root: Path, given: Mapping[str, str], train_limit: int | None, val_limit: int | None
) -> TaskData:
    """Read the three splits of a task.

    Args:
        given: task to NAME[:OPTIONS]=FOLDER, in the place of DATASETS; the folder is relative to the root.
        train_limit, val_limit: so many pictures at most, drawn at random, the same ones each time.

    Raises:
        DatasetError: none of the task's datasets is there, or the first that is there is malformed; says where each
            was looked for.
    """
    choices = DATASETS[task]
    if task in given:
        name, _, folder = given[task].rpartition("=")
        choices = ((name, folder),)
    errors = []
    for name, folder in choices:
        try:
            source = f"{name}={root / folder}"
            train = _limited(read_source(source, "train", task), task, train_limit)
            check_classes([train], task)
            val = _limited(read_source(source, "val", task), task)
            return TaskData(task, name, train, _limited(val, task, val_limit), _test(source, task) or val)
        except DatasetError as error:
            errors.append(f"{name}: {error}")
            if (root / folder).exists():  # it is damaged, which another one in its place would hide
                break
    raise DatasetError("; ".join(errors))


def with_few(data: TaskData, per_class: int, seed: int = 0) -> TaskData:
    """With so many training pictures of each class at most, drawn at random, the same ones each time with a seed.

    Runs with other seeds have other pictures, so that their spread tells how much it matters which few there are.
    There are as many with each seed.
    """
    labels = data.train.labels[data.task]
    drawn = np.random.default_rng(seed).permutation(len(labels))
    rows = [drawn[labels[drawn] == label][:per_class] for label in np.unique(labels)]
    return replace(data, train=data.train.take(np.sort(np.concatenate(rows))))


def _largest(dataset: Dataset, task: str) -> float:
    """The share of the largest class."""
    return max(dataset.counts(task).values()) / len(dataset)


def _test(source: str, task: str) -> Dataset | None:
    """The test split; None where the copy lacks it."""
    try:
        return _limited(read_source(source, "test", task), task)
    except AbsentSplitError:
        return None


def read_tasks(
    root: Path, given: Mapping[str, str], train_limit: int | None, val_limit: int | None
) -> tuple[dict[str, TaskData], dict[str, str]]:
    """All tasks that can be read, and for each of the others why not."""
    found, missing = {}, {}
    for task in TASKS:
        try:
            found[task] = read_task(task, root, given, train_limit, val_limit)
        except DatasetError as error:
            missing[task] = str(error)
    return found, missing


def _limited(dataset: Dataset, task: str, limit: int | None = None) -> Dataset:
    """The pictures that have a label of the task, at most so many, and at least one of each class if there is room."""
    if task not in dataset.labels:
        raise DatasetError(f"{dataset.name} does not label '{task}'; it labels {', '.join(dataset.labels)}")
    rows = np.flatnonzero(dataset.labels[task] != UNLABELLED)
    if not len(rows):
        raise AbsentSplitError(f"{dataset.name}, split '{dataset.split}', has no picture labelled for '{task}'")
    drawn = np.random.default_rng(0).permutation(rows)
    first = np.unique(dataset.labels[task][drawn], return_index=True)[1]
    return dataset.take(np.sort(np.concatenate([drawn[first], np.delete(drawn, first)])[:limit]))
