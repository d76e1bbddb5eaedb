"""face-mtl explain: where the columns look, as the paper's Figure 4."""

import argparse
import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ..bundle.locate import DEFAULT_MODEL, locate_bundle
from ..vision.alignment import CROP_SIZE, align, normalize
from ..vision.detectors import DETECTORS, make_detector
from . import UsageError
from .recipes import report

AVERAGED = 200  # pictures of a class, by default


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "explain",
        help="show what a column judges by",
        description="Draw guided backpropagation, Grad-CAM and guided Grad-CAM of a face, or the average over a class "
        "of a dataset, into a PNG: a column of pictures for each task and layer.",
    )
    parser.add_argument("picture", metavar="PATH", nargs="?", type=Path, help="a picture, whose largest face is taken")
    parser.add_argument("--crop", action="store_true", help="the picture is an aligned crop: no detection")
    parser.add_argument("--detector", choices=DETECTORS, default="auto")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="bundle, by folder or name (default: %(default)s)")
    parser.add_argument("--task", action="append", default=[], help="default all with classes; may be repeated")
    parser.add_argument(
        "--layer",
        action="append",
        default=[],
        help="whose last convolution: encoder, own, or a column that the task draws on; default own, or encoder where "
        "a skip connection of the column goes past its own; may be repeated",
    )
    parser.add_argument("--class", dest="label", help="the label that is asked about; default the most probable one")
    parser.add_argument(
        "--dataset",
        metavar="NAME=ROOT",
        help="average over this dataset's pictures of --class instead, or over any, each by its most probable class",
    )
    parser.add_argument("--split", default="val", choices=["train", "val", "test", "all"])
    parser.add_argument("--limit", type=int, default=AVERAGED, help="pictures to average over; default %(default)s")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", default=Path("explained.png"), help="default %(default)s"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..bundle.bundle import load_bundle
    from ..bundle.files import write_atomically

    if (args.picture is None) == (args.dataset is None):
        raise UsageError("name either a picture or --dataset")
    if args.label and len(args.task) != 1:
        raise UsageError(f"--class {args.label} is of one column: name it by --task")
    if args.limit < 1:
        raise UsageError(f"--limit: at least 1 is expected, got {args.limit}")
    bundle = load_bundle(locate_bundle(args.model))
    crops = _dataset_crops(args) if args.dataset else _picture_crop(args)[None]

    with _imports_uncollected():
        from ..explain.figure import Panel, draw_figure
        from ..explain.maps import Explainer
    explainer = Explainer(bundle)
    inputs = normalize(crops.astype(np.float32))[:, None]
    shown = crops.mean(0).round().astype(np.uint8)
    panels = []
    for task in args.task or explainer.tasks:
        labels, probabilities = explainer.column(task).labels, explainer.probabilities(inputs, task)
        targets = [_index(args.label, labels, task)] * len(crops) if args.label else probabilities.argmax(1).tolist()
        asked = labels[targets[0]] if len(set(targets)) == 1 else "most probable"
        sure = probabilities[np.arange(len(crops)), targets].mean()
        for layer in args.layer or [explainer.layer(task)]:
            maps = explainer.explain(inputs, task, targets, layer)
            shown_maps = maps.average() if args.dataset else maps
            panels.append(Panel(f"{task}: {asked}\n{sure:.0%}, {layer}", shown, shown_maps))
    if not panels:
        raise ValueError(f"{bundle.root} has no column that can be explained")
    title = f"average over {len(crops)} pictures of {args.dataset.partition('=')[0]}" if args.dataset else ""
    write_atomically(args.output, draw_figure(panels, title))
    report(f"written: {args.output}")
    return 0


@contextlib.contextmanager
def _imports_uncollected() -> Iterator[None]:
    """What importing torch makes stays: to look for garbage in it, now and at the end, is a fifth of the whole time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if collecting:
            gc.enable()


def _picture_crop(args: argparse.Namespace) -> np.ndarray:
    """uint8 (128, 128): the largest face, or the whole picture as a crop."""
    from .analyze import PictureError, read_picture

    picture = read_picture(args.picture)
    if args.crop:
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        shrinks = max(grey.shape) > CROP_SIZE
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return cv2.resize(grey, (CROP_SIZE, CROP_SIZE), interpolation=method)
    found = make_detector(args.detector).detect(picture)
    if not found:
        raise PictureError(f"{args.picture}: no face found; where it is an aligned crop already, pass --crop")
    return align(picture, max(found, key=lambda one: float(one.box[2] * one.box[3])).points)


def _dataset_crops(args: argparse.Namespace) -> np.ndarray:
    """uint8 (n, 128, 128): the first pictures, of the class if one is named, by a fixed order of chance."""
    from ..datasets.crops import some_crops
    from ..datasets.registry import read_source

    task = args.task[0] if args.task else "class"
    dataset = read_source(args.dataset, args.split, task)
    rows = np.arange(len(dataset))
    if args.label:
        if task not in dataset.classes:
            raise ValueError(f"{dataset.name} does not label '{task}'; it labels {', '.join(dataset.classes)}")
        rows = np.flatnonzero(dataset.labels[task] == _index(args.label, dataset.classes[task], task))
    if not len(rows):
        sought = f"picture of '{args.label}'" if args.label else "picture"
        raise ValueError(f"{dataset.name}, split '{args.split}', has no {sought}")
    return some_crops(dataset, args.limit, rows)


def _index(label: str, labels, task: str) -> int:
    if label not in labels:
        raise UsageError(f"--class {label}: '{task}' has no such class; it has {', '.join(labels)}")
    return list(labels).index(label)
