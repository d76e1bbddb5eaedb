"""cv_bridge, where it is installed, gives the pixels of the own conversion, and never sees a malformed message."""

import array

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: source tools/env.sh")
pytest.importorskip("face_mtl_msgs.msg", reason="needs the built face_mtl_msgs: source tools/env.sh")
from sensor_msgs.msg import Image  # noqa: E402

from face_mtl_ros.nodes import cv_bridge_images  # noqa: E402
from face_mtl_ros.nodes.conversions import image_to_array  # noqa: E402
from face_mtl_ros.nodes.cv_bridge_images import PIXEL_BYTES, is_usable  # noqa: E402
from face_mtl_ros.vision.encodings import ImageError, decode  # noqa: E402

pytestmark = pytest.mark.ros
LIMIT = 1_000_000
needs_cv_bridge = pytest.mark.skipif(cv_bridge_images.BRIDGE is None, reason="cv_bridge is not installed here")


def message(encoding, width=8, height=6, padding=0, **changes):
    step = width * PIXEL_BYTES.get(encoding, 3) + padding
    rows = np.random.default_rng(0).integers(0, 256, height * step, dtype=np.uint8)
    fields = {"height": height, "width": width, "step": step, "encoding": encoding} | changes
    made = Image(**fields)
    made.data = array.array("B", rows.tobytes())
    return made


def own(made):
    fields = (made.data, made.width, made.height, made.step, made.encoding, bool(made.is_bigendian))
    return decode(*fields, max_pixels=LIMIT)


class Spy:
    """A cv_bridge that notes the encodings it was asked for and answers with a black picture, or not at all."""

    def __init__(self, error=None):
        self.asked = []
        self.error = error

    def imgmsg_to_cv2(self, made, wanted):
        self.asked.append((made.encoding, wanted))
        if self.error:
            raise self.error
        return np.zeros((made.height, made.width, 3), np.uint8)


@needs_cv_bridge
@pytest.mark.parametrize("encoding", PIXEL_BYTES)
@pytest.mark.parametrize("pixels_of_padding", [0, 3])
def test_cv_bridge_gives_the_same_picture(encoding, pixels_of_padding, monkeypatch):
    made = message(encoding, 10, 7, pixels_of_padding * PIXEL_BYTES[encoding])
    expected = own(made)
    monkeypatch.setattr(cv_bridge_images, "decode", None)  # cv_bridge alone answers
    picture = image_to_array(made, LIMIT)
    assert (picture.dtype, picture.shape) == (np.uint8, expected.shape)
    assert np.abs(picture.astype(int) - expected).max() <= 1


@needs_cv_bridge
@pytest.mark.parametrize("encoding", ["uyvy", "nv12", "8UC3", "16UC1"])
def test_other_encodings_are_converted_all_the_same(encoding):
    step = {"uyvy": 16, "nv12": 8, "8UC3": 24, "16UC1": 16}[encoding]
    made = message(encoding, 8, 6, step=step)
    made.data = made.data[: step * 6 * (3 if encoding == "nv12" else 2) // 2]
    assert (image_to_array(made, LIMIT) == own(made)).all()


@pytest.mark.parametrize("encoding", ["bgr8", "mono16", "rgb16"])
@pytest.mark.parametrize("big", [False, True])
def test_what_cv_bridge_does_wrong_is_left_to_the_own_conversion(encoding, big):
    made = message(encoding, 9, 5, padding=1, is_bigendian=big)
    assert (image_to_array(made, LIMIT) == own(made)).all()


def test_a_message_is_handed_to_cv_bridge_for_the_picture_that_the_detector_reads(monkeypatch):
    spy = Spy()
    monkeypatch.setattr(cv_bridge_images, "BRIDGE", spy)
    for encoding in PIXEL_BYTES:
        assert not image_to_array(message(encoding), LIMIT).any()
    assert dict(spy.asked) == {
        name: {"bgr8": "passthrough", "mono8": "passthrough", "mono16": "mono8"}.get(name, "bgr8")
        for name in PIXEL_BYTES
    }


@pytest.mark.parametrize(
    ("compiled_for", "numpy", "usable"),
    [("numpy.core", "1.26.4", True), ("numpy.core", "2.2.6", False), ("numpy._core", "2.2.6", True)],
)
def test_a_cv_bridge_for_another_numpy_is_left_alone(compiled_for, numpy, usable, tmp_path, monkeypatch):
    library = tmp_path / "some_cv_bridge/boost/cv_bridge_boost.cpython-312-x86_64-linux-gnu.so"
    library.parent.mkdir(parents=True)
    (tmp_path / "some_cv_bridge/__init__.py").touch()
    library.write_bytes(b"\x7fELF...\0" + compiled_for.encode() + b"._multiarray_umath\0")
    monkeypatch.syspath_prepend(tmp_path)
    assert is_usable("some_cv_bridge", numpy) is usable
    assert not is_usable("no_cv_bridge", numpy)


def malformed():
    truncated = message("rgb8")
    truncated.data = truncated.data[:-1]
    return {
        "truncated": truncated,
        "short step": message("rgb8", step=23),
        "no width": message("rgb8", width=0),
        "no height": message("mono8", height=0),
        "odd yuv422": message("yuv422", width=7),
        "unknown": message("rgb9"),
        "depth": message("32FC1"),
        "no encoding": message(""),
        "8k": Image(width=7680, height=4320, step=7680 * 3, encoding="rgb8"),
    }


@pytest.mark.parametrize("case", malformed())
@pytest.mark.parametrize("installed", ["a cv_bridge that takes anything", "what is installed"])
def test_malformed_messages_are_refused_in_the_same_words(case, installed, monkeypatch):
    made = malformed()[case]
    spy = Spy()
    if installed != "what is installed":
        monkeypatch.setattr(cv_bridge_images, "BRIDGE", spy)
    with pytest.raises(ImageError) as expected:
        own(made)
    with pytest.raises(ImageError) as refused:
        image_to_array(made, LIMIT)
    assert str(refused.value) == str(expected.value)
    assert not spy.asked


@needs_cv_bridge
def test_an_encoding_that_an_older_cv_bridge_lacks_is_converted_all_the_same(monkeypatch):
    from cv_bridge import CvBridgeError

    spy = Spy(CvBridgeError("Unrecognized image encoding [yuv422_yuy2]"))
    monkeypatch.setattr(cv_bridge_images, "BRIDGE", spy)
    made = message("yuv422_yuy2")
    assert (image_to_array(made, LIMIT) == own(made)).all()
    assert spy.asked
