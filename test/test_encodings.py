"""Every encoding gives the pixels that cv_bridge gives."""

import array
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from face_mtl_ros.vision import encodings
from face_mtl_ros.vision.encodings import ENCODINGS, ImageError, decode, decode_compressed, encode_bgr

MONO = {"mono8", "8UC1", "mono16", "16UC1"}
PLANAR = {"nv12", "nv21"}


def channels(encoding):
    if encoding in MONO | PLANAR or encoding.startswith("bayer"):
        return 1
    if encoding in {"yuv422", "uyvy", "yuv422_yuy2", "yuyv"}:
        return 2
    return 4 if "a" in encoding or encoding.endswith("C4") else 3


def itemsize(encoding):
    return 2 if "16" in encoding else 1


def message(encoding, width=8, height=6, padding=0, seed=0, big=False):
    """A random image as the fields of a sensor_msgs/Image, in the convention of height that cameras use."""
    rows = height * 3 // 2 if encoding in PLANAR else height
    row = width * channels(encoding) * itemsize(encoding)
    data = np.random.default_rng(seed).integers(0, 256, (rows, row + padding), dtype=np.uint8)
    return SimpleNamespace(
        data=data.tobytes(), width=width, height=height, step=row + padding, encoding=encoding, is_bigendian=big
    )


def decoded(msg):
    return decode(msg.data, msg.width, msg.height, msg.step, msg.encoding, msg.is_bigendian)


def reference(msg):
    """OpenCV's conversion of an unpadded little-endian image, code by code as in cv_bridge.cpp, then its scaling."""
    dtype = "<u2" if itemsize(msg.encoding) == 2 else np.uint8
    n = channels(msg.encoding)
    rows = len(msg.data) // msg.step
    pixels = np.frombuffer(msg.data, dtype).reshape((rows, msg.width, n) if n > 1 else (rows, msg.width))
    code = {
        "rgb8": cv2.COLOR_RGB2BGR,
        "rgb16": cv2.COLOR_RGB2BGR,
        "bgra8": cv2.COLOR_BGRA2BGR,
        "8UC4": cv2.COLOR_BGRA2BGR,
        "bgra16": cv2.COLOR_BGRA2BGR,
        "rgba8": cv2.COLOR_RGBA2BGR,
        "rgba16": cv2.COLOR_RGBA2BGR,
        "yuv422": cv2.COLOR_YUV2BGR_UYVY,
        "uyvy": cv2.COLOR_YUV2BGR_UYVY,
        "yuv422_yuy2": cv2.COLOR_YUV2BGR_YUY2,
        "yuyv": cv2.COLOR_YUV2BGR_YUY2,
        "nv12": cv2.COLOR_YUV2BGR_NV12,
        "nv21": cv2.COLOR_YUV2BGR_NV21,
        "bayer_rggb8": cv2.COLOR_BayerBG2BGR,
        "bayer_bggr8": cv2.COLOR_BayerRG2BGR,
        "bayer_gbrg8": cv2.COLOR_BayerGR2BGR,
        "bayer_grbg8": cv2.COLOR_BayerGB2BGR,
        "bayer_rggb16": cv2.COLOR_BayerBG2BGR,
        "bayer_bggr16": cv2.COLOR_BayerRG2BGR,
        "bayer_gbrg16": cv2.COLOR_BayerGR2BGR,
        "bayer_grbg16": cv2.COLOR_BayerGB2BGR,
    }.get(msg.encoding)
    if code is not None:
        pixels = cv2.cvtColor(pixels, code)
    return np.rint(pixels * (255 / 65535)).astype(np.uint8) if dtype == "<u2" else pixels


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_is_converted_as_cv_bridge_does(encoding):
    msg = message(encoding)
    image = decoded(msg)
    assert image.dtype == np.uint8
    assert image.shape == ((6, 8) if encoding in MONO else (6, 8, 3))
    assert (image == reference(msg)).all()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_rosbags_image_agrees(encoding):
    rosbags = pytest.importorskip("rosbags.image", reason="rosbags-image, an independent reader, is not installed")
    msg = message(encoding, 8, 6)
    ours = decoded(msg)
    if encoding in PLANAR:
        msg.height = 9  # its convention: rows of data
    target = "mono8" if encoding in MONO else "bgr8"
    if encoding.startswith(("8UC", "16UC")):
        msg.encoding = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8", "16UC1": "mono16", "16UC3": "bgr16"}[encoding]
    theirs = rosbags.image_to_cvimage(msg, target)
    # It cuts off where cv_bridge rounds.
    assert np.abs(ours.astype(int) - theirs).max() <= (1 if itemsize(encoding) == 2 else 0)


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(ENCODINGS), st.integers(1, 9), st.integers(1, 9), st.integers(0, 7), st.integers(0, 99))
def test_padding_and_byte_order_change_nothing(encoding, width, height, padding, seed):
    msg = message(encoding, 2 * width, 2 * height, 0, seed)
    expected = decoded(msg)
    rows = len(msg.data) // msg.step
    padded = np.full((rows, msg.step + padding), 0xEE, np.uint8)
    padded[:, : msg.step] = np.frombuffer(msg.data, np.uint8).reshape(rows, msg.step)
    msg.data, msg.step = padded.tobytes(), msg.step + padding
    assert (decoded(msg) == expected).all()
    if itemsize(encoding) == 2:
        values = padded[:, : msg.step - padding]
        padded[:, : msg.step - padding] = values.reshape(rows, -1, 2)[..., ::-1].reshape(values.shape)
    msg.data, msg.is_bigendian = padded.tobytes(), True
    assert (decoded(msg) == expected).all()


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["bgr8", "mono8"]), st.booleans(), st.integers(0, 99))
def test_encode_and_decode_are_inverse(width, height, encoding, mirrored, seed):
    shape = (height, width, 3) if encoding == "bgr8" else (height, width)
    image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    image = image[:, ::-1] if mirrored else image
    data, step = encode_bgr(image)
    assert len(data) == step * height
    assert (decode(data, width, height, step, encoding) == image).all()


def test_nv12_of_both_conventions_is_the_same_picture():
    msg = message("nv12", 8, 6, padding=4)
    assert (decode(msg.data, 8, 6, msg.step, "nv12") == decode(msg.data, 8, 9, msg.step, "nv12")).all()


def test_all_values_of_16_bit_are_rounded_to_full_scale():
    values = np.arange(65536, dtype="<u2").reshape(256, 256)
    image = decode(values.tobytes(), 256, 256, 512, "mono16")
    assert (image.ravel() == [round(v * 255 / 65535) for v in range(65536)]).all()


@pytest.mark.parametrize("encoding", ["bgr8", "8UC3", "mono8", "8UC1"])
def test_what_needs_no_conversion_is_not_copied(encoding):
    data = bytearray(message(encoding, 8, 6, padding=5).data)
    image = decode(data, 8, 6, len(data) // 6, encoding)
    data[:] = b"\x07" * len(data)
    assert (image == 7).all()


def test_the_array_that_rclpy_delivers_is_read_and_kept():
    msg = message("rgb8")
    assert (decode(array.array("B", msg.data), 8, 6, msg.step, "rgb8") == decoded(msg)).all()


def test_a_padded_view_serves_opencv():
    msg = message("bgr8", 8, 6, padding=5)
    image = decoded(msg)
    assert (cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) == cv2.cvtColor(image.copy(), cv2.COLOR_BGR2GRAY)).all()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"width": 0}, "width x height is 0 x 6"),
        ({"height": 0, "data": b""}, "width x height is 8 x 0"),
        ({"data": b"\0" * 143}, "143 bytes.* 24 \\* 6 = 144"),
        ({"data": b"\0" * 145}, "145 bytes"),
        ({"data": b""}, "0 bytes"),
        ({"step": 23}, "step is 23.*24 bytes"),
        ({"step": 0}, "step is 0"),
        ({"encoding": "bgr9"}, "'bgr9'.*bgr8, .*nv12"),
        ({"encoding": ""}, "encoding is ''"),
        ({"encoding": "32FC1"}, "'32FC1'.*not a picture"),
        ({"encoding": "16SC1"}, "not a picture"),
        ({"width": 7680, "height": 6520, "step": 23040, "data": b""}, "7680 x 6520.*limit of 50000000"),
    ],
)
def test_bad_fields_are_named_with_their_values(wrong, named):
    fields = {"data": b"\0" * 144, "width": 8, "height": 6, "step": 24, "encoding": "bgr8", **wrong}
    with pytest.raises(ImageError, match=named):
        decode(**fields)


@pytest.mark.parametrize(
    ("encoding", "width", "height"), [("yuyv", 7, 6), ("uyvy", 7, 6), ("nv12", 7, 6), ("nv21", 8, 5)]
)
def test_sizes_that_share_no_colour_are_refused(encoding, width, height):
    msg = message(encoding, width, height)
    with pytest.raises(ImageError, match="multiples|bytes"):
        decoded(msg)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(ENCODINGS),
    st.integers(-2, 12),
    st.integers(-2, 12),
    st.integers(0, 60),
    st.integers(0, 700),
    st.booleans(),
)
def test_whatever_the_fields_say_it_is_a_picture_or_an_image_error(encoding, width, height, step, length, big):
    try:
        image = decode(b"\x55" * length, width, height, step, encoding, big)
    except ImageError:
        return
    assert image.shape[1] == width
    assert image.dtype == np.uint8


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(ENCODINGS), st.integers(1, 6), st.integers(1, 6))
def test_the_smallest_pictures_are_decoded_or_refused(encoding, width, height):
    try:
        image = decoded(message(encoding, width, height))
    except ImageError:
        assert width % 2 or height % 2 or min(width, height) < 3
        return
    assert image.shape[:2] == (height, width)


@pytest.fixture
def picture():
    rows, columns = np.mgrid[0:40, 0:60]
    return np.dstack([rows * 6, columns * 4, 255 - rows * 3]).astype(np.uint8)


@pytest.mark.parametrize("format", ["png", "bgr8; png compressed bgr8"])
def test_png_comes_back_as_it_was(picture, format):
    assert (decode_compressed(cv2.imencode(".png", picture)[1].tobytes(), format) == picture).all()


def test_jpeg_comes_back_nearly_as_it_was(picture):
    image = decode_compressed(array.array("B", cv2.imencode(".jpg", picture)[1].tobytes()), "jpeg")
    assert np.abs(image.astype(int) - picture).mean() < 3


def test_compressed_grey_16_bit_and_transparent_pictures(picture):
    grey = picture[..., 0]
    assert (decode_compressed(cv2.imencode(".png", grey)[1].tobytes(), "png") == grey).all()
    deep = grey.astype(np.uint16) * 257
    assert (decode_compressed(cv2.imencode(".png", deep)[1].tobytes(), "png") == grey).all()
    transparent = np.dstack([picture, np.full(grey.shape, 9, np.uint8)])
    assert (decode_compressed(cv2.imencode(".png", transparent)[1].tobytes(), "png") == picture).all()


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 100, b"\xff\xd8", b"\xff\xd8\xff\xc0\0\0\0\0\0", b"\x89PNG\r\n\x1a\n" + b"\0" * 30]
)
def test_what_is_no_picture_is_refused_with_its_format(data):
    with pytest.raises(ImageError, match="h264|width x height"):
        decode_compressed(data, "h264")


def test_a_compressed_depth_image_is_refused():
    with pytest.raises(ImageError, match="16UC1; compressedDepth.*not a picture"):
        decode_compressed(b"\0" * 100, "16UC1; compressedDepth png")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_huge_compressed_picture_is_refused_before_it_is_decoded(suffix, monkeypatch):
    data = cv2.imencode(suffix, np.zeros((1000, 2000), np.uint8))[1].tobytes()
    monkeypatch.setattr(encodings.cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="2000 x 1000.*limit of 1000000 pixels"):
        decode_compressed(data, "jpeg", max_pixels=1_000_000)


@pytest.mark.parametrize("image", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4)), np.zeros(4, np.uint8)])
def test_encode_refuses_what_is_no_picture(image):
    with pytest.raises(ImageError, match="image is"):
        encode_bgr(image)


def test_this_machine_is_little_endian_as_the_references_here_assume():
    assert sys.byteorder == "little"
