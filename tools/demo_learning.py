"""make demo-learning: people enrolled, a column trained and in use, and what is said of other pictures of them.

Perception and trainer run as two processes beside a camera of this program's. Of each person most pictures are
collected through the trainer, and the others asked after before and after the training. Lines of JSON go to stdout.
Exit status 1 when no column came into use. All that is stored is erased at the end.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from rclpy.task import Future
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from face_mtl_ros.nodes.conversions import array_to_image
from face_mtl_ros.nodes.interfaces import (
    CollectSamples,
    FaceAttributes,
    FaceAttributesArray,
    TrainColumn,
    TrainingStatus,
)
from face_mtl_ros.nodes.processes import node_process
from face_mtl_ros.paths import detectors_dir
from face_mtl_ros.vision.portraits import lit_portrait

TASK = "identity"
PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}
ENROLLED, ASKED = 15, 5  # pictures of a person, at most
FRAMES = 9  # that are read of a picture before what is said of it counts: names are agreed over frames
RATE = 10.0  # frames a second
JUMP_S = 10.0  # by which stamps jump at a new picture, so that it is a new face to the tracker
TIMEOUT_S = 600.0  # a bound for a very slow machine
ENDED = ("done", "failed", "cancelled")

People = dict[str, list[np.ndarray]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="", help="folder with a folder of pictures a person; empty: bundled ones")
    args = parser.parse_args()
    # A domain of its own on this machine alone, unless the caller chose one, so that no robot nearby hears the demo.
    os.environ.setdefault("ROS_DOMAIN_ID", "75")
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    try:
        people = read_people(Path(args.source)) if args.source else bundled_people()
    except (OSError, ValueError) as error:
        print(f"demo-learning: {error}", file=sys.stderr)
        return 1
    installed = detectors_dir()
    with tempfile.TemporaryDirectory(prefix="face_mtl_demo_") as home:
        if installed.is_dir():
            (Path(home) / "detectors").symlink_to(installed.resolve())
        os.environ["FACE_MTL_HOME"] = home  # not the user's own samples and models
        rclpy.init()
        stage = Stage()
        try:
            with node_process("perception_node"), node_process("trainer_node"):
                return show(stage, people)
        except (KeyboardInterrupt, ExternalShutdownException):
            return 1
        except DemoError as error:
            print(f"demo-learning: {error}", file=sys.stderr)
            return 1
        finally:
            stage.close()
            rclpy.try_shutdown()


def show(stage: "Stage", people: People) -> int:
    """The whole story; returns the exit status."""
    enrolled, asked = {}, {}
    for name, pictures in people.items():
        count = min(ENROLLED, len(pictures) - max(1, min(ASKED, len(pictures) // 4)))
        enrolled[name], asked[name] = pictures[:count], pictures[count:][:ASKED]
    ask(stage, "before", asked)
    stored = sum(enroll(stage, name, pictures) for name, pictures in enrolled.items())
    last_sample = time.monotonic()
    started = stage.call(TrainColumn, "train_column", task=TASK, requested_by="make demo-learning")
    if not started.success:
        raise DemoError(started.message)
    job = stage.until(lambda: ended(stage, started.job_id), "the training to end")
    say(phase="trained", state=job.state, message=job.message, samples=job.sample_count, accuracy=job.accuracy)
    if job.state != "done":
        return 1
    stage.until(lambda: stage.knows(TASK), "a message with the new column")
    seconds = time.monotonic() - last_sample
    answers = ask(stage, "after", asked)
    say(
        phase="summary",
        people=len(people),
        samples=stored,
        seconds_from_last_sample_to_first_message=round(seconds, 1),
        model_version=job.model_version,
        asked=len(answers),
        right=sum(named == name for name, named in answers),
        unknown=sum(named == "unknown" for _, named in answers),
        wrong=sum(named not in (name, "unknown", "") for name, named in answers),
        no_face=sum(named == "" for _, named in answers),
    )
    return 0


def enroll(stage: "Stage", name: str, pictures: list[np.ndarray]) -> int:
    """Collect each picture of a person; returns how many were stored."""
    stored, refused = 0, ""
    for picture in pictures:
        stage.show(picture)
        # One picture is one sample at most: a still face brings no second one that differs.
        answer = stage.call(CollectSamples, "collect_samples", task=TASK, label=name, count=1, time_limit_s=3.0)
        stored += answer.collected
        refused = refused if answer.success else answer.message
    say(phase="collected", person=name, pictures=len(pictures), stored=stored, last_refused=refused)
    return stored


def ask(stage: "Stage", phase: str, people: People) -> list[tuple[str, str]]:
    """Print what the model says of each picture; returns pairs of person and name, "" where no face was found."""
    answers = []
    for name, pictures in people.items():
        for i, picture in enumerate(pictures):
            stage.show(picture)
            stage.until(lambda: stage.read >= FRAMES, "pictures to be read")
            said = {a.task: a for a in stage.face.attributes} if stage.face else {}
            labels = {task: attribute.label for task, attribute in said.items()}
            confidence = round(said[TASK].confidence, 3) if TASK in said else None
            say(phase=phase, person=name, picture=i, face=bool(stage.face), says=labels, confidence=confidence)
            answers.append((name, labels.get(TASK, "")))
    return answers


def ended(stage: "Stage", job_id: str):
    """The job where it has ended, else None."""
    (job,) = stage.call(TrainingStatus, "training_status", job_id=job_id).jobs
    return job if job.state in ENDED else None


def say(**fields: object) -> None:
    shown = {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in fields.items()}
    print(json.dumps(shown, ensure_ascii=False), flush=True)


def read_people(folder: Path) -> People:
    """The pictures in a folder a person, uint8 (h, w, 3) BGR; ValueError where there are too few."""
    people: People = {}
    for person in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(file for file in person.iterdir() if file.suffix.lower() in PICTURES)[: ENROLLED + ASKED]
        pictures = [picture for file in files if (picture := cv2.imread(str(file))) is not None]
        if len(pictures) > ASKED:
            people[person.name] = pictures
    if len(people) < 2:
        raise ValueError(f"{folder} needs a folder each of two people or more, with {ASKED + 1} pictures or more")
    return people


def bundled_people() -> People:
    """The two bundled portraits at other places, sizes, tilts and in other light: still pictures, of course."""
    rng = np.random.default_rng(1)
    names = {"Eileen": "astronaut", "Grace": "grace_hopper"}
    return {name: [_variant(asset, rng) for _ in range(ENROLLED + ASKED)] for name, asset in names.items()}


def _variant(asset: str, rng: np.random.Generator) -> np.ndarray:
    center = (float(rng.uniform(220, 420)), float(rng.uniform(200, 280)))
    return lit_portrait(asset, (640, 480), center, float(rng.uniform(130, 200)), rng)


class DemoError(RuntimeError):
    """The demo cannot go on."""


class Stage:
    """A camera that shows one picture for as long as it is told to, and what is said of it."""

    def __init__(self) -> None:
        self.face: FaceAttributes | None = None  # the largest of the latest message on the picture
        self.read = 0  # messages on it
        self._stamp_s, self._since = 0.0, 0.0  # of the latest frame, and of the picture's first
        self._picture: np.ndarray | None = None
        self._node = rclpy.create_node("demo_learning")
        self._images = self._node.create_publisher(Image, "image_raw", qos_profile_sensor_data)
        self._node.create_subscription(FaceAttributesArray, "face_attributes", self._on_faces, 10)
        self._node.create_timer(1 / RATE, self._publish)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._stamp_s = self._node.get_clock().now().nanoseconds * 1e-9

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()

    def show(self, picture: np.ndarray) -> None:
        """Show another picture from now on."""
        self._stamp_s += JUMP_S
        self._since, self._picture, self.face, self.read = self._stamp_s, picture, None, 0

    def knows(self, task: str) -> bool:
        """Whether the latest message has the task."""
        return self.face is not None and any(attribute.task == task for attribute in self.face.attributes)

    def call(self, kind, name: str, **fields):
        """Call a service of the trainer while pictures go on."""
        client = self._node.create_client(kind, f"trainer/{name}")
        self.until(client.service_is_ready, "the trainer node")
        future: Future = client.call_async(kind.Request(**fields))
        self.until(future.done, f"an answer of {name}")
        self._node.destroy_client(client)
        return future.result()

    def until(self, condition: Callable[[], object], what: str):
        """Go on until a condition holds, and return what it says."""
        deadline = time.monotonic() + TIMEOUT_S
        while not (found := condition()):
            self._executor.spin_once(timeout_sec=0.1)
            if time.monotonic() > deadline:
                raise DemoError(f"waited {TIMEOUT_S:.0f} s in vain for {what}; the log above says why")
        return found

    def _publish(self) -> None:
        if self._picture is None:
            return
        self._stamp_s += 1 / RATE
        stamp = Time(nanoseconds=round(self._stamp_s * 1e9)).to_msg()
        self._images.publish(array_to_image(self._picture, Header(stamp=stamp, frame_id="demo")))

    def _on_faces(self, message: FaceAttributesArray) -> None:
        if message.header.stamp.sec + message.header.stamp.nanosec * 1e-9 <= self._since:
            return  # of the picture before
        self.read += 1
        self.face = max(message.faces, key=lambda face: face.roi.width * face.roi.height, default=None)


if __name__ == "__main__":
    sys.exit(main())
