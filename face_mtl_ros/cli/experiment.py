"""face-mtl experiment: the paper's tables and Figure 5, each by one command."""

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..bundle.locate import DEFAULT_MODEL, locate_bundle
from ..networks.presets import PRESETS
from ..training.experiments.cells import FIGURE4, TABLES, Run, choose, runs_of
from . import UsageError
from .recipes import recipe_of, report

REPORT = "report"
# The options that say what is trained, and so belong to the command that makes a run again.
MAKING = (
    *("encoder", "preset", "adapters", "column-width", "recipe", "epochs", "batch", "learning-rate"),
    *("train-limit", "val-limit", "threads"),
)


def add_parser(commands) -> None:
    from ..training.recipe import RECIPES

    parser = commands.add_parser(
        "experiment",
        help="the paper's tables and learning curves",
        description="Train the columns of the paper's Tables IV, V and VI or of Figures 4 and 5 and compare with it. "
        "'labels' asks how few pictures of a class lateral connections help with. What tables share is trained once; "
        "a killed experiment goes on when the same command is given again, and several processes, on several machines "
        "too, may share --out, on a filesystem whose flock holds across hosts, as that of NFSv4 does; those of "
        "torchrun train each cell together. 'report' trains nothing and writes experiments.md.",
    )
    parser.add_argument("table", choices=[*TABLES, REPORT], help="what to train, or report on what is there")
    parser.add_argument(
        "--data", type=Path, metavar="ROOT", help="folder that holds ferplus, lfw, and adience or UTKFace"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the experiment's folder; the tables go there")
    parser.add_argument("--to", type=Path, metavar="DIR", help="report: folder of experiments.md, default --out")
    parser.add_argument("--encoder", default=DEFAULT_MODEL, metavar="MODEL", help="whose encoder; default %(default)s")
    parser.add_argument("--preset", choices=list(PRESETS), help="make sure that the encoder is of this one")
    parser.add_argument("--runs", type=int, default=10, help="of each cell, each with a seed of its own; default 10")
    parser.add_argument("--seed", type=int, default=0, help="the first run's; default 0")
    parser.add_argument("--jobs", type=int, default=1, help="processes; default 1")
    parser.add_argument("--threads", type=int, help="of each process; default the cores, shared between the processes")
    parser.add_argument("--train-limit", type=int, metavar="N", help="training pictures a task at most; default all")
    parser.add_argument(
        "--val-limit", type=int, default=1000, metavar="N", help="pictures a task for the curves at most; default 1000"
    )
    parser.add_argument(
        "--adapters",
        choices=["layers", "groups"],
        default="layers",
        help="lateral ones before each layer, or before each group of three convolutions; default %(default)s",
    )
    parser.add_argument(
        "--column-width",
        type=float,
        metavar="FACTOR",
        help="of Table III's channels, above 0 to 4; default the encoder's, 1 of `paper` and 0.25 of `compact`",
    )
    parser.add_argument("--only", action="append", default=[], metavar="CELL", help="train this cell; may be repeated")
    parser.add_argument(
        "--use",
        action="append",
        default=[],
        metavar="TASK=NAME=FOLDER",
        help="another dataset for a task, such as age=adience:fold=1=adience; the folder is relative to --data",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the cells and the time they will take")
    parser.add_argument("--recipe", choices=list(RECIPES), default="paper", help="default %(default)s")
    parser.add_argument("--epochs", type=float, help="of each column; the recipe's by default, the paper's are 35")
    parser.add_argument("--batch", type=int, help="samples a step")
    parser.add_argument("--learning-rate", type=float, help="the highest")
    parser.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="preset paper: train with batch normalisation, folded at last; without it 37 layers hardly learn",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 1 where cells are left out, for want of data or because their training failed."""
    from ..training.experiments import report as reports

    if not args.out:
        raise UsageError("--out is missing")
    if args.table == REPORT:
        report(f"written: {reports.write_report(args.out, args.to or args.out)}")
        return 0
    _check(args)
    from ..training import distributed
    from ..training.experiments.data import read_tasks
    from ..training.experiments.schedule import work_together
    from ..training.experiments.setting import check_folder, described, mark_folder

    distributed.start()
    cells = choose(args.table, args.only)
    setting = _setting(args)
    found, missing = read_tasks(args.data, setting.given, setting.train_limit, setting.val_limit)
    missing = {task: why for task, why in missing.items() if any(task in cell.tasks for cell in cells)}
    for task, data in found.items():
        if data.test.split != "test":
            report(f"face-mtl experiment: {task} is tested on the split '{data.test.split}': {data.name} has no 'test'")
    for task, why in missing.items():
        report(f"face-mtl experiment: {task} is left out: {why}")
    kept = [cell for cell in cells if not cell.tasks & missing.keys()]
    for cell in cells:
        if cell not in kept:
            report(f"face-mtl experiment: cell {cell.name} is left out")
    if not kept:
        raise ValueError(f"{args.data} has no data for any cell of {args.table}")
    runs = runs_of(kept, range(args.seed, args.seed + args.runs))
    mark = check_folder if args.dry_run else mark_folder
    distributed.of_first(lambda: mark(args.out, described(setting, found)))
    if args.dry_run:
        if distributed.rank() == 0:
            _print_plan(args, setting, runs)
        return 1 if missing else 0
    if args.table == FIGURE4:
        from ..training.experiments import figure4  # noqa: F401  # where captum is missing, say so before the work
    work_together(setting, runs, args.jobs, report)
    if distributed.rank():
        return 0
    lacking = [one.name for one in runs if not setting.is_done(one)]
    if args.table == FIGURE4:
        _draw_figure4(setting, found, [one for one in runs if setting.is_done(one)])
    else:
        for table in [args.table] if args.table in reports.TITLES else reports.TITLES:
            reports.write_table(args.out, table)
            report(f"written: {args.out / table}.md, .csv and .png")
    if lacking:
        report(f"face-mtl experiment: not done: {', '.join(lacking)}")
    return 1 if missing or lacking else 0


def _draw_figure4(setting, found, done: Sequence[Run]) -> None:
    """Of the first seed's columns."""
    from ..training.experiments.figure4 import write_figure

    drawn = {one.cell.task: found[one.cell.task] for one in done if one.seed == done[0].seed}
    if drawn:
        report(f"written: {write_figure(setting, drawn, done[0].seed)}")


def _check(args: argparse.Namespace) -> None:
    if not args.data:
        raise UsageError("--data is missing")
    if not args.data.is_dir():
        raise UsageError(f"--data {args.data} is no folder; it should hold ferplus, lfw, and adience or UTKFace")
    for name, least in (("runs", 1), ("jobs", 1), ("threads", 1), ("train_limit", 2), ("val_limit", 1), ("seed", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')}: at least {least} is expected, got {value}")
    if args.column_width is not None and not 0 < args.column_width <= 4:
        raise UsageError(f"--column-width: above 0 to 4 is expected, got {args.column_width}")
    if args.jobs > 1 and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UsageError(f"--jobs {args.jobs}: under torchrun all processes train each cell together")
    try:
        choose(args.table, args.only)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _setting(args: argparse.Namespace):
    from ..datasets.registry import READERS
    from ..training.experiments.data import DATASETS
    from ..training.experiments.setting import Setting

    together = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # processes of torchrun on this machine
    args.threads = args.threads or max(1, (os.cpu_count() or 1) // (args.jobs * together))
    given = {}
    for entry in args.use:
        task, equals, source = entry.partition("=")
        if task not in DATASETS or "=" not in source:
            raise UsageError(f"--use {entry}: expected TASK=NAME[:OPTIONS]=FOLDER with a task of {', '.join(DATASETS)}")
        if (name := source.partition("=")[0].partition(":")[0]) not in READERS:
            raise UsageError(f"--use {entry}: dataset '{name}' is unknown; choose one of {', '.join(READERS)}")
        given[task] = source
    setting = Setting(
        out=args.out,
        data=args.data,
        encoder=locate_bundle(args.encoder),
        recipe=recipe_of(args),
        adapters=args.adapters,
        column_width=args.column_width,
        train_limit=args.train_limit,
        val_limit=args.val_limit,
        given=given,
        threads=args.threads,
        command=_command(args),
    )
    preset = setting.bundle().manifest.preset
    if args.preset and preset != args.preset:
        raise UsageError(
            f"--preset {args.preset}: the encoder of '{args.encoder}' is of the preset '{preset}'; pass --encoder with "
            f"one of '{args.preset}', such as face-mtl pretrain --method began --preset {args.preset} makes"
        )
    return setting


def _command(args: argparse.Namespace) -> str:
    """The command's options without what it runs over and without this machine's folders."""
    words = ["--data", "DATA", "--out", "OUT"]
    for option in MAKING:
        value = getattr(args, option.replace("-", "_"))
        if value is not None:
            words += [f"--{option}", Path(value).name if option == "encoder" and "/" in str(value) else str(value)]
    words += [] if args.normalize else ["--no-normalize"]
    return shlex.join([*words, *(word for entry in args.use for word in ("--use", entry))])


def _print_plan(args: argparse.Namespace, setting, runs: Sequence[Run]) -> None:
    from ..training.experiments.estimate import total_seconds

    todo = [one for one in runs if not setting.is_done(one)]
    seconds = total_seconds(todo, setting) if todo else {}
    for cell in dict.fromkeys(one.cell for one in runs):
        of_cell = [one for one in runs if one.cell == cell]
        left = [one for one in of_cell if one in seconds]
        took = f", {seconds[left[0]] / 60:.1f} min each" if left else ""
        train = len(setting.read(cell.task, cell.per_class).train)
        print(f"{cell.name}: {train} pictures, {len(left)} of {len(of_cell)} runs to do{took}")
    hours = sum(seconds.values()) / 3600
    print(
        f"{len(todo)} of {len(runs)} runs to do: about {hours:.1f} h of computing, {hours / args.jobs:.1f} h with "
        f"--jobs {args.jobs}"
    )
