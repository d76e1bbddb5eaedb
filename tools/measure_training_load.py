#!/usr/bin/env python3
"""Measure what a training costs the perception node on the same cores, and how soon the new column is in use.

    source tools/env.sh && python tools/measure_training_load.py --data DATA [--rounds 3] [--people 5] [--crops 15]

Perception and trainer run as on a robot, in a FACE_MTL_HOME of their own, on a stream of 640 x 480 with one face at 30
frames a second. Aligned crops of people of LFW's split `test` (DATA/lfw) are imported by `face-mtl samples import`, and
each round trains a column for them anew through the trainer. One line of JSON a round:

    alone_hz, training_hz, kept    messages on /face_attributes a second before the round and during its training, and
                                   the second as a share of the first
    *_gap_ms                       the longest time between two messages: alone, in training, and from the moment when
                                   the new model was made until 2 s after the first message of it
    seconds                        from the end of the import (later rounds: from the request) to the first message with
                                   the new column
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import rclpy
from measure_swap import AFTER_S, TIMEOUT_S, Stream

from face_mtl_ros.datasets.crops import load_crops
from face_mtl_ros.datasets.registry import read_dataset
from face_mtl_ros.nodes.interfaces import JobStatus, TrainColumn, TrainingStatus
from face_mtl_ros.nodes.processes import node_process
from face_mtl_ros.paths import detectors_dir

TASK = "identity"
ALONE_S = 10.0
LOOK_S = 0.25  # between two questions how far the training is
FEWEST = 2  # pictures of a person that are not collected
LEARNING = ("queued", "training", "evaluating")


def write_people(data: Path, people: int, count: int, seed: int, folder: Path) -> None:
    """Crops of 160 x 160 of randomly drawn people of LFW, in a folder a person."""
    dataset = read_dataset("lfw", data / "lfw", "test")
    crops, found = load_crops(dataset), dataset.labels[TASK]
    rng = np.random.default_rng(seed)
    chosen = rng.choice(np.flatnonzero(np.bincount(found) >= count + FEWEST), people, replace=False)
    for i, person in enumerate(chosen):
        (folder / f"person-{i}").mkdir(parents=True)
        for row in rng.permutation(np.flatnonzero(found == person))[:count]:
            cv2.imwrite(str(folder / f"person-{i}" / f"{row}.png"), crops[row])


def measure(stream: Stream, samples: Path | None, seed: int) -> dict[str, object]:
    """One round; `samples` are imported before the training."""
    begun = time.monotonic()
    stream.spin_for(ALONE_S)
    alone = stream.gaps(begun)
    if samples:
        command = [sys.executable, "-m", "face_mtl_ros.cli", "samples", "import", str(samples), "--task", TASK]
        subprocess.run(command, check=True, stdout=sys.stderr)
    asked = time.monotonic()
    before = stream.messages[-1][1]
    job_id = _call(stream, TrainColumn, "train_column", task=TASK, seed=seed).job_id
    started = made = time.monotonic()
    while (job := _job(stream, job_id)).state in LEARNING:
        made = time.monotonic()
        stream.spin_for(LOOK_S)
    while not (new := [moment for moment, version in stream.messages if moment > started and version != before]):
        if job.state in ("failed", "cancelled") or time.monotonic() - made > TIMEOUT_S:
            raise SystemExit(f"measure_training_load: {job.message}")
        stream.spin_for(LOOK_S)
        job = _job(stream, job_id)
    stream.spin_for(AFTER_S)
    moments = np.array([moment for moment, _ in stream.messages])
    learning = moments[(moments > started) & (moments <= made)]
    alone_hz, training_hz = len(alone) / ALONE_S, len(learning) / (made - started)
    return {
        "alone_hz": round(alone_hz, 1),
        "training_hz": round(training_hz, 1),
        "kept": round(training_hz / alone_hz, 3),
        "alone_gap_ms": round(float(alone.max()), 1),
        "training_gap_ms": round(float(np.diff(learning).max() * 1e3), 1),
        "swap_gap_ms": round(float(stream.gaps(made).max()), 1),
        "training_s": round(made - started, 1),
        "seconds": round(new[0] - asked, 1),
    }


def _job(stream: Stream, job_id: str) -> JobStatus:
    return _call(stream, TrainingStatus, "training_status", job_id=job_id).jobs[0]


def _call(stream: Stream, kind, name: str, **fields):
    client = stream.create_client(kind, f"trainer/{name}")
    if not client.wait_for_service(TIMEOUT_S):
        raise SystemExit("measure_training_load: no trainer node came up; see its log above")
    future = client.call_async(kind.Request(**fields))
    rclpy.spin_until_future_complete(stream, future, timeout_sec=TIMEOUT_S)
    stream.destroy_client(client)
    answer = future.result()
    if answer is None or not answer.success:
        raise SystemExit(f"measure_training_load: {name}: {answer.message if answer else 'no answer'}")
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds lfw")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--people", type=int, default=5)
    parser.add_argument("--crops", type=int, default=15, help="of each person")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", "79")
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    installed = detectors_dir()
    with tempfile.TemporaryDirectory() as folder:
        samples, home = Path(folder) / "samples", Path(folder) / "home"
        write_people(args.data, args.people, args.crops, args.seed, samples)
        home.mkdir()
        if installed.is_dir():
            (home / "detectors").symlink_to(installed.resolve())
        os.environ["FACE_MTL_HOME"] = str(home)
        rclpy.init()
        stream = Stream(1)
        with node_process("perception_node"), node_process("trainer_node"):
            stream.settle()
            rows = []
            for i in range(args.rounds):
                rows.append(measure(stream, None if i else samples, args.seed + i))
                print(json.dumps(rows[-1]), flush=True)
            total = {
                "cores": os.cpu_count(),
                "load_average": round(os.getloadavg()[0], 1),
                "least_kept": min(row["kept"] for row in rows),
                "largest_swap_gap_ms": max(row["swap_gap_ms"] for row in rows),
                "largest_seconds": max(row["seconds"] for row in rows),
            }
            print(json.dumps(total))
        stream.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
