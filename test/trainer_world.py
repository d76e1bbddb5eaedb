"""What the tests of the trainer node share: a perception node of the test's own, which shows faces and takes models."""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import rclpy
from rclpy.action import ActionClient
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.task import Future
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import Header

from face_mtl_ros.nodes.interfaces import FaceCrop, FaceCropArray, SetModel, Train, TrainingStatus
from face_mtl_ros.samples.sample import Picture
from face_mtl_ros.samples.store import SampleStore
from face_mtl_ros.vision.alignment import align

TIMEOUT_S = 1800.0  # a bound for a very slow machine; nothing waits for it to pass
ASSETS = Path(__file__).parents[1] / "face_mtl_ros" / "assets"
EYES = {"astronaut": [[203, 96], [249, 99]], "grace_hopper": [[220, 190], [308, 190]]}
TURNS = range(0, 360, 15)  # degrees, by which a face's pictures differ


def portrait(name: str, turn: float = 0.0) -> np.ndarray:
    """uint8 (128, 128): a bundled face, turned by degrees."""
    crop = align(cv2.imread(str(ASSETS / f"{name}.jpg")), np.array(EYES[name], np.float32))
    return cv2.warpAffine(crop, cv2.getRotationMatrix2D((63.5, 63.5), turn, 1.0), (128, 128), borderMode=1)


def fill(task: str = "identity", count: int = 6, **people: str) -> None:
    """Samples of people in the store, without a collection: label to portrait."""
    for label, name in people.items():
        SampleStore().add(task, label, [Picture(portrait(name, 15 * i)) for i in range(count)])


@contextlib.contextmanager
def altered_trainer(alteration: str, **parameters: object) -> Iterator[subprocess.Popen]:
    """The trainer node as a process in which lines of code are run first."""
    code = f"{alteration}\nfrom face_mtl_ros.nodes.trainer_node import main\nmain()"
    settings = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    process = subprocess.Popen([sys.executable, "-c", code, "--ros-args", *settings])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def domain(monkeypatch) -> None:
    """A ROS domain of this test process's own."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def robot(home, domain, random_bundle):
    """A robot whose default model is a random bundle, before its trainer is started."""
    shutil.copytree(random_bundle.root, home / "bundles" / "default")
    rclpy.init()
    robot = Robot()
    yield robot
    robot.close()
    rclpy.try_shutdown()


class Robot:
    """Publishes crops of the faces in view, if any, at 30 frames a second and answers set_model, spun in a thread."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("robot")
        self.in_view: dict[str, str] = {}  # face_id to portrait
        self.blurred = False
        self.models: list[str] = []  # folders that set_model was given
        self.refuses = ""
        self._frame, self._restarted = 0, False
        self._clients: dict[str, Client] = {}
        self._pictures = {name: [_crop(portrait(name, turn)) for turn in TURNS] for name in EYES}
        self._crops = self.node.create_publisher(FaceCropArray, "perception/crops", 10)
        self.node.create_timer(1 / 30, self._publish)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def take_models(self) -> None:
        """Offer set_model, as a perception node does."""
        self.node.create_service(SetModel, "perception/set_model", self._on_set_model)

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(10)
        self.node.destroy_node()

    def listeners(self) -> int:
        """How many subscribe to the crops."""
        return self._crops.get_subscription_count()

    def call(self, kind, name, **fields):
        """Call a service of the trainer."""
        return _done(self.begin(kind, name, **fields), name)

    def begin(self, kind, name, **fields) -> Future:
        """Call a service of the trainer, which may be killed before it answers."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, f"trainer/{name}")
            if self._restarted:  # the trainer before is discovered still, and the new one within this time
                time.sleep(1.0)
        assert self._clients[name].wait_for_service(TIMEOUT_S), f"no service {name}"
        return self._clients[name].call_async(kind.Request(**fields))

    def ready_again(self) -> None:
        """Wait for a new trainer: one that was killed is discovered for a while longer, and answers nothing."""
        deadline = time.monotonic() + TIMEOUT_S
        answered = threading.Event()
        while not answered.wait(1.0):
            assert time.monotonic() < deadline
            self.begin(TrainingStatus, "training_status").add_done_callback(lambda _: answered.set())
        self._restarted = True
        time.sleep(1.0)  # in which the other clients find it too

    def train(self, cancel_at: str = "", **goal):
        """Run the action to its end; returns its result and the feedback. Cancels when a state is reached, if told."""
        feedback = []
        client = ActionClient(self.node, Train, "trainer/train")
        assert client.wait_for_server(TIMEOUT_S)
        sent = client.send_goal_async(Train.Goal(**goal), feedback_callback=lambda m: feedback.append(m.feedback))
        handle = _done(sent, "train")
        assert handle.accepted
        ended = handle.get_result_async()
        deadline = time.monotonic() + TIMEOUT_S
        while cancel_at and not ended.done() and not any(f.state == cancel_at for f in feedback):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        if cancel_at:
            handle.cancel_goal_async()
        answer = _done(ended, "train")
        client.destroy()
        return answer.result, feedback, answer.status

    def _publish(self) -> None:
        if not self.listeners() or not self.in_view:
            return
        self._frame += 1
        header = Header(stamp=self.node.get_clock().now().to_msg(), frame_id="head")
        faces = [self._face(face_id, name, header) for face_id, name in self.in_view.items()]
        self._crops.publish(FaceCropArray(header=header, faces=faces, model_version="test"))

    def _face(self, face_id: str, name: str, header: Header) -> FaceCrop:
        image = self._pictures[name][self._frame % len(TURNS)]
        if self.blurred:
            image = _crop(np.full((128, 128), 128, np.uint8))
        image.header = header
        roi = RegionOfInterest(x_offset=10, y_offset=10, width=100, height=120)
        return FaceCrop(face_id=face_id, image=image, quality=0.8, sharpness=500.0, detection_confidence=0.9, roi=roi)

    def _on_set_model(self, request: SetModel.Request, response: SetModel.Response) -> SetModel.Response:
        response.success, response.message = not self.refuses, self.refuses
        if response.success:
            self.models.append(request.model)
        return response


def _crop(crop: np.ndarray) -> Image:
    image = Image(height=128, width=128, encoding="mono8", step=128)
    image.data.frombytes(crop.tobytes())
    return image


def _done(future, what: str):
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    assert done.wait(TIMEOUT_S), f"{what} did not answer"
    return future.result()
