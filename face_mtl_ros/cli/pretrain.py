"""face-mtl pretrain: the shared encoder."""

import argparse
from dataclasses import fields
from pathlib import Path

from ..networks.presets import PRESETS
from . import UsageError
from .recipes import add_recipe, command_line, logger_of, read_data, recipe_of, report, required


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "pretrain",
        help="train the shared encoder",
        description="Train the encoder: without labels as the discriminator of a BEGAN (the paper's way), or on all "
        "tasks of the data at once. A killed training goes on when the same command is given again. The method "
        "'random' trains nothing: columns on it tell what pre-training buys.",
    )
    methods = ["multitask", "began", "random"]
    parser.add_argument("--method", choices=methods, default=methods[0], help="default %(default)s")
    parser.add_argument("--preset", choices=list(PRESETS), default="compact")
    parser.add_argument("--name", default="default", help="the new bundle's name")
    parser.add_argument("--output", type=Path, help="folder of the new bundle")
    parser.add_argument("--force", action="store_true", help="replace the bundle in that folder, with its columns")
    parser.add_argument("--from", dest="start", type=Path, metavar="MODEL", help="train the encoder of MODEL further")
    parser.add_argument("--task", action="append", default=[], help="multitask: which of the data's; default all")
    parser.add_argument("--teacher", action="store_true", help="multitask: learn dlib's face descriptors too")
    parser.add_argument("--sheets", type=Path, metavar="DIR", help="began: sample sheets, log and plot go there")
    parser.add_argument("--sheet-minutes", type=float, help="began: minutes between two sample sheets")
    parser.add_argument("--gamma", type=float, help="began: the ratio L(G(z)) / L(x) to aim at (equation 2)")
    parser.add_argument("--lambda-k", type=float, help="began: how fast k_t follows (equation 1)")
    parser.add_argument("--window", type=int, help="began: steps over whose mean M stagnation is judged")
    add_recipe(parser, "best")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..training import distributed

    required(args, "output", *(["data"] if args.method != "random" else []))
    distributed.start()
    bundle = {"multitask": _multitask, "began": _began, "random": _random}[args.method](args)
    report(f"encoder written to {bundle.root}, version {bundle.version}")
    return 0


def _multitask(args: argparse.Namespace):
    from ..training.encoder_production import make_encoder

    return make_encoder(
        args.output,
        args.name,
        args.preset,
        read_data(args.data, args, "train"),
        recipe_of(args),
        command_line(),
        report,
        args.start,
        args.force,
        args.task,
        args.teacher,
        logger_of(args),
    )


def _random(args: argparse.Namespace):
    from ..training.encoder_production import make_random_encoder

    return make_random_encoder(args.output, args.name, args.preset, recipe_of(args), command_line(), args.force)


def _began(args: argparse.Namespace):
    from ..training import distributed
    from ..training.began import BeganRecipe
    from ..training.began_production import make_began_encoder

    if args.start or args.task or args.teacher:
        raise UsageError("--method began learns without labels and from the beginning: no --from, --task, --teacher")
    if distributed.world() > 1:
        raise UsageError("--method began trains in one process: run it without torchrun")
    names = {field.name for field in fields(BeganRecipe)}
    recipe = BeganRecipe(**{name: value for name, value in vars(args).items() if name in names and value is not None})
    datasets = read_data(args.data, args, "train")
    return make_began_encoder(
        args.output, args.name, args.preset, datasets, recipe, command_line(), report, args.sheets, args.force
    )
