"""kill -9 of the nodes at any moment: nothing that was confirmed is lost, nothing left by halves, and all goes on."""

import os
import random
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source it, or bash tools/setup.sh run and source tools/env.sh")
pytest.importorskip("face_mtl_msgs", reason="needs the messages: bash tools/setup.sh run and source tools/env.sh")

import test_nodes  # noqa: E402
import trainer_world  # noqa: E402
from test_node_set_model import GATE  # noqa: E402
from trainer_world import TIMEOUT_S, fill  # noqa: E402

from face_mtl_ros.bundle.bundle import load_bundle  # noqa: E402
from face_mtl_ros.bundle.locate import locate_bundle  # noqa: E402
from face_mtl_ros.bundle.versions import ModelVersions  # noqa: E402
from face_mtl_ros.nodes.interfaces import (  # noqa: E402
    CollectSamples,
    FaceAttributesArray,
    Rollback,
    TrainColumn,
    TrainingStatus,
)
from face_mtl_ros.nodes.processes import node_process  # noqa: E402
from face_mtl_ros.runtime.random_bundle import write_random_bundle  # noqa: E402
from face_mtl_ros.samples.store import SampleStore  # noqa: E402
from face_mtl_ros.vision.portraits import lit_portrait  # noqa: E402

pytestmark = [pytest.mark.ros, pytest.mark.slow]
robot, domain = trainer_world.robot, trainer_world.domain

KILLS = ["collect"] * 3 + ["train"] * 4 + ["install"] * 3
ENDED = ("done", "failed", "cancelled")
GAP_S = 5.0  # the longest silence of perception that a slow machine may have


def until(condition, what):
    """Wait until a condition holds, and return what it says."""
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
    return found


def listen(robot):
    """The moments and model versions of the messages on face_attributes from now on, and a face's id."""
    heard: list[tuple[float, str]] = []
    note = lambda message: heard.append((time.monotonic(), message.model_version))  # noqa: E731
    robot.node.create_subscription(FaceAttributesArray, "face_attributes", note, 10)
    until(lambda: heard, "a message of perception")
    return heard


def write_film(folder):
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(90):
        picture = lit_portrait("astronaut", (640, 480), (320, 240), rng.uniform(140, 170), rng)
        cv2.imwrite(str(folder / f"{i}.jpg"), picture)


def check_whole(confirmed):
    """What lies on the disk is whole; returns the versions of the model that are there."""
    versions = ModelVersions("default")
    for version in versions.installed():
        assert load_bundle(versions.folder(version)).version == version
    active = load_bundle(locate_bundle("default")).version
    stored = {sample.id for sample in SampleStore().find()}
    assert confirmed <= stored, f"lost: {confirmed - stored}"
    assert all(SampleStore().crop(i).any() for i in stored)
    return {*versions.installed(), active}


def collect_until_killed(robot, rng, kill):
    """One collection after the other; returns the numbers of the samples that answers confirmed before the kill."""
    confirmed: set[int] = set()
    end = time.monotonic() + rng.uniform(1, 10)
    while time.monotonic() < end:
        person = f"person {rng.randrange(10**9)}"
        answer = robot.begin(
            CollectSamples, "collect_samples", task="identity", label=person, count=2, time_limit_s=60.0
        )
        while not answer.done() and time.monotonic() < end:
            time.sleep(0.01)
        if not answer.done():
            kill()
            time.sleep(0.5)  # the answer may be on its way
        confirmed |= set(answer.result().sample_ids) if answer.done() else set()
    kill()
    return confirmed


def train_until_killed(robot, rng, kill):
    assert robot.call(TrainColumn, "train_column", task="look", seed=rng.randrange(1, 1000)).success
    time.sleep(rng.uniform(0, 8))
    kill()


def install_until_killed(robot, rng, kill):
    started = robot.call(TrainColumn, "train_column", task="look", seed=rng.randrange(1, 1000))
    late = ("evaluating", "installing", *ENDED)
    until(lambda: job_of(robot, started.job_id).state in late, "the training's end")
    time.sleep(rng.uniform(0, 1))
    kill()


def jobs_of(robot):
    return robot.call(TrainingStatus, "training_status").jobs


def job_of(robot, job_id):
    return robot.call(TrainingStatus, "training_status", job_id=job_id).jobs[0]


def test_ten_kills_of_the_trainer(robot, tmp_path):
    """While it collects, trains and installs, beside perception and camera as they are."""
    seed = int(os.environ.get("KILL_SEED") or random.randrange(10**6))
    print(f"to repeat: KILL_SEED={seed}")
    rng = random.Random(seed)
    fill("look", up="grace_hopper", down="astronaut")
    confirmed = {sample.id for sample in SampleStore().find()}
    write_film(tmp_path / "film")
    work = {"collect": collect_until_killed, "train": train_until_killed, "install": install_until_killed}
    settings = {"threads": 1, "nice": 0, "time_budget_s": 5.0}
    with (
        node_process("camera_node", {"source": tmp_path / "film", "rate": 15.0}),
        node_process("perception_node", {"detector": "haar"}) as perception,
    ):
        heard = listen(robot)
        known = check_whole(confirmed)
        states = []
        for phase in [*rng.sample(KILLS, len(KILLS)), ""]:
            with node_process("trainer_node", settings) as trainer:
                robot.ready_again()
                until(lambda: all(job.state in ENDED for job in jobs_of(robot)), "the jobs' end")
                jobs = jobs_of(robot)
                assert all(job.state in ("done", "failed") and job.message for job in jobs)
                states = [job.state for job in jobs]
                known |= check_whole(confirmed) | {job.model_version for job in jobs}

                def kill(trainer=trainer):
                    trainer.kill()
                    trainer.wait()

                if phase:
                    confirmed |= work[phase](robot, rng, kill) or set()
                    known |= check_whole(confirmed)
                else:
                    assert not list(ModelVersions("default").root.rglob(".*"))
                    answer = robot.call(
                        CollectSamples, "collect_samples", task="identity", label="last", count=4, time_limit_s=60.0
                    )
                    assert answer.success, answer.message
        assert perception.poll() is None
        assert len(states) == KILLS.count("train") + KILLS.count("install") and "done" in states
        gaps = np.diff([moment for moment, _ in heard])
        assert gaps.max() < GAP_S, f"perception was silent for {gaps.max():.1f} s"
        assert {version for _, version in heard} <= known
        assert len(confirmed) > 12, "no collection was confirmed: this has shown nothing"
        print(f"{states}, {len(confirmed)} samples, {len(heard)} messages, longest gap {gaps.max() * 1e3:.0f} ms")


def test_perception_is_killed_while_it_takes_what_the_trainer_gives_it(robot, random_bundle, tmp_path):
    columns = {column.task: (column.labels, column.sources) for column in random_bundle.manifest.columns}
    grown = write_random_bundle(tmp_path / "grown", "compact", columns | {"hat": (["on", "off"], [])})
    versions = ModelVersions("default")
    versions.install(grown.root)
    gate, loading = tmp_path / "gate", tmp_path / "loading"
    marked = GATE.replace("    while hasattr", f"    pathlib.Path({str(loading)!r}).touch()\n    while hasattr")
    parameters = {"detector": "haar"}
    with (
        node_process("camera_node", {"rate": 15.0}),
        node_process("trainer_node"),
    ):
        with test_nodes.defective_perception(marked.format(gate=str(gate)), parameters) as perception:
            heard = listen(robot)
            loading.unlink()
            answer = robot.begin(Rollback, "rollback")
            until(loading.exists, "perception to load the model")
            perception.kill()
            perception.communicate(timeout=TIMEOUT_S)
        assert {version for _, version in heard} == {grown.version}
        before = len(heard)
        with node_process("perception_node", parameters):
            until(lambda: len(heard) > before, "a message of the new perception")
            until(answer.done, "the trainer's answer")
            assert answer.result().success and "perception ended" in answer.result().message
            assert {version for _, version in heard[before:]} == {random_bundle.version}
            assert check_whole(set()) == {grown.version, random_bundle.version}
