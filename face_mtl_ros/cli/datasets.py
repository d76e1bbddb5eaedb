"""face-mtl datasets: what a dataset holds, before anything is trained on it."""

import argparse
import json
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..datasets.dataset import SPLITS, UNLABELLED, Dataset, DatasetError
from ..datasets.registry import READERS, read_dataset
from . import UsageError

LISTED = 20  # more classes than that, such as LFW's people, are summed up in one row


def add_parser(commands) -> None:
    """Add the command to the parser's sub-commands."""
    parser = commands.add_parser(
        "datasets",
        help="count a dataset's pictures and classes",
        description="Read a dataset and print how many pictures each split, class and group of people has.",
    )
    parser.add_argument("name", choices=list(READERS))
    parser.add_argument("root", type=Path, help="the dataset's folder")
    parser.add_argument("--split", choices=SPLITS, help="this one alone; by default train, val and test")
    parser.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="of the reader; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """A split that cannot be read is reported among the others; exit status 1 where none can."""
    options = dict(_option(text) for text in args.option)
    found: dict[str, dict] = {}
    errors: dict[str, DatasetError] = {}
    for split in [args.split] if args.split else ["train", "val", "test"]:
        try:
            found[split] = summary(read_dataset(args.name, args.root, split, **options))
        except DatasetError as error:
            errors[split] = error
    if not found:
        raise next(iter(errors.values()))
    if args.json:
        failed = {split: {"error": str(reason)} for split, reason in errors.items()}
        print(json.dumps({"dataset": args.name, "splits": found | failed}))
        return 0
    console = Console()
    for split, reason in errors.items():
        console.print(f"{split}: {reason}", markup=False, highlight=False)
    for title in next(iter(found.values()))["counts"]:
        console.print(_table(title, {split: entry["counts"][title] for split, entry in found.items()}))
    console.print("pictures: " + ", ".join(f"{entry['n']} {split}" for split, entry in found.items()), highlight=False)
    return 0


def summary(dataset: Dataset) -> dict:
    """How many pictures there are, in all (`n`) and by `counts`: of each label a task, and of each group."""
    counts = {}
    for task, labels in dataset.labels.items():
        counts[task] = dataset.counts(task)
        unlabelled = int((labels == UNLABELLED).sum())
        if unlabelled:
            counts[task] |= {"(unlabelled)": unlabelled}
    groups = {f"by {name}": dict(sorted(Counter(who.tolist()).items())) for name, who in dataset.groups.items()}
    return {"n": len(dataset), "counts": counts | groups}


def _option(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise UsageError(f"--option {text}: expected KEY=VALUE")
    return key, value


def _table(title: str, counts: dict[str, dict[str, int]]) -> Table:
    """A row a label, a column a split."""
    table = Table("", *counts, title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    labels = list(dict.fromkeys(label for of_label in counts.values() for label in of_label))
    if len(labels) > LISTED:
        table.add_row("classes", *(str(len(of_label)) for of_label in counts.values()))
        table.add_row("pictures a class", *(f"{min(c.values())} to {max(c.values())}" for c in counts.values()))
        return table
    for label in labels:
        table.add_row(label, *(str(of_label.get(label, 0)) for of_label in counts.values()))
    return table
