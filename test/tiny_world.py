"""What the training tests share: a network so small, and pictures so plain, that all is learned in a second."""

import signal
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from face_mtl_ros.datasets.dataset import Dataset
from face_mtl_ros.datasets.registry import read_dataset
from face_mtl_ros.networks.presets import PRESETS
from face_mtl_ros.training.recipe import Recipe

TINY = replace(PRESETS["compact"], name="tiny", width=1 / 16, hidden_units=16, dropout=0.1)
STEP = Recipe(epochs=0.01, batch=8, augment=False)  # a single step
QUICK = Recipe(epochs=10, batch=8, augment=False, learning_rate=1e-2, average=0.8)  # tells a disc from stripes


def know_tiny(monkeypatch) -> None:
    """Make `tiny` a preset among the others, in bundles and on command lines."""
    monkeypatch.setitem(PRESETS, TINY.name, TINY)


def single_step(**changes) -> Recipe:
    return replace(STEP, **changes)


def draw_pictures(root: Path, labels=("disc", "stripes"), count: int = 30) -> Path:
    """A folder a class with `count` pictures, of which the reader takes about 80 / 10 / 10 % for its splits."""
    rng = np.random.default_rng(0)
    for label in labels:
        (root / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            cv2.imwrite(str(root / label / f"{i}.png"), SHAPES[label](i, rng))
    return root


def _disc(_i: int, rng: np.random.Generator) -> np.ndarray:
    picture = np.full((64, 64), 40, np.uint8)
    cv2.circle(picture, tuple(int(v) for v in rng.integers(26, 38, 2)), 16, 220, -1)
    return picture


def _stripes(i: int, _rng: np.random.Generator) -> np.ndarray:
    return np.roll(np.where(np.arange(64)[:, None] // 8 % 2, 220, 40).astype(np.uint8).repeat(64, 1), i, 0)


def _bars(i: int, rng: np.random.Generator) -> np.ndarray:
    return np.ascontiguousarray(_stripes(i, rng).T)


def _noise(_i: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (64, 64), np.uint8)


SHAPES = {"disc": _disc, "stripes": _stripes, "bars": _bars, "noise": _noise}


def read_as(dataset: Dataset, task: str) -> Dataset:
    """The same pictures for another task."""
    return replace(dataset, classes={task: dataset.classes["label"]}, labels={task: dataset.labels["label"]})


def quiet(_line: str) -> None:
    pass


def listen_to_ctrl_c() -> None:
    """As in a terminal: a job in the background of a script, as a test run may be, has its SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def press_ctrl_c() -> None:
    """What Python does when the signal comes, without disturbing the threads of a test runner."""
    handler = signal.getsignal(signal.SIGINT)
    assert callable(handler)
    handler(signal.SIGINT, None)


# Fixtures, for test files to take by name


@pytest.fixture(autouse=True)
def tiny(monkeypatch, home):
    know_tiny(monkeypatch)


@pytest.fixture
def pictures(tmp_path):
    return draw_pictures(tmp_path / "pictures")


@pytest.fixture
def train(pictures):
    return read_dataset("folder", pictures, "train")


@pytest.fixture
def val(pictures):
    return read_dataset("folder", pictures, "val")
