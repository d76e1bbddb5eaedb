"""face-mtl train: a column beside a bundle's frozen encoder and columns."""

import argparse
from pathlib import Path

from . import UsageError
from .recipes import add_recipe, command_line, logger_of, read_data, recipe_of, report, required
from .trainer import connect, train_on_site


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "train",
        help="train a column",
        description="Train a column beside a bundle's frozen encoder and columns, evaluate and calibrate it. The task "
        "'embedding' is a face descriptor, which learns from dlib's. A killed training goes on when the same command "
        "is given again.",
    )
    parser.add_argument("--model", type=Path, help="the bundle that gets the column")
    parser.add_argument("--output", type=Path, help="a new bundle that gets it instead, with the older columns")
    parser.add_argument("--task", help="emotion, gender, age, identity, embedding, or what a folder's classes are")
    parser.add_argument("--source", action="append", default=[], help="an older column to draw on; may be repeated")
    parser.add_argument(
        "--descriptor", default="", metavar="NAME", help="an installed foreign face descriptor to draw on as well"
    )
    parser.add_argument(
        "--skip",
        action=argparse.BooleanOptionalAction,
        help="a skip connection from the encoder's map to the hidden layer (default: with the recipe best)",
    )
    parser.add_argument("--kind", choices=["classification", "identity"], help="default identity for that task")
    parser.add_argument(
        "--strangers", action="append", default=[], metavar="NAME=ROOT", help="people that an identity shall not know"
    )
    parser.add_argument(
        "--begin",
        type=Path,
        metavar="FILE",
        help="convolutions to begin with: a pre-training's head, such as heads/emotion.safetensors of the bundle",
    )
    parser.add_argument("--last-layers", action="store_true", help="leave the convolutions of --begin as they are")
    parser.add_argument("--retrain-encoder", action="store_true", help="train the encoder along, into --output")
    parser.add_argument("--replace", action="store_true", help="train anew a column that the bundle has already")
    parser.add_argument("--seeds", type=int, default=1, help="train so often, keep the first, tell mean and error")
    parser.add_argument("--plain-end", type=float, help="share of the steps, the last, without random views")
    add_recipe(parser, "best")
    _add_from_samples(parser)
    parser.set_defaults(run=run)


def _add_from_samples(parser: argparse.ArgumentParser) -> None:
    site = parser.add_argument_group("on a robot", "with --task, --kind, --source, --descriptor and --seed")
    site.add_argument(
        "--from-samples",
        action="store_true",
        help="have the running trainer node train from the collected faces, and the model take the column",
    )
    site.add_argument(
        "--label", action="append", default=[], help="one to tell apart (all that have samples); repeatable"
    )
    site.add_argument("--seconds", type=float, default=0.0, help="in which to be done (the trainer's parameter)")
    site.add_argument("--min-samples", type=int, default=0, metavar="N", help="fewest of a label (likewise)")
    site.add_argument("--no-activate", action="store_true", help="only store the new version of the model")
    site.add_argument("--requested-by", default="", metavar="NAME", help="who asks, kept in the model's record")
    site.add_argument("--namespace", default="", help="of the nodes")
    site.add_argument("--json", action="store_true", help="the result as one JSON object")


def run(args: argparse.Namespace) -> int:
    if args.from_samples:
        return _train_from_samples(args)
    from ..training import distributed
    from ..training.production import ColumnOrder, make_column
    from ..training.recipe import WITH_SKIP

    required(args, "model", "task", "data")
    if args.retrain_encoder and not args.output:
        raise UsageError("--retrain-encoder makes another bundle: --output is missing")
    distributed.start()
    kind = args.kind or ("identity" if args.task == "identity" else "classification")
    task = "identity" if args.task == "embedding" else args.task  # a descriptor learns from who is on a picture
    order = ColumnOrder(
        task=args.task,
        datasets=read_data(args.data, args, "train", task),
        validation=read_data(_with_people(args), args, "val", task),
        sources=args.source,
        descriptor=args.descriptor,
        kind=kind,
        strangers=read_data(args.strangers, args, "val", args.task),
        output=args.output,
        begin=_begin(args),
        retrain_encoder=args.retrain_encoder,
        replace=args.replace,
        seeds=args.seeds,
        last_layers=args.last_layers,
        skip=args.recipe in WITH_SKIP if args.skip is None else args.skip,
    )
    bundle = make_column(args.model, order, recipe_of(args), command_line(), report, logger_of(args))
    report(f"column '{args.task}' added to {bundle.root}, version {bundle.version}")
    return 0


def _train_from_samples(args: argparse.Namespace) -> int:
    required(args, "task")
    for option in ("model", "output", "data", "strangers", "begin", "config"):
        if getattr(args, option, None):
            raise UsageError(f"--{option} does not go with --from-samples: the trainer node has its own")
    if not (0 <= args.seconds < float("inf") and 0 <= args.min_samples < 2**32 and 0 <= (args.seed or 0) < 2**32):
        raise UsageError("--seconds, --min-samples and --seed: 0 or more is expected")
    with connect(args.namespace) as client:
        return train_on_site(
            client,
            args.json,
            task=args.task,
            kind=args.kind or "",
            labels=args.label,
            sources=args.source + ([f"descriptor/{args.descriptor}"] if args.descriptor else []),
            time_budget_s=args.seconds,
            min_samples=args.min_samples,
            seed=1 if args.seed is None else args.seed,
            activate=not args.no_activate,
            requested_by=args.requested_by,
        )


def _begin(args: argparse.Namespace) -> Path | None:
    """The file as it is named, or inside the bundle."""
    return args.model / args.begin if args.begin and not args.begin.exists() else args.begin


def _with_people(args: argparse.Namespace) -> list[str]:
    """The data to validate on: an embedding is tried on people alone."""
    if args.task != "embedding":
        return args.data
    return [entry for entry in args.data if entry.startswith(("lfw=", "lfw-identity", "folder"))]
