"""~/crops: the aligned pictures of the tracked faces, made only while somebody subscribes."""

import numpy as np
import pytest

test_nodes = pytest.importorskip("test_nodes", reason="needs ROS 2 and the messages")

from rclpy.qos import QoSProfile  # noqa: E402

from face_mtl_ros.nodes.interfaces import FaceCropArray  # noqa: E402
from face_mtl_ros.nodes.processes import node_process  # noqa: E402
from face_mtl_ros.vision.portraits import PlacedFace, compose  # noqa: E402

pytestmark = pytest.mark.ros
watcher, worker_domain = test_nodes.watcher, test_nodes.worker_domain

ALL = QoSProfile(depth=1000)


def subscribe(watcher):
    """What comes on ~/crops, from the moment on at which the node knows of the subscription."""
    crops: list[FaceCropArray] = []
    subscription = watcher.node.create_subscription(FaceCropArray, "perception/crops", watcher._note(crops.append), ALL)
    return crops, subscription


def stamp(message):
    return message.header.stamp.sec, message.header.stamp.nanosec


def test_every_frame_s_faces_come_with_crop_and_quality_while_somebody_subscribes(watcher, random_bundle):
    with node_process("perception_node", {"model": random_bundle.root, "detector": "haar"}):
        watcher.ready()
        watcher.publish_until_seen(test_nodes.PICTURE, 5)
        watcher.wait(lambda: watcher.value("median ms infer"), "diagnostics")
        assert not watcher.value("median ms crops")  # no cost unasked
        crops, subscription = subscribe(watcher)
        watcher.publish_until(
            lambda: len(crops) >= 10 and crops[-1].faces, "ten messages on ~/crops", test_nodes.PICTURE
        )
        watcher.wait(lambda: watcher.faces and stamp(watcher.faces[-1]) >= stamp(crops[9]), "the faces of these crops")
        watcher.wait(lambda: watcher.value("median ms crops"), "the crops' cost in the diagnostics")
        by_stamp = {stamp(message): message for message in crops}
        first, last = stamp(crops[0]), stamp(crops[9])
        both = [faces for faces in watcher.faces if first <= stamp(faces) <= last]
        assert len(both) >= 10
        for faces in both:
            message = by_stamp[stamp(faces)]  # a frame without its crops would be missing here
            assert message.header == faces.header and message.header.frame_id == "test"
            assert message.model_version == faces.model_version == random_bundle.version
            assert [crop.face_id for crop in message.faces] == [face.face_id for face in faces.faces]
            for crop, face in zip(message.faces, faces.faces, strict=True):
                assert (crop.roi, crop.detection_confidence) == (face.roi, face.detection_confidence)
                assert crop.image.header == faces.header
                assert (crop.image.width, crop.image.height, crop.image.step) == (128, 128, 128)
                assert crop.image.encoding == "mono8" and len(crop.image.data) == 128 * 128
                assert 0.5 < crop.quality <= 1 and crop.sharpness > 10
                assert np.frombuffer(crop.image.data, np.uint8).std() > 15


def test_no_message_without_a_face_is_kept_back_and_a_blurred_face_is_told(watcher, random_bundle):
    import cv2

    with node_process("perception_node", {"model": random_bundle.root, "detector": "haar"}):
        watcher.ready()
        crops, subscription = subscribe(watcher)
        empty = np.full((480, 640, 3), 90, np.uint8)
        watcher.publish_until(lambda: crops, "crops of an empty room", empty)
        assert not crops[0].faces
        sharp = compose((640, 480), [PlacedFace("astronaut", (320, 240), 200)])
        qualities = []
        for picture in (sharp, cv2.GaussianBlur(sharp, (0, 0), 5)):
            crops.clear()
            seen = lambda: len(crops) > 3 and crops[-1].faces  # noqa: E731
            watcher.publish_until(seen, "crops of a face", picture)
            qualities.append(crops[-1].faces[0])
        assert qualities[0].quality > 0.8 > 0.2 > qualities[1].quality
        assert qualities[0].sharpness > 2 * qualities[1].sharpness
        watcher.node.destroy_subscription(subscription)
        count = len(crops)
        watcher.publish_until_seen(sharp, 5)
        assert len(crops) == count
