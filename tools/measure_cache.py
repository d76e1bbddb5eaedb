"""How much of an epoch of column training the kept features spare, and how much memory training takes.

    python tools/measure_cache.py --model models/default --data utkface=UTKFACE --task age --source emotion

Plain pictures in both, so that both do the same; epochs with and without by turns.
"""

import argparse
import json
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from face_mtl_ros.bundle.bundle import load_bundle
from face_mtl_ros.bundle.network import build_network
from face_mtl_ros.datasets.registry import read_source
from face_mtl_ros.training import columns
from face_mtl_ros.training.columns import Plan, train_column
from face_mtl_ros.training.corpus import Corpus
from face_mtl_ros.training.production import frozen_key
from face_mtl_ros.training.recipe import Recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", required=True, metavar="NAME=ROOT")
    parser.add_argument("--task", default="age")
    parser.add_argument("--source", action="append", default=[])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    columns.passes_anew = lambda: False  # on a GPU too, where it is not done by itself
    bundle = load_bundle(args.model)
    older = [column for column in bundle.manifest.columns if column.task != args.task]
    bundle = replace(bundle, manifest=bundle.manifest.model_copy(update={"columns": older}))
    dataset = read_source(args.data, "train", args.task)
    corpus = Corpus([dataset.take(np.arange(min(args.pictures, len(dataset))))], [args.task])
    key = frozen_key(bundle, args.source)
    seconds: dict[str, list[float]] = {"anew": [], "kept": []}
    for kept in [None, *(how for _ in range(args.rounds) for how in ("anew", "kept"))]:
        plan = Plan(args.task, args.source, corpus, key=None if kept == "anew" else key)
        started = time.perf_counter()
        train_column(build_network(bundle), plan, Recipe(epochs=1, augment=False, views=1), report=lambda line: None)
        if kept:  # the first one fills the cache
            seconds[kept].append(time.perf_counter() - started)
    medians = {how: round(float(np.median(values)), 2) for how, values in seconds.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps(
            {
                "pictures": len(corpus),
                "sources": args.source,
                "epoch_s": medians,
                "kept_to_anew": round(medians["kept"] / medians["anew"], 3),
                "peak_gb": round(peak, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
