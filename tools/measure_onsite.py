#!/usr/bin/env python3
"""Measure learning on site with real people: what the trainer makes of a few pictures of each.

    python tools/measure_onsite.py --data DATA [--model default] [--split test] [--draws 20] [--people 5] [--crops 15]
                                   [--descriptor dlib] [--no-margin]
    python tools/measure_onsite.py --data DATA --task smiling [--draws 3]

Each draw is a whole job: samples into an empty store, the worker process, a new version of the model. People are drawn
from those of LFW's split (DATA/lfw) who have at least 12 pictures: 15 of each are collected, or all but four where
there are fewer, and up to 15 others are tried. Everybody else of the split comes as a stranger. With --descriptor the
column draws on an installed foreign descriptor, which sees of the samples their crops, and of the others the pictures,
as on a robot; --no-margin stores the crops as perception sends them, without a margin. Smiling is happiness
against neutral, 40 pictures each, from FER+ (DATA/ferplus): collected from `train`, tried on `val`.

One JSON line a draw, then one with the means and their standard errors over the draws:

    right       share of the tried pictures whose most probable name is right
    named_80    share named, and rightly, at the threshold at which 80 % of the strangers are refused; wrong_80: by
                another's name; likewise _95
    named, wrong, refused   the same by the threshold that the column itself chose, and the strangers that it refuses
    track_wrong, track_named   share of tracks of ten frames, each one of a person's tried pictures, that are ever given
                a wrong name, and that end with the right one, by vision.smoothing.NameAgreement; a foreign descriptor
                speaks when perception would ask it, by runtime.track_descriptors
    seconds     from the last sample to the version in use
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from face_mtl_ros.bundle.bundle import load_bundle
from face_mtl_ros.bundle.locate import locate_bundle
from face_mtl_ros.bundle.versions import ModelVersions
from face_mtl_ros.datasets.crops import MARGIN, load_crops
from face_mtl_ros.datasets.dataset import Dataset
from face_mtl_ros.datasets.registry import read_dataset
from face_mtl_ros.runtime.descriptor import descriptors_dir, load_descriptor
from face_mtl_ros.runtime.predictor import Predictor, Readings
from face_mtl_ros.runtime.torch_engine import TorchEngine
from face_mtl_ros.runtime.track_descriptors import TrackDescriptors
from face_mtl_ros.samples.pictures import without_margin
from face_mtl_ros.samples.sample import Picture
from face_mtl_ros.samples.store import SampleStore
from face_mtl_ros.site_model import SiteModel
from face_mtl_ros.training.descriptors import dataset_descriptors
from face_mtl_ros.training.onsite import OnsiteTrainer
from face_mtl_ros.training.onsite_jobs import TrainRequest
from face_mtl_ros.vision.alignment import CROP_SIZE
from face_mtl_ros.vision.smoothing import NameAgreement

FEWEST, SPARED, TRIED = 12, 4, 15  # pictures of a person: to be drawn, kept for trying, tried at most
TRACKS, FRAMES, FRAME_S = 20, 10, 1 / 15
DESCRIBED_EVERY = 15  # frames, perception's default
SMILING = ("happiness", "neutral")
SMILING_SAMPLES, SMILING_TRIED = 40, 500


class Faces(NamedTuple):
    """Crops, uint8 (n, 160, 160), and the same faces by a foreign descriptor, float32 (n, d), where there is one."""

    crops: np.ndarray
    described: np.ndarray | None

    def take(self, rows: np.ndarray) -> "Faces":
        return Faces(self.crops[rows], None if self.described is None else self.described[rows])


def learn(
    samples: dict[str, np.ndarray], task: str, model: Path, options: argparse.Namespace
) -> tuple[Predictor, dict]:
    """One job in a FACE_MTL_HOME of its own: label to uint8 (n, 160, 160). Returns the new model, and what was said."""
    crops_home = os.environ.get("FACE_MTL_HOME")
    with tempfile.TemporaryDirectory() as home:
        if options.descriptor:
            (Path(home) / "descriptors").symlink_to(descriptors_dir().absolute())
        os.environ["FACE_MTL_HOME"] = home
        try:
            ModelVersions("measured").install(model)
            store = SampleStore()
            for label, crops in samples.items():
                stored = [without_margin(crop) if options.no_margin else crop for crop in crops]
                store.add(task, label, [Picture(np.ascontiguousarray(crop)) for crop in stored])
            trainer = OnsiteTrainer(store, SiteModel("measured"), threads=options.threads, nice=options.nice)
            start = time.monotonic()
            request = TrainRequest(
                task=task,
                seed=options.seed,
                time_budget_s=options.budget,
                recipe=options.recipe,
                descriptor=options.descriptor,
            )
            job = trainer.wait(trainer.start(request).job_id)
            seconds = time.monotonic() - start
            trainer.close()
            if job.state != "done":
                raise SystemExit(f"measure_onsite: {job.message}")
            bundle = load_bundle(locate_bundle("measured"))
        finally:
            os.environ.pop("FACE_MTL_HOME")
            if crops_home is not None:
                os.environ["FACE_MTL_HOME"] = crops_home
    said = {"seconds": seconds, "epochs": job.epoch, "held_back": job.accuracy}
    said |= {"parent": bundle.manifest.column(task).provenance.recipe.get("parent", "")}
    return Predictor(bundle, TorchEngine(bundle, "auto", "fp32")), said


def read(predictor: Predictor, crops: np.ndarray, described: np.ndarray | None = None) -> Readings:
    """What the model says of uint8 (n, 160, 160), and of the faces by its foreign descriptor, float32 (n, d)."""
    inner = np.ascontiguousarray(crops[:, MARGIN : MARGIN + CROP_SIZE, MARGIN : MARGIN + CROP_SIZE])
    vectors = {} if described is None else {name: described for name in predictor.bundle.manifest.descriptors}
    starts = range(0, len(inner), 32)
    parts = [predictor.read(inner[i : i + 32], {name: v[i : i + 32] for name, v in vectors.items()}) for i in starts]
    return Readings(
        {task: np.concatenate([part.probabilities[task] for part in parts]) for task in parts[0].probabilities},
        np.concatenate([part.embeddings for part in parts]),
        {task: np.concatenate([part.known[task] for part in parts]) for task in parts[0].known},
    )


def identity_draws(options: argparse.Namespace, model: Path) -> Iterator[dict]:
    dataset = read_dataset("lfw", options.data / "lfw", options.split)
    crops, people = load_crops(dataset), dataset.labels["identity"]
    faces = Faces(crops, None)
    if options.descriptor:
        faces = Faces(crops, dataset_descriptors(dataset, load_descriptor(options.descriptor)))
    eligible = np.flatnonzero(np.bincount(people) >= FEWEST)
    for draw in range(options.draws):
        rng = np.random.default_rng((options.seed, draw))
        chosen = rng.choice(eligible, options.people, replace=False)
        rows = {f"person-{i}": rng.permutation(np.flatnonzero(people == person)) for i, person in enumerate(chosen)}
        taken = {label: min(options.crops, len(found) - SPARED) for label, found in rows.items()}
        samples = {label: crops[found[: taken[label]]] for label, found in rows.items()}
        predictor, said = learn(samples, "identity", model, options)
        labels = predictor.bundle.manifest.column("identity").labels
        tried = [rows[label][taken[label] : taken[label] + TRIED] for label in labels]
        truth = np.repeat(np.arange(len(labels)), [len(found) for found in tried])
        shown = faces.take(np.concatenate(tried))
        strangers = faces.take(np.flatnonzero(~np.isin(people, chosen)))
        known = read(predictor, *shown)
        figures = scores(known, read(predictor, *strangers), truth) | tracks(predictor, shown, known, truth, rng)
        yield {"draw": draw, "collected": list(taken.values()), "tried": len(truth)} | said | figures


def scores(known: Readings, strangers: Readings, truth: np.ndarray) -> dict[str, float]:
    right = known.probabilities["identity"].argmax(1) == truth
    of_known, of_strangers = known.known["identity"], strangers.known["identity"]
    figures = {"right": right.mean(), "refused": (of_strangers <= 0).mean()}
    figures |= {"named": (right & (of_known > 0)).mean(), "wrong": (~right & (of_known > 0)).mean()}
    for percent in (80, 95):
        limit = np.quantile(of_strangers, percent / 100)
        figures |= {f"named_{percent}": (right & (of_known > limit)).mean()}
        figures |= {f"wrong_{percent}": (~right & (of_known > limit)).mean()}
    return {name: round(float(value), 4) for name, value in figures.items()}


def tracks(
    predictor: Predictor, shown: Faces, known: Readings, truth: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    people = np.unique(truth)
    wrong = named = 0
    for person in people:
        for track in range(TRACKS):
            rows = rng.choice(np.flatnonzero(truth == person), FRAMES)
            probabilities, is_known = known.probabilities["identity"][rows], known.known["identity"][rows] > 0
            if shown.described is not None:
                found = read(predictor, shown.crops[rows], as_tracked(shown.described[rows]))
                probabilities, is_known = found.probabilities["identity"], found.known["identity"] > 0
            naming = NameAgreement()
            names = [
                naming.update(str(track), "identity", probabilities[frame], bool(is_known[frame]), frame * FRAME_S)
                for frame in range(FRAMES)
            ]
            wrong += bool(set(names) - {None, person})
            named += names[-1] == person
    return {"track_wrong": wrong / len(people) / TRACKS, "track_named": named / len(people) / TRACKS}


def as_tracked(described: np.ndarray) -> np.ndarray:
    """What the model gets of a track's frames, float32 (n, d), that the descriptor would see as here."""
    memory, found = TrackDescriptors(), []
    for vector in described:
        for face_id in memory.due(["face"], DESCRIBED_EVERY):
            memory.add(face_id, {"": vector})
        found.append(memory.mean("face", ""))
    return np.stack(found)


def smiling_draws(options: argparse.Namespace, model: Path) -> Iterator[dict]:
    sets: dict[str, Dataset] = {s: read_dataset("ferplus", options.data / "ferplus", s) for s in ("train", "val")}
    crops = {split: load_crops(dataset) for split, dataset in sets.items()}
    rows = {
        split: [np.flatnonzero(d.labels["emotion"] == d.classes["emotion"].index(label)) for label in SMILING]
        for split, d in sets.items()
    }
    for draw in range(options.draws):
        rng = np.random.default_rng((options.seed, draw))
        collected = [rng.choice(found, SMILING_SAMPLES, replace=False) for found in rows["train"]]
        samples = {label: crops["train"][found] for label, found in zip(SMILING, collected, strict=True)}
        predictor, said = learn(samples, "smiling", model, options)
        tried = [rng.choice(found, SMILING_TRIED, replace=False) for found in rows["val"]]
        right = [
            read(predictor, crops["val"][found]).probabilities["smiling"].argmax(1) == i
            for i, found in enumerate(tried)
        ]
        yield {"draw": draw} | said | {"right": round(float(np.concatenate(right).mean()), 4)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds lfw and ferplus")
    parser.add_argument("--task", choices=["identity", "smiling"], default="identity")
    parser.add_argument("--model", default="default", help="name, or folder of a bundle")
    parser.add_argument("--split", choices=["val", "test"], default="test", help="of LFW's people")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--people", type=int, default=5)
    parser.add_argument("--crops", type=int, default=15, help="collected of each person")
    parser.add_argument("--descriptor", default="", help="installed foreign descriptor that identity draws on")
    parser.add_argument("--no-margin", action="store_true", help="store the crops as perception sends them")
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--budget", type=float, default=45.0, help="seconds of the job's time budget")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--nice", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    model = locate_bundle(options.model)
    found = []
    for draw in (identity_draws if options.task == "identity" else smiling_draws)(options, model):
        print(json.dumps(draw), flush=True)
        found.append(draw)
    figures = [name for name, value in found[0].items() if isinstance(value, float | int) and name != "draw"]
    summary: dict[str, object] = {"task": options.task, "draws": len(found), "model": load_bundle(model).version}
    for name in figures:
        values = np.array([draw[name] for draw in found], float)
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
        summary[name] = [round(float(values.mean()), 4), round(float(error), 4)]
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
