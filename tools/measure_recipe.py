"""What each step from the recipe `paper` to `best` brings: the same column, trained by one more of them each time.

    python tools/measure_recipe.py --model models/default --data ferplus=FERPLUS --task emotion --plot recipe.png

All trainings have the same pictures, batches and number of epochs. A line of JSON a training on stdout; what is in the
output file already is not done again, so a run that is killed goes on.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from face_mtl_ros.bundle.bundle import load_bundle
from face_mtl_ros.bundle.network import build_network
from face_mtl_ros.datasets.registry import read_source
from face_mtl_ros.training.columns import Plan, train_column
from face_mtl_ros.training.corpus import Corpus
from face_mtl_ros.training.evaluation import mean_and_error
from face_mtl_ros.training.production import frozen_key
from face_mtl_ros.training.recipe import PAPER, Recipe

BEST = Recipe()
SKIP = "skip connection"
# What one more step changes; from SKIP on the column has one, and the last step begins with the convolutions that the
# pre-training had for the task.
STEPS: dict[str, dict] = {
    "paper": {},
    "soft labels": {"soft_labels": True},
    "AdamW, warm-up, cosine": {
        **{name: getattr(BEST, name) for name in ("optimizer", "schedule", "weight_decay", "warmup")},
        "learning_rate": BEST.learning_rate,
    },
    "average of the weights": {"average": BEST.average},
    "label smoothing": {"smoothing": BEST.smoothing},
    "random views": {"augment": True},
    SKIP: {},
    "plain pictures at the end": {"plain_end": 0.4},
    "begun from the pre-training's column": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a bundle with heads/, as pretrain leaves it")
    parser.add_argument("--data", required=True, metavar="NAME=ROOT")
    parser.add_argument("--task", default="emotion")
    parser.add_argument("--limit", type=int, default=6000, help="training pictures")
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("recipe.jsonl"))
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    done = [json.loads(line) for line in args.output.read_text().splitlines()] if args.output.exists() else []
    train, val = (read_source(args.data, split, args.task) for split in ("train", "val"))
    train = train.take(np.sort(np.random.default_rng(0).permutation(len(train))[: args.limit]))
    for seed in range(args.seeds):
        recipe = PAPER
        for step, changes in STEPS.items():
            recipe = replace(recipe, **changes, epochs=args.epochs, batch=args.batch, seed=seed)
            if any(one["step"] == step and one["seed"] == seed for one in done):
                continue
            skip, begun = (list(STEPS).index(step) >= list(STEPS).index(other) for other in (SKIP, list(STEPS)[-1]))
            entry = {"step": step, "seed": seed, **measure(args.model, args.task, train, val, recipe, skip, begun)}
            done.append(entry)
            with args.output.open("a") as out:
                out.write(json.dumps(entry) + "\n")
            print(json.dumps(entry), flush=True)
    for step in STEPS:
        over = mean_and_error([one["accuracy"] for one in done if one["step"] == step])
        print(f"{step}: {over.mean:.1%} +- {over.error:.1%}")
    if args.plot:
        plot(done, args.plot)


def measure(model: Path, task: str, train, val, recipe: Recipe, skip: bool, begun: bool) -> dict:
    """Accuracy on the validation pictures after each epoch, and at the end."""
    from safetensors.torch import load_file

    bundle = load_bundle(model)
    network = build_network(replace_columns(bundle))
    plan = Plan(
        task=task,
        sources=[],
        corpus=Corpus([train], [task], recipe.smoothing, soft=recipe.soft_labels),
        validation=Corpus([val], [task]),
        begin=load_file(model / "heads" / f"{task}.safetensors") if begun else {},
        key=frozen_key(bundle, []),
        skip=skip,
    )
    _, history = train_column(network, plan, recipe, report=lambda line: None)
    curve = [round(epoch["accuracy"], 4) for epoch in history.validation]
    return {"accuracy": curve[-1], "curve": curve, "pictures": len(train), "epochs": recipe.epochs}


def replace_columns(bundle):
    """The bundle with its encoder alone."""
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"columns": []}), columns={})


def plot(done: list[dict], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    over = [mean_and_error([100 * one["accuracy"] for one in done if one["step"] == step]) for step in STEPS]
    axes.errorbar([one.mean for one in over], range(len(STEPS)), xerr=[one.error for one in over], fmt="o-")
    axes.set_yticks(range(len(STEPS)), [f"+ {step}" if i else step for i, step in enumerate(STEPS)])
    axes.invert_yaxis()
    axes.set_xlabel("accuracy on validation pictures, %")
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
