"""sensor_msgs/Image to arrays: by cv_bridge where it is installed and knows the encoding, else by vision.encodings."""

import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sensor_msgs.msg import Image

from ..vision.encodings import decode


def is_usable(package: str, numpy_version: str = np.__version__) -> bool:
    """Whether a cv_bridge is installed under this name and was compiled for this numpy.

    One that was compiled for numpy 1 loads beside numpy 2, and ends the process at its first picture.
    """
    found = find_spec(package)
    libraries = [
        library
        for folder in (found and found.submodule_search_locations) or []
        for library in Path(folder).glob("boost/cv_bridge_boost*.so")
    ]
    # What is compiled for numpy 2 looks for numpy._core, and what for numpy 1 for numpy.core.
    return bool(libraries) and (numpy_version.startswith("1.") or b"numpy._core" in libraries[0].read_bytes())


BRIDGE = None
if is_usable("cv_bridge"):
    with suppress(ImportError):  # without its libraries it is no better than none
        import cv_bridge

        BRIDGE = cv_bridge.CvBridge()

# Bytes a pixel of the encodings that cv_bridge makes bgr8 or mono8 of.
PIXEL_BYTES = {
    **{"mono8": 1, "mono16": 2, "bgr8": 3, "rgb8": 3, "bgra8": 4, "rgba8": 4},
    **{"bgr16": 6, "rgb16": 6, "bgra16": 8, "rgba16": 8, "yuv422": 2, "yuv422_yuy2": 2},
    **{f"bayer_{pattern}8": 1 for pattern in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{pattern}16": 2 for pattern in ("rggb", "bggr", "gbrg", "grbg")},
}


def decode_image(message: Image, max_pixels: int) -> np.ndarray:
    """The picture of a sensor_msgs/Image, whichever of the two converts it: see `vision.encodings.decode`.

    Returns:
        uint8 (h, w, 3) BGR, or (h, w) for the mono encodings; for bgr8 and mono8 a view of the message's data.

    Raises:
        ImageError: the message is malformed, larger than max_pixels, or of an encoding that is no picture.
    """
    if BRIDGE is not None and _is_for_cv_bridge(message, max_pixels):
        wanted = "mono8" if message.encoding.startswith("mono") else "bgr8"
        try:
            # With the encoding's own name cv_bridge would copy the pixels.
            return BRIDGE.imgmsg_to_cv2(message, "passthrough" if message.encoding == wanted else wanted)
        except cv_bridge.CvBridgeError:
            pass  # an older cv_bridge without this encoding
    return decode(
        message.data,
        message.width,
        message.height,
        message.step,
        message.encoding,
        bool(message.is_bigendian),
        max_pixels=max_pixels,
    )


def _is_for_cv_bridge(message: Image, max_pixels: int) -> bool:
    """Whether all is well with the message, so that what is not gets `decode`'s answer."""
    pixel = PIXEL_BYTES.get(message.encoding, 0)
    return (
        pixel > 0
        and 0 < message.width * message.height <= max_pixels
        and len(message.data) == message.step * message.height
        and message.step >= message.width * pixel
        # cv_bridge shears the rows of another step, and fails at a foreign byte order with numpy 2.
        and message.step % pixel == 0
        and bool(message.is_bigendian) == (sys.byteorder == "big")
        and (message.width % 2 == 0 or not message.encoding.startswith("yuv"))
    )
