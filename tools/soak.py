#!/usr/bin/env python3
"""make soak SECONDS=3600: a robot that enrols, learns, goes back and forgets again and again.

Camera, perception and trainer run as processes in a FACE_MTL_HOME of their own, before a film of the two bundled
portraits in changing light. A round goes through the trainer's services: both people are enrolled, one of them twice; a
column is trained, a label renamed, that taken back, two labels merged, and all forgotten or the column removed.

Stdout gets a line of JSON a round: what was done and failed; memory of both nodes; versions, jobs, size of the compiled
engines, number and size of the other files under FACE_MTL_HOME; messages, and the longest time between two. At last
comes a summary. Exit status 1 where something failed, a node ended, memory was not flat within 5 % after the first
rounds, or files were not bounded.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import cv2
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from face_mtl_ros.nodes.clients import ClientError, TrainerClient
from face_mtl_ros.nodes.interfaces import (
    CollectSamples,
    FaceAttributesArray,
    ForgetSamples,
    MergeLabels,
    RemoveColumn,
    RenameLabel,
    Rollback,
    TrainColumn,
    TrainingStatus,
)
from face_mtl_ros.nodes.processes import node_process
from face_mtl_ros.paths import cache_dir, detectors_dir, home
from face_mtl_ros.runtime.engine_cache import ENGINES, LIMIT_BYTES
from face_mtl_ros.training.onsite import REMEMBERED
from face_mtl_ros.vision.portraits import lit_portrait

FILM = 120  # frames
RATE = 10.0  # frames a second
PEOPLE = ("astronaut", "grace_hopper")  # left and right
TASKS = ("identity", "site")  # by turns: an open set and a plain one
SAMPLES = 6  # of a label
KEEP_VERSIONS = 3
WARM_UP = 3  # rounds, in which memory and files grow to what they stay at
JUDGED = 6  # rounds after these, at least, to say how much they grow
GROWTH = 1.05
TIMEOUT_S = 300.0
ENDED = ("done", "failed", "cancelled")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0, help="for how long rounds begin")
    args = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", "74")
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    installed = detectors_dir()
    with tempfile.TemporaryDirectory(prefix="face_mtl_soak_") as folder, ExitStack() as stack:
        film = Path(folder) / "film"
        write_film(film)
        os.environ["FACE_MTL_HOME"] = str(Path(folder) / "home")  # not the user's own samples and models
        home().mkdir()
        if installed.is_dir():
            detectors_dir().symlink_to(installed.resolve())
        rclpy.init()
        stack.callback(rclpy.try_shutdown)
        watch = Watch()
        stack.callback(watch.close)
        stack.enter_context(node_process("camera_node", {"source": film, "rate": RATE}))
        nodes = {
            "perception": stack.enter_context(node_process("perception_node")),
            "trainer": stack.enter_context(node_process("trainer_node", {"keep_versions": KEEP_VERSIONS})),
        }
        rounds = []
        try:
            client = stack.enter_context(TrainerClient())
            watch.until(watch.faces_by_side, "two faces")
            watch.take_gaps()
            end = time.monotonic() + args.seconds
            while time.monotonic() < end and all(node.poll() is None for node in nodes.values()):
                rounds.append(Round(watch, client, len(rounds)).run() | state(nodes) | watch.take_gaps())
                print(json.dumps(rounds[-1]), flush=True)
        except (ClientError, TimeoutError) as error:
            print(f"soak: {error}", file=sys.stderr)
            return 1
        except (KeyboardInterrupt, ExternalShutdownException):
            pass  # what was seen until now counts
        ended = [name for name, node in nodes.items() if node.poll() is not None]
    summary = judge(rounds) | {"ended": ended}
    print(json.dumps(summary))
    return 0 if summary["flat"] is not False and not summary["failed"] and not ended and rounds else 1


def write_film(folder: Path) -> None:
    """Two people side by side."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(FILM):
        halves = [
            lit_portrait(person, (320, 480), tuple(rng.uniform((150, 230), (170, 250))), rng.uniform(140, 160), rng)
            for person in PEOPLE
        ]
        cv2.imwrite(str(folder / f"{i}.jpg"), np.hstack(halves))


class Round:
    """One round of learning and forgetting.

    Args:
        number: of the round.
    """

    def __init__(self, watch: "Watch", client: TrainerClient, number: int) -> None:
        self._watch, self._client, self._number = watch, client, number
        self._task = TASKS[number % len(TASKS)]
        self._did: list[str] = []
        self._failed: list[str] = []

    def run(self) -> dict[str, object]:
        begun, task = time.monotonic(), self._task
        for label, side in (("left", 0), ("left again", 0), ("right", 1)):
            face_id = self._watch.until(self._watch.faces_by_side, "two faces")[side]
            self._do(CollectSamples, "collect_samples", task=task, label=label, face_id=face_id, count=SAMPLES)
        self._train()
        self._do(RenameLabel, "rename_label", task=task, label="right", new_label="the right one")
        self._do(Rollback, "rollback")
        self._do(MergeLabels, "merge_labels", task=task, from_labels=["left again"], into_label="left")
        if self._number % 4 < 2:
            self._do(ForgetSamples, "forget_samples", everything=True)
            self._do(RemoveColumn, "remove_column", task=task)
        else:
            self._do(RemoveColumn, "remove_column", task=task, forget_samples=True)
        seconds = round(time.monotonic() - begun, 1)
        return {"round": self._number, "seconds": seconds, "did": self._did, "failed": self._failed}

    def _train(self) -> None:
        started = self._do(TrainColumn, "train_column", task=self._task)
        if not started.success:
            return
        request = TrainingStatus.Request(job_id=started.job_id)
        while (job := self._client.call(TrainingStatus, "training_status", request).jobs[0]).state not in ENDED:
            time.sleep(0.5)
        self._note("training", job.state == "done", job.message)
        if job.state == "done":
            self._watch.until(lambda: self._watch.version == job.model_version, "a message of the new model")

    def _do(self, kind, name: str, **fields):
        answer = self._client.call(kind, name, kind.Request(**fields))
        self._note(name, answer.success, answer.message)
        return answer

    def _note(self, name: str, success: bool, message: str) -> None:
        self._did.append(name)
        if not success:
            self._failed.append(f"{name}: {message}")


class Watch:
    """Notes the messages on face_attributes, in a thread of its own."""

    def __init__(self) -> None:
        self.version = ""
        self._faces: list = []
        self._times: list[float] = []
        self._node = rclpy.create_node("soak")
        self._node.create_subscription(FaceAttributesArray, "face_attributes", self._on_faces, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(10)
        self._node.destroy_node()

    def faces_by_side(self) -> list[str]:
        """The ids of the two faces, the left one first; empty where there are not two."""
        faces = sorted(self._faces, key=lambda face: face.roi.x_offset)
        return [face.face_id for face in faces] if len(faces) == len(PEOPLE) else []

    def until(self, condition: Callable, what: str):
        """Wait until a condition holds, and return what it says; TimeoutError where it does not."""
        deadline = time.monotonic() + TIMEOUT_S
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {TIMEOUT_S:.0f} s in vain for {what}; the log above says why")
            time.sleep(0.05)
        return found

    def take_gaps(self) -> dict[str, object]:
        """What came since the last call, and the longest time between two messages."""
        times, self._times = self._times, self._times[-1:]
        gap = max(np.diff([*times, time.monotonic()]), default=0.0)
        return {"messages": len(times), "largest_gap_ms": round(float(gap) * 1e3)}

    def _on_faces(self, message: FaceAttributesArray) -> None:
        self._times.append(time.monotonic())
        self._faces, self.version = message.faces, message.model_version

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):  # Ctrl-C
            self._executor.spin()


def state(nodes: dict[str, subprocess.Popen]) -> dict[str, object]:
    """Memory of the nodes in MB, and what lies under FACE_MTL_HOME, in MB too; hard links count once."""
    engines = sizes(*(cache_dir() / engine for engine in ENGINES))
    others = {number: size for number, size in sizes(home()).items() if number not in engines}
    jobs = len(list(home().glob("jobs/*/job.json")))
    return {
        "rss_mb": {name: round(resident(node.pid) / 1e6, 1) for name, node in nodes.items()},
        "versions": len(list(home().glob("bundles/default/versions/*"))),
        "jobs": jobs,
        "engines_mb": round(sum(engines.values()) / 1e6, 1),
        "other_files": len(others) - jobs,
        "other_mb": round(sum(others.values()) / 1e6, 1),
    }


def sizes(*folders: Path) -> dict[int, int]:
    """Inode to bytes of all files below."""
    found = [entry.stat() for folder in folders for entry in folder.rglob("*") if entry.is_file()]
    return {file.st_ino: file.st_size for file in found}


def resident(pid: int) -> int:
    """Bytes of memory that a process holds; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def judge(rounds: list[dict]) -> dict[str, object]:
    """The summary; `flat` is None where there were too few rounds to tell."""
    judged = rounds[WARM_UP:]
    third = len(judged) // 3
    figures = {
        "perception_mb": [row["rss_mb"]["perception"] for row in judged],
        "trainer_mb": [row["rss_mb"]["trainer"] for row in judged],
        "other_files": [row["other_files"] for row in judged],
        "other_mb": [row["other_mb"] for row in judged],
    }
    ends = {name: (np.median(v[:third]), np.median(v[-third:])) for name, v in figures.items() if third}
    bounded = all(
        row["versions"] <= KEEP_VERSIONS + 1 and row["jobs"] <= REMEMBERED and row["engines_mb"] * 1e6 <= LIMIT_BYTES
        for row in rounds
    )
    flat = all(last <= GROWTH * first for first, last in ends.values()) and bounded
    return {
        "rounds": len(rounds),
        "failed": [f"round {row['round']}: {why}" for row in rounds for why in row["failed"]],
        "flat": flat if len(judged) >= JUDGED else None,
        **{name: [round(float(value), 1) for value in pair] for name, pair in ends.items()},
        "versions": max((row["versions"] for row in rounds), default=0),
        "jobs": max((row["jobs"] for row in rounds), default=0),
        "engines_mb": max((row["engines_mb"] for row in rounds), default=0),
        "largest_gap_ms": max((row["largest_gap_ms"] for row in rounds), default=0),
    }


if __name__ == "__main__":
    sys.exit(main())
