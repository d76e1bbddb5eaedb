"""The nodes as users run them: separate processes over DDS, watched from outside."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source it, or bash tools/setup.sh run and source tools/env.sh")
pytest.importorskip("face_mtl_msgs", reason="needs the messages: bash tools/setup.sh run and source tools/env.sh")

import rclpy  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.qos import qos_profile_sensor_data  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402

import face_mtl_ros  # noqa: E402
from face_mtl_ros.nodes.conversions import array_to_image  # noqa: E402
from face_mtl_ros.nodes.interfaces import FaceAttributesArray, GetModel, SetModel  # noqa: E402
from face_mtl_ros.nodes.processes import node_process  # noqa: E402
from face_mtl_ros.runtime.random_bundle import write_random_bundle  # noqa: E402
from face_mtl_ros.vision.portraits import PlacedFace, compose  # noqa: E402

pytestmark = pytest.mark.ros

TIMEOUT_S = 300.0  # a bound for a very slow machine; nothing waits for it to pass


class Watcher:
    """A node of the test's own, spun in a thread, whose `wait` wakes at each message."""

    def __init__(self):
        self.node = rclpy.create_node("watcher")
        self.faces: list[FaceAttributesArray] = []
        self.diagnostics: list[DiagnosticStatus] = []
        self._news = threading.Condition()
        self.images = self.node.create_publisher(Image, "image_raw", qos_profile_sensor_data)
        self.node.create_subscription(FaceAttributesArray, "face_attributes", self._note(self.faces.append), 10)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._note(self._on_diagnostics), 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def close(self):
        self._executor.shutdown()
        self._thread.join(10)
        self.node.destroy_node()

    def subscribe(self, kind, topic) -> list:
        found: list = []
        self.node.create_subscription(kind, topic, self._note(found.append), 1)
        return found

    def wait(self, condition: Callable[[], object], what: str):
        """Block until the condition holds; it is looked at again at every message."""
        deadline = time.monotonic() + TIMEOUT_S
        with self._news:
            while not (result := condition()):
                if not self._news.wait(min(0.5, deadline - time.monotonic())) and time.monotonic() > deadline:
                    raise AssertionError(f"waited {TIMEOUT_S:.0f} s in vain for {what}")
            return result

    def call(self, kind, name, request):
        client = self.node.create_client(kind, name)
        assert client.wait_for_service(TIMEOUT_S), f"no service {name}"
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        assert done.wait(TIMEOUT_S), f"{name} did not answer"
        self.node.destroy_client(client)
        return future.result()

    def state(self) -> str:
        return self.call(GetState, "perception/get_state", GetState.Request()).current_state.label

    def change_state(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.call(ChangeState, "perception/change_state", request).success

    def set_parameter(self, name: str, **value):
        parameter = Parameter(name=name, value=ParameterValue(**value))
        response = self.call(SetParameters, "perception/set_parameters", SetParameters.Request(parameters=[parameter]))
        return response.results[0]

    def ready(self):
        """Wait until the perception node listens to images."""
        self.wait(lambda: self.images.get_subscription_count(), "the perception node's subscription")

    def publish(self, picture: np.ndarray, **fields):
        stamp = self.node.get_clock().now().to_msg()
        message = array_to_image(picture, Header(stamp=stamp, frame_id="test"))
        for name, value in fields.items():
            setattr(message, name, value)
        self.images.publish(message)
        return message

    def publish_until(self, condition: Callable[[], object], what: str, picture: np.ndarray, **fields):
        """Publish a picture again and again (images are sent without a receipt) until the condition holds."""
        deadline = time.monotonic() + TIMEOUT_S
        while not (result := condition()):
            assert time.monotonic() < deadline, f"published for {TIMEOUT_S:.0f} s in vain for {what}"
            self.publish(picture, **fields)
            with self._news:
                self._news.wait(0.1)
        return result

    def publish_until_seen(self, picture: np.ndarray, count: int = 1):
        """Publish a picture until so many more messages came; returns the new ones."""
        before = len(self.faces)
        self.publish_until(lambda: len(self.faces) >= before + count, "a message on face_attributes", picture)
        return self.faces[before:]

    def status(self) -> DiagnosticStatus | None:
        return self.diagnostics[-1] if self.diagnostics else None

    def level(self) -> bytes | None:
        return self.diagnostics[-1].level if self.diagnostics else None

    def value(self, key: str) -> str:
        status = self.wait(self.status, "diagnostics")
        return {entry.key: entry.value for entry in status.values}.get(key, "")

    def _on_diagnostics(self, message: DiagnosticArray):
        self.diagnostics.extend(status for status in message.status if status.name == "perception: faces")

    def _note(self, keep):
        def callback(message):
            with self._news:
                keep(message)
                self._news.notify_all()

        return callback


@pytest.fixture
def watcher(tmp_path, monkeypatch, worker_domain):
    monkeypatch.setenv("ROS_DOMAIN_ID", worker_domain)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "1")
    monkeypatch.setenv("FACE_MTL_HOME", str(tmp_path / "home"))
    rclpy.init()
    watcher = Watcher()
    yield watcher
    watcher.close()
    rclpy.try_shutdown()


@pytest.fixture(scope="session")
def worker_domain():
    """A domain of this test run's own: two runs on one machine must not hear each other."""
    return str(1 + os.getpid() % 100)


@contextlib.contextmanager
def defective_perception(defect: str, parameters: dict[str, object]):
    """The perception node as a process in which a line of code first breaks something; yields it, its log in stderr."""
    code = f"import face_mtl_ros.nodes.perception_node as node\n{defect}\nnode.main()"
    command = [sys.executable, "-c", code, "--ros-args"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={value}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


PICTURE = compose((640, 480), [PlacedFace("astronaut", (200, 240), 150), PlacedFace("grace_hopper", (450, 240), 150)])


def test_camera_and_perception_publish_faces(watcher, random_bundle):
    """The main job, as the demo does it."""
    pictures = watcher.subscribe(Image, "face_attributes/image")
    with (
        node_process("perception_node", {"model": random_bundle.root, "detector": "haar"}),
        node_process("camera_node", {"source": "demo", "rate": 15.0}),
    ):
        message = watcher.wait(lambda: next((m for m in watcher.faces if m.faces), None), "a face")
        assert (message.image_width, message.image_height) == (640, 480)
        assert message.header.frame_id == "camera" and message.header.stamp.sec > 0
        assert message.model_version == random_bundle.version
        assert message.latency_ms > 0
        face = message.faces[0]
        assert face.face_id and 0 < face.detection_confidence <= 1
        assert face.roi.width > 20 and face.roi.x_offset + face.roi.width <= 640
        assert [a.task for a in face.attributes] == ["emotion", "gender"]
        for attribute in face.attributes:
            assert sum(attribute.probabilities) == pytest.approx(1, abs=1e-3)
            assert attribute.label in attribute.labels and np.isnan(attribute.value)
        annotated = watcher.wait(lambda: pictures, "an annotated picture")[0]
        assert (annotated.width, annotated.height, annotated.encoding) == (640, 480, "bgr8")


def test_bad_images_are_counted_and_the_node_lives(watcher, random_bundle):
    with node_process("perception_node", {"model": random_bundle.root, "detector": "haar"}):
        watcher.ready()
        watcher.publish_until_seen(PICTURE)
        bad = [
            {"width": 0, "height": 0, "step": 0, "data": []},
            {"data": bytes(1000)},
            {"encoding": "smell8"},
            {"encoding": "32FC1"},
            {"step": 3},
            {"width": 7680, "height": 4320, "step": 7680 * 3},
        ]
        for fields in bad:
            refused = int(watcher.value("bad frames"))
            counted = lambda refused=refused: int(watcher.value("bad frames")) > refused  # noqa: E731
            watcher.publish_until(counted, f"{fields} to be counted", PICTURE, **fields)
        assert watcher.value("last bad frame")
        watcher.publish_until_seen(PICTURE)


def test_a_parameter_out_of_range_leaves_the_node_unconfigured_until_it_is_corrected(watcher, random_bundle):
    with node_process("perception_node", {"model": random_bundle.root, "detector": "haar", "max_faces": -3}):
        assert watcher.state() == "unconfigured"
        status = watcher.wait(watcher.status, "diagnostics")
        assert status.level == DiagnosticStatus.ERROR and "max_faces" in status.message
        assert not watcher.change_state(Transition.TRANSITION_CONFIGURE)
        integer = {"type": ParameterType.PARAMETER_INTEGER}
        refused = watcher.set_parameter("max_faces", integer_value=0, **integer)
        assert not refused.successful
        assert watcher.set_parameter("max_faces", integer_value=4, **integer).successful
        assert watcher.change_state(Transition.TRANSITION_CONFIGURE)
        assert watcher.change_state(Transition.TRANSITION_ACTIVATE)
        watcher.ready()
        watcher.publish_until_seen(PICTURE)


def test_two_wrong_choices_are_corrected_one_after_the_other(watcher, random_bundle):
    with node_process("perception_node", {"model": random_bundle.root, "detector": "har", "engine": "openvin"}):
        assert watcher.state() == "unconfigured"
        text = {"type": ParameterType.PARAMETER_STRING}
        assert not watcher.set_parameter("detector", string_value="hare", **text).successful
        assert watcher.set_parameter("detector", string_value="haar", **text).successful
        assert not watcher.change_state(Transition.TRANSITION_CONFIGURE)
        assert watcher.set_parameter("engine", string_value="openvino", **text).successful
        assert watcher.change_state(Transition.TRANSITION_CONFIGURE)


@pytest.mark.parametrize("problem", ["no model", "corrupt model", "no detector"])
def test_what_is_missing_is_said_and_a_corrected_parameter_configures(watcher, random_bundle, tmp_path, problem):
    broken = write_random_bundle(tmp_path / "broken", "compact", {"mood": (["good", "bad"], [])})
    weights = broken.root / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    wrong = {
        "no model": {"model": tmp_path / "nowhere", "detector": "haar"},
        "corrupt model": {"model": broken.root, "detector": "haar"},
        "no detector": {"model": random_bundle.root, "detector": "yunet"},
    }[problem]
    says = {"no model": "nowhere", "corrupt model": "encoder.safetensors", "no detector": "detector install"}[problem]
    with node_process("perception_node", wrong):
        assert watcher.state() == "unconfigured"
        assert says in watcher.wait(watcher.status, "diagnostics").message
        text = {"type": ParameterType.PARAMETER_STRING}
        assert watcher.set_parameter("model", string_value=str(random_bundle.root), **text).successful
        assert watcher.set_parameter("detector", string_value="haar", **text).successful
        assert watcher.change_state(Transition.TRANSITION_CONFIGURE)
        assert watcher.state() == "inactive"


def test_lifecycle_without_autostart_and_enable(watcher, random_bundle):
    parameters = {"model": random_bundle.root, "detector": "haar", "autostart": False}
    with node_process("perception_node", parameters):
        assert watcher.state() == "unconfigured"
        assert watcher.change_state(Transition.TRANSITION_CONFIGURE)
        assert not watcher.images.get_subscription_count()
        assert watcher.change_state(Transition.TRANSITION_ACTIVATE)
        watcher.ready()
        watcher.publish_until_seen(PICTURE)
        assert watcher.call(SetBool, "perception/enable", SetBool.Request(data=False)).success
        watcher.wait(lambda: not watcher.images.get_subscription_count(), "the subscription to end")
        assert watcher.call(SetBool, "perception/enable", SetBool.Request(data=True)).success
        watcher.ready()
        watcher.publish_until_seen(PICTURE)
        assert watcher.change_state(Transition.TRANSITION_DEACTIVATE)
        assert watcher.change_state(Transition.TRANSITION_CLEANUP)
        assert watcher.state() == "unconfigured"


def test_set_model_swaps_while_images_go_on_and_a_bad_one_changes_nothing(watcher, random_bundle, tmp_path):
    other = write_random_bundle(tmp_path / "other", "compact", {"mood": (["good", "bad"], [])}, name="other")
    settings = {"model": random_bundle.root, "detector": "haar", "engine": "openvino"}
    with node_process("perception_node", settings):
        watcher.ready()
        watcher.publish_until_seen(PICTURE)
        model = watcher.call(GetModel, "perception/get_model", GetModel.Request())
        assert model.success and model.model_version == random_bundle.version
        assert [task.task for task in model.tasks] == ["emotion", "gender"] and model.engine == "openvino"
        answer = watcher.call(SetModel, "perception/set_model", SetModel.Request(model=str(tmp_path / "nowhere")))
        assert not answer.success and "nowhere" in answer.message and answer.model_version == random_bundle.version
        answer = watcher.call(SetModel, "perception/set_model", SetModel.Request(model=str(other.root)))
        assert answer.success, answer.message
        new = lambda: watcher.faces[-1].faces and watcher.faces[-1].model_version == other.version  # noqa: E731
        watcher.publish_until(new, "faces read by the new model", PICTURE)
        assert all([a.task for a in face.attributes] == ["mood"] for face in watcher.faces[-1].faces)
        answer = watcher.call(SetModel, "perception/set_model", SetModel.Request())
        assert answer.success and answer.model_version == other.version  # the one in use, not the parameter's


def test_a_defect_while_a_model_is_loaded_leaves_the_node_and_its_model(watcher, random_bundle):
    defect = """
load = node.FaceAnalyzer.load_model
node.FaceAnalyzer.load_model = lambda self, model: 1 / 0 if model == "defect" else load(self, model)
"""
    with defective_perception(defect, {"model": random_bundle.root, "detector": "haar"}) as process:
        watcher.ready()
        answer = watcher.call(SetModel, "perception/set_model", SetModel.Request(model="defect"))
        assert not answer.success and answer.model_version == random_bundle.version
        assert answer.message == f"ZeroDivisionError: division by zero; {random_bundle.version} goes on"
        watcher.publish_until_seen(PICTURE)
        process.send_signal(signal.SIGINT)
        assert "Traceback" in process.communicate(timeout=TIMEOUT_S)[1]


def test_live_parameters_take_effect_and_others_say_how(watcher, random_bundle):
    with node_process("perception_node", {"model": random_bundle.root, "detector": "haar"}):
        watcher.ready()
        shown = lambda count: lambda: watcher.faces and len(watcher.faces[-1].faces) == count  # noqa: E731
        watcher.publish_until(shown(2), "both faces", PICTURE)
        integer = {"type": ParameterType.PARAMETER_INTEGER}
        assert watcher.set_parameter("max_faces", integer_value=1, **integer).successful
        watcher.publish_until(shown(1), "one face alone", PICTURE)
        refused = watcher.set_parameter("min_face", integer_value=100, **integer)
        assert not refused.successful and "clean it up" in refused.reason


def test_a_camera_that_stops_turns_diagnostics_to_warn_then_stale(watcher, random_bundle):
    parameters = {"model": random_bundle.root, "detector": "haar", "silence_warn_s": 0.5}
    with node_process("perception_node", parameters):
        watcher.ready()
        watcher.publish_until_seen(PICTURE)
        watcher.publish_until(lambda: watcher.level() == DiagnosticStatus.OK, "OK, for WARN is how it starts", PICTURE)
        for level in (DiagnosticStatus.WARN, DiagnosticStatus.STALE):
            watcher.wait(lambda level=level: watcher.level() == level, f"level {level}")
        watcher.publish_until_seen(PICTURE)


def test_diagnostics_warn_while_frames_come_and_none_can_be_read(watcher, random_bundle):
    defect = """
track = node.FaceAnalyzer.track
node.FaceAnalyzer.track = lambda self, image, stamp: 1 / 0 if len(image) == 100 else track(self, image, stamp)
"""
    parameters = {"model": random_bundle.root, "detector": "haar", "silence_warn_s": 0.5}
    with defective_perception(defect, parameters) as process:
        watcher.ready()
        watcher.publish_until(lambda: watcher.level() == DiagnosticStatus.OK, "OK", PICTURE)

        def warned(why):
            return lambda: watcher.level() == DiagnosticStatus.WARN and why in watcher.status().message

        watcher.publish_until(warned("smell8"), "a warning of the encoding", PICTURE, encoding="smell8")
        assert watcher.value("failed frames") == "0"
        watcher.publish_until(lambda: watcher.level() == DiagnosticStatus.OK, "OK again", PICTURE)
        watcher.publish_until(warned("ZeroDivisionError"), "a warning of the defect", PICTURE[:100])
        assert int(watcher.value("failed frames")) > 0 and "ZeroDivision" in watcher.value("last failed frame")
        assert watcher.call(SetBool, "perception/enable", SetBool.Request(data=False)).success
        assert watcher.call(SetBool, "perception/enable", SetBool.Request(data=True)).success
        watcher.wait(warned("no image came"), "the wait to begin anew")
        process.send_signal(signal.SIGINT)
        log = process.communicate(timeout=TIMEOUT_S)[1]
        assert "image skipped" in log and "frame failed: Traceback" in log


def test_ctrl_c_twice_as_ros2_launch_gives_it_ends_a_node_in_good_order(watcher, random_bundle):
    command = [sys.executable, "-m", "face_mtl_ros.nodes.perception_node", "--ros-args"]
    command += ["-p", f"model:={random_bundle.root}", "-p", "detector:=haar"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    watcher.ready()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    log = process.communicate(timeout=TIMEOUT_S)[1]
    assert process.returncode == 0
    assert "Traceback" not in log
    assert "[perception]: engine " in log and "(auto: " in log  # what was chosen, and why


def test_compressed_images(watcher, random_bundle):
    import cv2

    jpegs = watcher.node.create_publisher(CompressedImage, "image_raw/compressed", qos_profile_sensor_data)
    parameters = {"model": random_bundle.root, "detector": "haar", "image_transport": "compressed"}
    with node_process("perception_node", parameters):
        data = cv2.imencode(".jpg", PICTURE)[1].tobytes()
        watcher.wait(jpegs.get_subscription_count, "the perception node's subscription")
        deadline = time.monotonic() + TIMEOUT_S
        while not any(message.faces for message in watcher.faces):
            assert time.monotonic() < deadline
            stamp = watcher.node.get_clock().now().to_msg()
            jpegs.publish(CompressedImage(header=Header(stamp=stamp), format="jpeg", data=data))
            with watcher._news:
                watcher._news.wait(0.1)


def test_the_perception_process_does_not_load_torch_and_stays_small(watcher, random_bundle):
    with node_process("perception_node", {"model": random_bundle.root, "detector": "haar"}) as process:
        watcher.ready()
        watcher.publish_until_seen(PICTURE, 5)
        with open(f"/proc/{process.pid}/maps") as maps:
            assert "libtorch" not in maps.read()
        with open(f"/proc/{process.pid}/status") as status:
            resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        assert resident < 500 * 1024, f"{resident // 1024} MB"


def test_a_source_that_does_not_exist_ends_the_camera_with_a_word(watcher, tmp_path):
    with node_process("camera_node", {"source": str(tmp_path / "nowhere.mp4")}) as process:
        assert process.wait(TIMEOUT_S) == 1


def test_the_camera_at_its_source_s_own_rate_refuses_changes_that_it_would_ignore(watcher):
    images: list[Image] = []
    watcher.node.create_subscription(Image, "image_raw", watcher._note(images.append), qos_profile_sensor_data)
    with node_process("camera_node", {"rate": 0.0}):
        watcher.wait(lambda: images, "an image")
        rate = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=5.0)
        request = SetParameters.Request(parameters=[Parameter(name="rate", value=rate)])
        result = watcher.call(SetParameters, "camera/set_parameters", request).results[0]
        assert not result.successful and "read-only" in result.reason


@pytest.mark.parametrize("missing", ["sys.modules['face_mtl_msgs'] = None", "sys.path[:] = sources_alone"])
def test_nodes_without_the_messages_say_how_to_build_them(missing):
    root = Path(face_mtl_ros.__file__).parents[1]
    code = f"""
import sys
sources_alone = [{str(root)!r}] + [path for path in sys.path if "face_mtl_msgs" not in path]
{missing}
import face_mtl_ros.nodes.perception_node
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert ended.returncode == 1
    assert "colcon build --base-paths" in ended.stderr and "Traceback" not in ended.stderr
