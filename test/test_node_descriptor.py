"""A machine that lacks a foreign face descriptor: each node says which is needed and how to get it, and goes on."""

import shutil

import pytest

test_nodes = pytest.importorskip("test_nodes", reason="needs ROS 2 and the messages")
pytest.importorskip("openvino", reason="foreign descriptors are run by openvino, which the run extra installs")

from face_mtl_ros.bundle.manifest import DescriptorRecord  # noqa: E402
from face_mtl_ros.nodes.interfaces import ListSamples, SetModel  # noqa: E402
from face_mtl_ros.nodes.processes import node_process  # noqa: E402
from face_mtl_ros.runtime.random_bundle import write_random_bundle  # noqa: E402
from face_mtl_ros.vision.alignment import TEMPLATE  # noqa: E402

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("home")]
watcher, worker_domain = test_nodes.watcher, test_nodes.worker_domain

RECORD = DescriptorRecord(
    name="sface",
    sha256="5" * 64,
    dimensions=8,
    size=(112, 112),
    channels="rgb",
    mean=[0.0] * 3,
    std=[1.0] * 3,
    template=[(float(x), float(y)) for x, y in TEMPLATE],
    source="a model zoo",
)


def test_perception_refuses_a_model_that_needs_it_and_goes_on_with_the_old_one(watcher, random_bundle, tmp_path):
    columns: dict = {"identity": (["ann", "bob"], [])}
    needs = write_random_bundle(tmp_path / "needs", "compact", columns, descriptors={"identity": RECORD})
    with node_process("perception_node", {"model": random_bundle.root, "detector": "haar"}):
        watcher.ready()
        answer = watcher.call(SetModel, "perception/set_model", SetModel.Request(model=str(needs.root)))
        assert not answer.success and answer.model_version == random_bundle.version
        assert "needs the face descriptor 'sface', which is not installed: get it from a model zoo" in answer.message
        assert f"{random_bundle.version} goes on" in answer.message
        (message,) = watcher.publish_until_seen(test_nodes.PICTURE)
        assert message.model_version == random_bundle.version


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("dlib", "face-mtl descriptor dlib, which needs the extra"), ("sface", "descriptor install --name sface")],
)
def test_a_trainer_that_shall_draw_on_it_is_not_configured(watcher, random_bundle, home, name, remedy):
    shutil.copytree(random_bundle.root, home / "bundles" / "default")
    with node_process("trainer_node", {"descriptor": name}):
        answer = watcher.call(ListSamples, "trainer/list_samples", ListSamples.Request())
        assert not answer.success
        assert f"parameter 'descriptor' is '{name}': descriptor '{name}' is not installed in" in answer.message
        assert remedy in answer.message
