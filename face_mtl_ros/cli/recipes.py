"""What the training commands have in common: data, recipe, configuration files, progress."""

import argparse
import shlex
import sys
from dataclasses import fields, replace
from pathlib import Path

import yaml

from . import UsageError


class Config(argparse.Action):
    """`--config FILE`: options from a YAML file, by their long names; options that follow on the command line win."""

    def __call__(self, parser, namespace, values, option_string=None):
        try:
            settings = yaml.safe_load(Path(values).read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            parser.error(f"--config {values}: {' '.join(str(error).split())}")
        if not isinstance(settings, dict):
            parser.error(f"--config {values}: expected options by name, such as epochs: 12")
        known = {option.removeprefix("--"): action for action in parser._actions for option in action.option_strings}
        for name, value in settings.items():
            action = known.get(str(name).replace("_", "-"))
            if action is None or action.dest in ("help", "config") or str(name).startswith("no-"):
                parser.error(f"--config {values}: '{name}' is no option of this command")
            try:
                setattr(namespace, action.dest, _converted(action, value))
            except (TypeError, ValueError) as error:
                parser.error(f"--config {values}: {name}: {error}")
        namespace.config = Path(values)


def _converted(action: argparse.Action, value):
    """A YAML value as the option itself would have made it; ValueError or TypeError where it would not."""
    if action.nargs == 0:  # a flag
        if not isinstance(value, bool):
            raise ValueError(f"expected true or false, got {value!r}")
        return value
    if isinstance(action, argparse._AppendAction):
        return [_single(action, one) for one in (value if isinstance(value, list) else [value])]
    return _single(action, value)


def _single(action: argparse.Action, value):
    if value is None or isinstance(value, bool | list | dict):
        raise ValueError(f"expected one value, got {value!r}")
    made = action.type(str(value)) if callable(action.type) else str(value)
    if action.choices is not None and made not in action.choices:
        raise ValueError(f"'{made}' is not one of {', '.join(map(str, action.choices))}")
    return made


def add_recipe(parser: argparse.ArgumentParser, recipe: str) -> None:
    """Add the options of data and recipe to a command."""
    from ..training.recipe import RECIPES

    parser.add_argument(
        "--config", action=Config, metavar="FILE", help="options from a YAML file; later ones win or, repeatable, add"
    )
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="NAME=ROOT",
        help="a dataset to train on, such as ferplus=/data/ferplus or lfw-identity:people=62=/data/lfw; repeatable",
    )
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="folder that the ROOTs are relative to")
    parser.add_argument("--recipe", choices=list(RECIPES), default=recipe, help="default %(default)s")
    parser.add_argument("--epochs", type=float, help="passes over the data")
    parser.add_argument("--minutes", type=float, help="end after so many minutes if the epochs are not through by then")
    parser.add_argument("--batch", type=int, help="samples a step")
    parser.add_argument("--learning-rate", type=float, help="the highest")
    parser.add_argument("--smoothing", type=float, help="label smoothing")
    parser.add_argument("--class-weight", type=float, metavar="POWER", help="0: none, 1: all classes weigh the same")
    parser.add_argument("--views", type=int, help="random views of each picture, kept on disk; 0: always new ones")
    parser.add_argument("--augment", action=argparse.BooleanOptionalAction, help="random views of the pictures")
    parser.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="paper: train with batch normalisation, folded at last",
    )
    parser.add_argument("--soft-labels", action=argparse.BooleanOptionalAction, help="all votes, not the winner alone")
    parser.add_argument("--seed", type=int, help="of order, weights and augmentation")
    parser.add_argument("--tensorboard", type=Path, metavar="DIR", help="write TensorBoard's logs there")


def recipe_of(args: argparse.Namespace):
    """The recipe that the arguments ask for; UsageError names an option that is out of its range."""
    from ..training.recipe import RECIPES, Recipe

    names = {field.name for field in fields(Recipe)}
    given = {name: value for name, value in vars(args).items() if name in names and value is not None}
    try:
        return replace(RECIPES[args.recipe], **given)
    except ValueError as error:
        raise UsageError(str(error)) from None


def read_data(entries: list[str], args: argparse.Namespace, split: str, task: str = "label") -> list:
    """The datasets of NAME=ROOT entries; UsageError for a malformed one."""
    from ..datasets.registry import READERS, read_source

    datasets = []
    for entry in entries:
        name, equals, root = entry.rpartition("=")
        if not equals:
            raise UsageError(f"--data {entry}: expected NAME=ROOT, such as ferplus=/data/ferplus")
        if (known := name.partition(":")[0]) not in READERS:
            raise UsageError(f"--data {entry}: dataset '{known}' is unknown; choose one of {', '.join(READERS)}")
        datasets.append(read_source(f"{name}={(args.data_root or Path()) / root}", split, task))
    return datasets


def required(args: argparse.Namespace, *options: str) -> None:
    """UsageError for an option that neither the command line nor a configuration file gives."""
    for option in options:
        if not getattr(args, option.replace("-", "_")):
            raise UsageError(f"--{option} is missing")


def logger_of(args: argparse.Namespace):
    """What writes TensorBoard's logs, or None."""
    from ..training import distributed
    from ..training.tensorboard import tensorboard_log

    return tensorboard_log(args.tensorboard) if args.tensorboard and distributed.rank() == 0 else None


def command_line() -> str:
    """The command line, without the folders of this machine: it goes into the manifest."""
    return "face-mtl " + shlex.join(_without_folder(argument) for argument in sys.argv[1:])


def _without_folder(argument: str) -> str:
    name, equals, path = argument.rpartition("=")
    if Path(path).parts[:2] == ("config", "training"):  # the project's own files keep their place
        return argument
    return f"{name}{equals}{Path(path).name}" if "/" in path else argument


def report(line: str) -> None:
    from ..training import distributed

    if distributed.rank() == 0:
        print(line, file=sys.stderr, flush=True)
