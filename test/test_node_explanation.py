"""face_attributes/explanation: where a column looks, at a low rate, made only while somebody subscribes."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("captum", reason="explaining needs captum, which the train extra installs")
test_nodes = pytest.importorskip("test_nodes", reason="needs ROS 2 and the messages")

from sensor_msgs.msg import Image  # noqa: E402

from face_mtl_ros.nodes.conversions import stamp_seconds  # noqa: E402
from face_mtl_ros.nodes.processes import node_process  # noqa: E402

pytestmark = pytest.mark.ros
watcher, worker_domain = test_nodes.watcher, test_nodes.worker_domain


def picture_of(message):
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)


def test_the_largest_face_is_explained_while_somebody_subscribes_and_frames_go_on(watcher, random_bundle):
    parameters = {"model": random_bundle.root, "detector": "haar", "device": "cpu", "explain_rate": 1.0}
    with node_process("perception_node", parameters) as node:
        watcher.ready()
        watcher.publish_until_seen(test_nodes.PICTURE, 3)
        assert "libtorch" not in Path(f"/proc/{node.pid}/maps").read_text()  # nobody subscribes: nothing is made
        shown: list[Image] = []
        subscription = watcher.node.create_subscription(
            Image, "face_attributes/explanation", watcher._note(shown.append), 10
        )
        watcher.publish_until(lambda: len(shown) >= 2, "two explanations", test_nodes.PICTURE)
        first, second = (stamp_seconds(message.header) for message in shown[:2])
        assert second - first > 0.5  # once a second, give and take what a frame is under way
        stamps = {(m.header.stamp.sec, m.header.stamp.nanosec) for m in watcher.faces}
        for message in shown:
            assert (message.header.stamp.sec, message.header.stamp.nanosec) in stamps
            assert (message.encoding, message.header.frame_id) == ("bgr8", "test")
            crop, guided, cam, both = np.split(picture_of(message)[22:], 4, axis=1)
            assert crop.std() > 15 and np.ptp(crop, axis=2).max() == 0  # a face, in grey
            assert guided.std() > 1 and np.ptp(cam, axis=2).max() > 50
        watcher.node.destroy_subscription(subscription)
        watcher.publish_until_seen(test_nodes.PICTURE, 3)
        assert node.poll() is None
