"""ROS image encodings to arrays and back, without ROS: the same pixels as cv_bridge's `imgmsg_to_cv2(msg, 'bgr8')`."""

import re
import sys
from dataclasses import dataclass

import cv2
import numpy as np

MAX_PIXELS = 50_000_000  # 8K (7680 x 4320) is 33 million.


class ImageError(ValueError):
    """An image that cannot be used; the message names the field and its value."""


@dataclass(frozen=True)
class _Layout:
    """How an encoding lays out a pixel, and OpenCV's code that makes BGR of it (None: grey or BGR already)."""

    channels: int
    depth: int
    code: int | None = None
    # Both sizes must be multiples of these: pixels that share their colour.
    block: tuple[int, int] = (1, 1)


# cv_bridge's codes. OpenCV names a Bayer pattern by its second row, ROS by its first: hence rggb -> BG.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2BGR,
    "bggr": cv2.COLOR_BayerRG2BGR,
    "gbrg": cv2.COLOR_BayerGR2BGR,
    "grbg": cv2.COLOR_BayerGB2BGR,
}
_UYVY = _Layout(2, 8, cv2.COLOR_YUV2BGR_UYVY, (2, 1))
_YUYV = _Layout(2, 8, cv2.COLOR_YUV2BGR_YUY2, (2, 1))
_LAYOUTS = {
    "mono8": _Layout(1, 8),
    "8UC1": _Layout(1, 8),
    "mono16": _Layout(1, 16),
    "16UC1": _Layout(1, 16),
    "bgr8": _Layout(3, 8),
    "8UC3": _Layout(3, 8),
    "rgb8": _Layout(3, 8, cv2.COLOR_RGB2BGR),
    "bgra8": _Layout(4, 8, cv2.COLOR_BGRA2BGR),
    "8UC4": _Layout(4, 8, cv2.COLOR_BGRA2BGR),
    "rgba8": _Layout(4, 8, cv2.COLOR_RGBA2BGR),
    "bgr16": _Layout(3, 16),
    "16UC3": _Layout(3, 16),
    "rgb16": _Layout(3, 16, cv2.COLOR_RGB2BGR),
    "bgra16": _Layout(4, 16, cv2.COLOR_BGRA2BGR),
    "rgba16": _Layout(4, 16, cv2.COLOR_RGBA2BGR),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": _Layout(1, 8, cv2.COLOR_YUV2BGR_NV12, (2, 2)),
    "nv21": _Layout(1, 8, cv2.COLOR_YUV2BGR_NV21, (2, 2)),
    **{f"bayer_{name}8": _Layout(1, 8, code) for name, code in _BAYER.items()},
    **{f"bayer_{name}16": _Layout(1, 16, code) for name, code in _BAYER.items()},
}
ENCODINGS = tuple(_LAYOUTS)


def decode(
    data: bytes | bytearray | memoryview,
    width: int,
    height: int,
    step: int,
    encoding: str,
    is_bigendian: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """The picture of a sensor_msgs/Image, whose fields the arguments are.

    16-bit values become 8-bit by the factor 255 / 65535, rounded: the full scale of the type, as cv_bridge has it, so
    that a picture's brightness does not depend on its content. A sensor that leaves high bits unused looks dark.

    nv12 and nv21 have `height * 3 / 2` rows of data, the lower third of them colour. Some programs (rosbags-image, for
    one) take `height` for that number of rows, others (camera drivers) for the height of the picture; the length of
    the data tells which: `step * height`, or `step * height * 3 / 2`. cv_bridge converts neither of the two.

    8UC1, 8UC3 and 16UC3 are taken for grey and BGR, 8UC4 for BGRA, 16UC1 for mono16; cv_bridge refuses these as bgr8.

    Args:
        data: the rows, each of `step` bytes, which may end with padding. rclpy's array.array will do.
        width, height: of the picture in pixels, above 0.
        step: bytes from one row to the next.
        encoding: one of `ENCODINGS`.
        is_bigendian: of 16-bit values; says nothing about 8-bit ones.
        max_pixels: refuse larger pictures.

    Returns:
        uint8 (height, width, 3) BGR, or (height, width) for the mono encodings. For bgr8, mono8, 8UC1 and 8UC3 a view
        of `data`, read-only where that is, with the rows' padding skipped: copy it before you write to it.

    Raises:
        ImageError: if the fields contradict each other, the encoding is unknown or no picture, or the size is 0 or
            above max_pixels.
    """
    layout = _layout(encoding)
    _check_size(width, height, max_pixels)
    octets = np.frombuffer(data, np.uint8)
    rows = height
    if encoding in ("nv12", "nv21"):
        if 2 * len(octets) == 3 * step * height:
            rows = height * 3 // 2
        elif len(octets) == step * height and height % 3 == 0:
            height = height * 2 // 3
        else:
            raise ImageError(
                f"data has {len(octets)} bytes, but {encoding} has step * height * 3 / 2 = {step * height * 3 // 2}, "
                f"or {step * height} where the height ({height}) counts the rows of colour and is a multiple of 3"
            )
    if width % layout.block[0] or height % layout.block[1]:
        block = f"{layout.block[0]} x {layout.block[1]}"
        raise ImageError(f"width x height is {width} x {height}, but {encoding} needs multiples of {block}")
    values = _rows(octets, width, rows, step, layout, encoding)
    if layout.depth == 16 and is_bigendian != (sys.byteorder == "big"):
        values = values.byteswap()
    if layout.code is not None:
        values = cv2.cvtColor(values, layout.code)
    return _to_8_bit(values)


def decode_compressed(data: bytes | bytearray | memoryview, format: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The picture of a sensor_msgs/CompressedImage.

    What counts is the data: `format` is only named in errors, as publishers fill it in many ways. The camera's
    orientation tag (EXIF) is ignored, as cv_bridge does, so that pixels agree with the camera's calibration. 16-bit
    pictures are scaled as `decode` does; transparency is dropped. Of a truncated JPEG the missing rest is grey.

    Args:
        data: a whole JPEG or PNG file (or another format that OpenCV reads).
        format: the message's format, such as "jpeg", "png" or "bgr8; jpeg compressed bgr8".
        max_pixels: refuse larger pictures; JPEG and PNG are refused before the work of decoding.

    Returns:
        uint8 (height, width, 3) BGR, or (height, width) for a grey picture.

    Raises:
        ImageError: if the data is no picture, or its size is above max_pixels.
    """
    if "compressedDepth" in format:
        raise ImageError(f"format is {format!r}: a depth image, not a picture; use the colour image")
    octets = np.frombuffer(data, np.uint8)
    if not len(octets):
        raise ImageError(f"data is empty (format {format!r})")
    coded_size = _coded_size(octets[:65536].tobytes())
    if coded_size:
        _check_size(*coded_size, max_pixels)
    try:
        image = cv2.imdecode(octets, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise ImageError(
            f"data ({len(octets)} bytes, format {format!r}) is no JPEG, PNG or other picture OpenCV can read"
        )
    _check_size(image.shape[1], image.shape[0], max_pixels)
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"data (format {format!r}) has values of type {image.dtype}: measurements, not a picture")
    if image.ndim == 3 and image.shape[2] == 4:
        image = cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
    return _to_8_bit(image)


def encode_bgr(image: np.ndarray) -> tuple[bytes, int]:
    """The `data` and `step` of a sensor_msgs/Image with encoding bgr8, or mono8 for a grey image.

    Args:
        image: uint8 (height, width, 3) BGR or (height, width) grey, of any strides.

    Raises:
        ImageError: for another type or shape.
    """
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ImageError(f"image is {image.dtype} {image.shape}, but must be uint8 (height, width, 3) or 2-D grey")
    return image.tobytes(), image[:1].nbytes


def _layout(encoding: str) -> _Layout:
    layout = _LAYOUTS.get(encoding)
    if layout is not None:
        return layout
    if re.fullmatch(r"(8S|16S|32S|32F|64F)(C\d+)?", encoding):
        raise ImageError(f"encoding is {encoding!r}: measurements such as depth, not a picture; use the colour image")
    raise ImageError(f"encoding is {encoding!r}, but must be one of {', '.join(ENCODINGS)}")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width <= 0 or height <= 0:
        raise ImageError(f"width x height is {width} x {height}, but both must be above 0")
    if width * height > max_pixels:
        raise ImageError(f"width x height is {width} x {height}, which is more than the limit of {max_pixels} pixels")


def _rows(data: np.ndarray, width: int, rows: int, step: int, layout: _Layout, encoding: str) -> np.ndarray:
    """The data as an array (rows, width) or (rows, width, channels) without the padding; a view of 8-bit ones."""
    itemsize = layout.depth // 8
    needed = width * layout.channels * itemsize
    if step < needed:
        raise ImageError(f"step is {step}, but {width} pixels of {encoding} take {needed} bytes")
    if len(data) != step * rows:
        raise ImageError(f"data has {len(data)} bytes, but step * height = {step} * {rows} = {step * rows}")
    values = data.reshape(rows, step)[:, :needed]
    if itemsize > 1:
        values = np.ascontiguousarray(values).view(np.uint16)
    return values.reshape(rows, width, layout.channels) if layout.channels > 1 else values


def _to_8_bit(image: np.ndarray) -> np.ndarray:
    # What cv::Mat::convertTo(CV_8U, 255. / 65535.) gives; the absolute value in the name does nothing to a uint16.
    return cv2.convertScaleAbs(image, alpha=255 / 65535) if image.dtype == np.uint16 else image


def _coded_size(head: bytes) -> tuple[int, int] | None:
    """Width and height by the header of a PNG or JPEG; None if it is neither or says nothing so far."""
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if not head.startswith(b"\xff\xd8"):
        return None
    position = 2
    while position + 9 <= len(head) and head[position] == 0xFF:
        marker = head[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = head[position + 5 : position + 7], head[position + 7 : position + 9]
            return int.from_bytes(width, "big"), int.from_bytes(height, "big")
        position += 2 + int.from_bytes(head[position + 2 : position + 4], "big")
    return None
