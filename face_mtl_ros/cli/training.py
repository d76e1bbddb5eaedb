"""face-mtl pretrain, train and evaluate."""

import argparse
import json
import shlex
import sys
from pathlib import Path

from ..networks.presets import PRESETS
from ..runtime.engines import ENGINES
from . import UsageError


def add_parsers(commands) -> None:
    """Add the three commands to the parser's sub-commands."""
    pretrain = commands.add_parser(
        "pretrain", help="train the shared encoder", description="Train the encoder on all tasks of the data at once."
    )
    pretrain.add_argument("--preset", choices=list(PRESETS), default="compact")
    pretrain.add_argument("--name", default="default", help="the new bundle's name")
    pretrain.add_argument("--output", type=Path, required=True, help="folder of the new bundle")
    pretrain.add_argument("--force", action="store_true", help="replace the bundle in that folder, with its columns")
    pretrain.add_argument("--from", dest="start", type=Path, metavar="MODEL", help="train the encoder of MODEL further")
    pretrain.add_argument(
        "--half-size",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the budget, to begin with, on small crops: faster",
    )
    _add_recipe(pretrain)
    pretrain.set_defaults(run=run_pretrain)

    train = commands.add_parser(
        "train", help="train a column", description="Train a column beside a bundle's frozen encoder and columns."
    )
    train.add_argument("--model", type=Path, required=True, help="the bundle that gets the column")
    train.add_argument("--task", required=True, help="emotion, gender, age, or what a folder dataset labels")
    train.add_argument("--source", action="append", default=[], help="an older column to draw on; may be repeated")
    _add_recipe(train)
    train.set_defaults(run=run_train)

    evaluate = commands.add_parser("evaluate", help="score a column on a dataset")
    evaluate.add_argument("--model", type=Path, required=True, help="the bundle's folder")
    evaluate.add_argument("--task", required=True, help="the column")
    evaluate.add_argument("--dataset", required=True, help="ferplus, lfw-gender, utkface or folder")
    evaluate.add_argument("--root", type=Path, required=True, help="the dataset's folder")
    evaluate.add_argument("--split", default="val", choices=["train", "val", "test", "all"])
    evaluate.add_argument("--engine", choices=ENGINES, default="torch")
    evaluate.add_argument("--json", action="store_true", help="one JSON object on stdout")
    evaluate.set_defaults(run=run_evaluate)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", action="append", required=True, metavar="NAME=ROOT", help="a dataset to train on; may be repeated"
    )
    parser.add_argument("--epochs", type=float, default=12, help="passes over the data; default %(default)s")
    parser.add_argument("--minutes", type=float, help="end after so many minutes if the epochs are not through by then")
    parser.add_argument("--batch", type=int, default=64, help="samples a step; default %(default)s")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="the highest; default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of order, weights and augmentation; default %(default)s")


def run_pretrain(args: argparse.Namespace) -> int:
    from ..training.production import make_encoder

    datasets = _read(args.data, "train")
    bundle = make_encoder(
        args.output, args.name, args.preset, datasets, _recipe(args), _command(), _report, args.start, args.force
    )
    _report(f"encoder written to {bundle.root}, version {bundle.version}")
    return 0


def run_train(args: argparse.Namespace) -> int:
    from ..training.production import make_column

    datasets, validation = _read(args.data, "train", args.task), _read(args.data, "val", args.task)
    bundle = make_column(args.model, args.task, args.source, datasets, validation, _recipe(args), _command(), _report)
    _report(f"column '{args.task}' added to {bundle.root}, version {bundle.version}")
    return 0


def run_evaluate(args: argparse.Namespace) -> int:
    from ..bundle.bundle import load_bundle
    from ..runtime.engines import make_engine
    from ..runtime.predictor import Predictor
    from ..training.production import evaluate_column

    bundle = load_bundle(args.model)
    dataset = _read_one(args.dataset, args.root, args.split, args.task)
    predictor = Predictor(bundle, make_engine(bundle, args.engine))
    scores = evaluate_column(predictor, args.task, dataset)
    result = {
        "task": args.task,
        "dataset": args.dataset,
        "split": args.split,
        "n": scores.n,
        "accuracy": round(scores.accuracy, 5),
        "macro_f1": round(scores.macro_f1, 5),
        "ece": round(scores.ece, 5),
        "model_version": bundle.version,
        "labels": bundle.manifest.column(args.task).labels,
        "confusion": scores.confusion.tolist(),
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(
            f"{args.task} on {args.dataset} {args.split}: accuracy {scores.accuracy:.2%}, macro F1 "
            f"{scores.macro_f1:.2%}, calibration error {scores.ece:.2%}, {scores.n} pictures"
        )
    return 0


def _read(data: list[str], split: str, task: str = "label") -> list:
    """The datasets of the NAME=ROOT arguments."""
    datasets = []
    for entry in data:
        name, equals, root = entry.partition("=")
        if not equals:
            raise UsageError(f"--data {entry}: expected NAME=ROOT, such as ferplus=/data/ferplus")
        datasets.append(_read_one(name, Path(root), split, task))
    return datasets


def _read_one(name: str, root: Path, split: str, task: str):
    """A dataset by name; a folder's classes are those of the task."""
    from ..datasets.registry import READERS, read_dataset

    if name not in READERS:
        raise UsageError(f"dataset '{name}' is unknown; choose one of {', '.join(READERS)}")
    return read_dataset(name, root, split, **({"task": task} if name == "folder" else {}))


def _recipe(args: argparse.Namespace):
    from ..training.loop import Recipe

    fields = ("epochs", "minutes", "batch", "learning_rate", "seed", "half_size")
    return Recipe(**{name: value for name, value in vars(args).items() if name in fields})


def _command() -> str:
    """The command line, without the folders of this machine: it goes into the manifest."""
    return "face-mtl " + shlex.join(_without_folder(argument) for argument in sys.argv[1:])


def _without_folder(argument: str) -> str:
    name, equals, path = argument.rpartition("=")
    return f"{name}{equals}{Path(path).name}" if "/" in path else argument


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
