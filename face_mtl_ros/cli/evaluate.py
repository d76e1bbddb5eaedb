"""face-mtl evaluate: how good a column, or the face descriptor, is on a dataset."""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..runtime.descriptor import load_descriptors
from ..runtime.engines import ENGINES
from . import UsageError

EMBEDDING = "embedding"  # the task that is the descriptor
IDENTITY = "identity"
ENCODER = "encoder"  # the descriptor of a bundle without an embedding column: the encoder's map, averaged
REPORT_EVERY_S = 10.0


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="score a column, or the face descriptor, on a dataset",
        description="Score a column on a dataset. --task embedding scores the face descriptor instead: five people of "
        "the dataset are enrolled by five pictures each, their other pictures are tried, all other people are "
        "strangers, many times over.",
    )
    parser.add_argument("--model", type=Path, required=True, help="the bundle's folder")
    parser.add_argument("--task", required=True, help="the column, or embedding")
    parser.add_argument("--dataset", required=True, help="celeba, ferplus, lfw, lfw-gender, utkface, folder, ...")
    parser.add_argument("--root", type=Path, required=True, help="the dataset's folder")
    parser.add_argument("--split", default="val", choices=["train", "val", "test", "all"])
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the dataset's reader, such as balanced=true of lfw-gender; may be repeated",
    )
    parser.add_argument("--engine", choices=ENGINES, default="torch")
    parser.add_argument("--device", default="auto", help="of the engine, such as cpu or cuda:0")
    parser.add_argument("--precision", default="auto", help="of the engine: fp32, bf16, fp16, int8 or auto")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write confusion.png and reliability.png into DIR")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, shares of 1")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..bundle.bundle import load_bundle
    from ..runtime.engines import make_engine
    from ..runtime.predictor import Predictor
    from ..training import scoring

    if args.plots and args.task == EMBEDDING:
        raise UsageError("--plots draws what a column predicts; --task embedding has no classes to draw")
    if args.plots:
        from ..training import plots  # noqa: F401  # where matplotlib is missing, say so before the work
    dataset = _read(args)
    bundle = load_bundle(args.model)
    engine = make_engine(bundle, args.engine, args.device, args.precision)
    predictor = Predictor(bundle, engine, load_descriptors(bundle))
    head = {"task": args.task, "dataset": args.dataset, "split": args.split}
    if args.task == EMBEDDING:
        with _progress() as progress:
            scores = scoring.embedding_scores(predictor, dataset, progress)
        column = bundle.manifest.embedding
        descriptor = column.task if column else ENCODER
        result = {**head, **_rounded(scores), "descriptor": descriptor, "model_version": bundle.version}
        _show(args, result, _embedding_tables)
        return 0
    with _progress() as progress:
        predictions = scoring.predict_column(predictor, args.task, dataset, progress)
    record = bundle.manifest.column(args.task)
    result = {**head, **_column(predictions, record), "model_version": bundle.version}
    if args.plots:
        _plot(args, predictions, record.labels, result)
    _show(args, result, _column_tables)
    return 0


def _read(args: argparse.Namespace):
    from ..datasets.registry import READERS, read_dataset

    if args.dataset not in READERS:
        raise UsageError(f"dataset '{args.dataset}' is unknown; choose one of {', '.join(READERS)}")
    # A folder's classes are those of the task, and people where the descriptor is asked about.
    options = {"task": IDENTITY if args.task == EMBEDDING else args.task} if args.dataset == "folder" else {}
    for entry in args.option:
        key, equals, value = entry.partition("=")
        if not equals:
            raise UsageError(f"--option {entry}: expected KEY=VALUE, such as balanced=true")
        options[key] = value
    return read_dataset(args.dataset, args.root, args.split, **options)


def _column(predictions, record) -> dict:
    from ..training.evaluation import evaluate_groups

    scores = predictions.evaluate()
    result = {
        "n": scores.n,
        "accuracy": _number(scores.accuracy),
        "macro_f1": _number(scores.macro_f1),
        "ece": _number(scores.ece),
        "balanced_accuracy": _number(scores.balanced_accuracy),
        "nll": _number(scores.nll),
        "temperature": record.temperature,
        "per_class_recall": {
            label: _number(value) for label, value in zip(record.labels, scores.recall.tolist(), strict=True)
        },
        "labels": record.labels,
        "confusion": scores.confusion.tolist(),
    }
    if scores.within_one is not None:
        result["within_one"] = _number(scores.within_one)
    if record.open_set is not None:
        result["open_set"] = _rounded(record.open_set.model_dump())
    if predictions.groups:
        groups = evaluate_groups(predictions.probabilities, predictions.labels, predictions.groups)
        result["groups"] = {
            kind: {group: _rounded(asdict(score)) for group, score in found.items()} for kind, found in groups.items()
        }
    return result


def _plot(args: argparse.Namespace, predictions, labels: list[str], result: dict) -> None:
    from ..training.plots import plot_confusion, plot_reliability

    title = f"{args.task} on {args.dataset} {args.split}"
    plot_confusion(args.plots / "confusion.png", predictions.evaluate().confusion, labels, title)
    title = f"{title}: calibration error {result['ece']:.1%}, {result['n']} pictures"
    plot_reliability(args.plots / "reliability.png", predictions.probabilities, predictions.labels, title)


def _show(args: argparse.Namespace, result: dict, tables) -> None:
    if args.json:
        print(json.dumps(result))
        return
    console = Console()
    for table in tables(result):
        console.print(table)
    if args.plots:
        console.print(f"confusion.png and reliability.png written to {args.plots}", highlight=False)


def _column_tables(result: dict) -> Iterator[Table]:
    table = _table(result, "", "")
    for name, key in (
        ("accuracy", "accuracy"),
        ("within one class", "within_one"),
        ("balanced accuracy", "balanced_accuracy"),
        ("macro F1", "macro_f1"),
        ("calibration error", "ece"),
    ):
        if key in result:
            table.add_row(name, _percent(result[key]))
    table.add_row("negative log-likelihood", f"{result['nll']:.4f}")
    table.add_row("temperature", f"{result['temperature']:.3f}")
    yield table

    table = Table("label", _right("pictures"), _right("recall"), "mostly taken for")
    for row, label in enumerate(result["labels"]):
        counts = result["confusion"][row]
        others = {other: n for other, n in zip(result["labels"], counts, strict=True) if n and other != label}
        worst = max(others, key=others.__getitem__, default="")
        taken = f"{worst} {others[worst] / sum(counts):.1%}" if worst else ""
        table.add_row(label, str(sum(counts)), _percent(result["per_class_recall"][label]), taken)
    yield table

    for kind, groups in result.get("groups", {}).items():
        table = Table(kind, _right("pictures"), _right("accuracy"), _right("± standard error"))
        for group, score in groups.items():
            table.add_row(group, str(score["n"]), _percent(score["accuracy"]), _percent(score["standard_error"]))
        yield table


def _embedding_tables(result: dict) -> Iterator[Table]:
    table = _table(result, "", "share", "± standard error")
    for name, key in (
        ("right of five people", "right"),
        ("named rightly, 95 % of strangers refused", "named_95"),
        ("named rightly, 99 % of strangers refused", "named_99"),
    ):
        table.add_row(name, _percent(result[key]), _percent(result[f"{key}_error"]))
    table.caption = "{people} people, mean of {draws} draws of five; descriptor: {descriptor}".format(**result)
    yield table


def _table(result: dict, first: str, *numbers: str) -> Table:
    title = "{task} on {dataset} {split}, {n} pictures".format(**result)
    return Table(first, *(_right(number) for number in numbers), title=title)


def _right(header: str):
    from rich.table import Column

    return Column(header, justify="right")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _rounded(scores: dict) -> dict:
    return {key: _number(value) if isinstance(value, float) else value for key, value in scores.items()}


def _number(value: float) -> float | None:
    # JSON has no NaN.
    return None if math.isnan(value) else round(value, 5)


@contextmanager
def _progress() -> Iterator:
    """How many pictures are read, on stderr: a bar with the time left, or where it is no terminal a line every 10 s."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (TextColumn("reading pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Lines:
    def __init__(self):
        self._start = self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._said >= REPORT_EVERY_S:
            self._said = now
            left = (now - self._start) * (total - done) / done
            print(f"read {done} of {total} pictures, about {left:.0f} s left", file=sys.stderr, flush=True)
