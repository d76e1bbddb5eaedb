"""face-mtl search: sizes and rates of a column, by a tree-structured Parzen estimator."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from .recipes import add_recipe, read_data, recipe_of, report, required


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "search",
        help="search sizes and rates of a column",
        description="Train many short columns and find the sizes and rates with the highest validation accuracy. The "
        "study is kept in a file; give the same command again, also several times at once, to add trials.",
    )
    parser.add_argument("--model", type=Path, help="the bundle whose encoder and columns are frozen")
    parser.add_argument("--task", help="what the column reads")
    parser.add_argument("--source", action="append", default=[], help="an older column to draw on; may be repeated")
    parser.add_argument("--study", type=Path, help="SQLite file of the study")
    parser.add_argument("--trials", type=int, default=20, help="how many to add; default %(default)s")
    parser.add_argument("--json", action="store_true", help="the best trial as one JSON object on stdout")
    add_recipe(parser, "best")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import optuna

    from ..bundle.bundle import load_bundle
    from ..training.corpus import Corpus
    from ..training.production import frozen_key
    from ..training.search import search_column

    required(args, "model", "task", "data", "study")
    recipe = recipe_of(args)
    recipe = replace(recipe, epochs=args.epochs or 3)
    bundle = load_bundle(args.model)
    corpus = Corpus(read_data(args.data, args, "train", args.task), [args.task])
    validation = Corpus(read_data(args.data, args, "val", args.task), [args.task])
    key = frozen_key(bundle, args.source)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = search_column(
        bundle, args.task, args.source, corpus, validation, recipe, args.study, args.trials, key, report
    )
    best = study.best_trial
    result = {"accuracy": best.value, "trial": best.number, "trials": len(study.trials), **best.params}
    if args.json:
        print(json.dumps(result))
    else:
        print(f"best of {len(study.trials)} trials: accuracy {best.value:.2%} with")
        for name, value in best.params.items():
            print(f"  {name}: {value:.4g}" if isinstance(value, float) else f"  {name}: {value}")
    return 0
