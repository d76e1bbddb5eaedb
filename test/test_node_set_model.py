"""set_model while images come: one model until the other, nothing lost, and whole after a kill."""

import signal
import threading

import numpy as np
import pytest

test_nodes = pytest.importorskip("test_nodes", reason="needs ROS 2 and the messages")

from face_mtl_ros.bundle.versions import ModelVersions  # noqa: E402
from face_mtl_ros.nodes.interfaces import GetModel, SetModel  # noqa: E402
from face_mtl_ros.nodes.processes import node_process  # noqa: E402
from face_mtl_ros.runtime.random_bundle import write_random_bundle  # noqa: E402
from face_mtl_ros.samples.sample import Picture  # noqa: E402
from face_mtl_ros.samples.store import SampleStore  # noqa: E402

pytestmark = pytest.mark.ros
watcher, worker_domain = test_nodes.watcher, test_nodes.worker_domain

PICTURE = test_nodes.PICTURE
# Loading waits for a file, so that the test and not the machine's speed decides how long it takes.
GATE = """
import pathlib, time
load = node.FaceAnalyzer.load_model
def gated(self, model):
    predictor = load(self, model)
    while hasattr(self, "predictor") and not pathlib.Path({gate!r}).exists():
        time.sleep(0.02)
    return predictor
node.FaceAnalyzer.load_model = gated
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models, of which the second has a column more."""
    root = tmp_path_factory.mktemp("models")
    columns: dict = {"mood": (["good", "bad"], [])}
    one = write_random_bundle(root / "one", "compact", columns)
    return one, write_random_bundle(root / "two", "compact", columns | {"hat": (["on", "off"], ["mood"])})


class Calls:
    """Requests to set_model sent at once, without waiting for an answer to one before the next."""

    def __init__(self, watcher, *asked):
        self._client = watcher.node.create_client(SetModel, "perception/set_model")
        assert self._client.wait_for_service(test_nodes.TIMEOUT_S)
        self._futures = [self._client.call_async(SetModel.Request(model=str(model))) for model in asked]

    def answers(self):
        done = threading.Event()
        self._futures[-1].add_done_callback(lambda _: done.set())
        assert done.wait(test_nodes.TIMEOUT_S), "the last set_model was not answered"
        return [future.result() for future in self._futures]


def running(watcher):
    return watcher.call(GetModel, "perception/get_model", GetModel.Request())


def test_messages_come_from_the_old_version_until_the_new_one_and_faces_stay(watcher, models, tmp_path):
    one, two = models
    gate = tmp_path / "gate"
    parameters = {"model": one.root, "detector": "haar"}
    with test_nodes.defective_perception(GATE.format(gate=str(gate)), parameters) as process:
        watcher.ready()
        both = lambda: len(watcher.faces[-1].faces) == 2 if watcher.faces else False  # noqa: E731
        watcher.publish_until(both, "both faces", PICTURE)
        calls = Calls(watcher, two.root)
        meanwhile = watcher.publish_until_seen(PICTURE, 10)
        assert {message.model_version for message in meanwhile} == {one.version}
        assert running(watcher).model_version == one.version
        gate.touch()
        new = lambda: watcher.faces[-1].model_version == two.version  # noqa: E731
        watcher.publish_until(new, "a message of the new version", PICTURE)
        (answer,) = calls.answers()
        assert answer.success and answer.model_version == two.version
        watcher.publish_until_seen(PICTURE, 3)
        versions = [message.model_version for message in watcher.faces]
        first_new = versions.index(two.version)
        assert set(versions[:first_new]) == {one.version} and set(versions[first_new:]) == {two.version}
        for message in watcher.faces:  # the version says which columns made the message
            tasks = ["mood", "hat"] if message.model_version == two.version else ["mood"]
            assert all([a.task for a in face.attributes] == tasks for face in message.faces)
        assert ids(watcher.faces[:first_new]) & ids(watcher.faces[first_new:])
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=test_nodes.TIMEOUT_S)


def test_get_model_tells_what_to_call_people_aloud(watcher, models, home):
    one, _ = models
    called = lambda: [list(task.display_names) for task in running(watcher).tasks]  # noqa: E731
    with node_process("perception_node", {"model": one.root, "detector": "haar"}):
        watcher.ready()
        assert called() == [["good", "bad"]]
        noise = np.random.default_rng(0).integers(0, 255, (128, 128), np.uint8)
        SampleStore().add("mood", "bad", [Picture(noise)], display_name="in a bad mood")
        assert called() == [["good", "in a bad mood"]]
        SampleStore().file.write_bytes(b"no store")
        assert called() == [["good", "bad"]]


def ids(messages):
    return {face.face_id for message in messages for face in message.faces}


def test_of_several_calls_at_once_each_is_answered_in_turn(watcher, models, tmp_path):
    one, two = models
    with node_process("perception_node", {"model": one.root, "detector": "haar"}):
        watcher.ready()
        answers = Calls(watcher, two.root, tmp_path / "nowhere", one.root, two.root).answers()
        assert [answer.success for answer in answers] == [True, False, True, True]
        versions = [two.version, two.version, one.version, two.version]
        assert [answer.model_version for answer in answers] == versions
        assert "nowhere" in answers[1].message and f"{two.version} goes on" in answers[1].message
        assert running(watcher).model_version == two.version


def test_what_is_no_model_is_refused_with_the_reason(watcher, models, tmp_path):
    one, two = models
    corrupt = write_random_bundle(tmp_path / "corrupt", "compact", {"mood": (["good", "bad"], [])})
    weights = corrupt.root / "columns" / "mood.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    with node_process("perception_node", {"model": one.root, "detector": "haar"}):
        watcher.ready()
        asked = [corrupt.root, "x" * 10_000, "no/such/folder", "nonesuch", "a\nb", "../.."]
        for answer, says in zip(Calls(watcher, *asked).answers(), ["mood.safetensors", *[""] * 5], strict=True):
            assert not answer.success and says in answer.message
            assert answer.model_version == one.version and f"{one.version} goes on" in answer.message
            assert "\n" not in answer.message and len(answer.message) < 500
        watcher.publish_until_seen(PICTURE)


def test_a_kill_during_a_swap_leaves_a_node_that_starts_with_what_is_active(watcher, models, home, tmp_path):
    one, two = models
    versions = ModelVersions("site")
    versions.install(one.root)
    with test_nodes.defective_perception(
        GATE.format(gate=str(tmp_path / "never")), {"model": "site", "detector": "haar"}
    ) as process:
        watcher.ready()
        watcher.publish_until_seen(PICTURE)
        versions.install(two.root)
        Calls(watcher, "")
        meanwhile = watcher.publish_until_seen(PICTURE, 3)
        assert {message.model_version for message in meanwhile} == {one.version}
        process.kill()
        process.communicate(timeout=test_nodes.TIMEOUT_S)
    watcher.faces.clear()
    with node_process("perception_node", {"model": "site", "detector": "haar"}):
        message = watcher.publish_until_seen(PICTURE)[0]
        assert message.model_version == two.version
        versions.rollback()
        (answer,) = Calls(watcher, "").answers()  # the active one of the model that runs, whatever runs now
        assert answer.success and answer.model_version == one.version
        (answer,) = Calls(watcher, two.version).answers()
        assert answer.success and answer.model_version == two.version
        (answer,) = Calls(watcher, "").answers()
        assert answer.success and answer.model_version == one.version
