"""Between ROS messages and the arrays and classes of the rest of the package."""

from collections.abc import Mapping, Sequence

import numpy as np
from geometry_msgs.msg import Point32
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from ..analyzer import Attribute, Face
from ..bundle.manifest import ColumnRecord
from ..vision.encodings import decode_compressed, encode_bgr
from ..vision.quality import assess, laplacian_variance
from .cv_bridge_images import decode_image
from .interfaces import FaceAttribute, FaceAttributes, FaceAttributesArray, FaceCrop, FaceCropArray, TaskInfo


def image_to_array(message: Image | CompressedImage, max_pixels: int) -> np.ndarray:
    """The message's picture, uint8 (h, w, 3) BGR or (h, w) grey.

    Raises:
        ImageError: the message is malformed, larger than max_pixels, or of an encoding that is no picture.
    """
    if isinstance(message, CompressedImage):
        return decode_compressed(message.data, message.format, max_pixels=max_pixels)
    return decode_image(message, max_pixels)


def array_to_image(picture: np.ndarray, header: Header) -> Image:
    """uint8 (h, w, 3) BGR to a bgr8 message."""
    message = Image(header=header, height=picture.shape[0], width=picture.shape[1], encoding="bgr8")
    data, message.step = encode_bgr(picture)
    # Assigned to the array's own buffer: the setter would check each byte in a Python loop.
    message.data.frombytes(data)
    return message


def faces_to_message(
    faces: Sequence[Face], header: Header, width: int, height: int, version: str, embedding: bool = False
) -> FaceAttributesArray:
    """All faces of an image to the message of /face_attributes, but for its latency."""
    return FaceAttributesArray(
        header=header,
        image_width=width,
        image_height=height,
        faces=[_face(face, embedding) for face in faces],
        model_version=version,
    )


def crops_to_message(faces: Sequence[Face], header: Header, version: str) -> FaceCropArray:
    """All faces of an image to the message of ~/crops, in the same order as in that of /face_attributes."""
    return FaceCropArray(header=header, faces=[_crop(face, header) for face in faces], model_version=version)


def stamp_seconds(header: Header) -> float:
    """A header's stamp in seconds."""
    return header.stamp.sec + header.stamp.nanosec * 1e-9


def _face(face: Face, embedding: bool) -> FaceAttributes:
    return FaceAttributes(
        face_id=face.face_id,
        roi=_roi(face.box),
        detection_confidence=float(face.detection_confidence),
        landmarks=[Point32(x=float(px), y=float(py), z=0.0) for px, py in face.landmarks],
        attributes=[_attribute(attribute) for attribute in face.attributes],
        embedding=face.embedding.tolist() if embedding else [],
    )


def _crop(face: Face, header: Header) -> FaceCrop:
    height, width = face.crop.shape
    image = Image(header=header, height=height, width=width, encoding="mono8", step=width)
    image.data.frombytes(face.crop.tobytes())  # the setter would check each byte in a Python loop
    return FaceCrop(
        face_id=face.face_id,
        image=image,
        quality=assess(face.crop, float(face.box[2:].min()), face.landmarks).overall,
        sharpness=laplacian_variance(face.crop),
        detection_confidence=float(face.detection_confidence),
        roi=_roi(face.box),
    )


def _roi(box: np.ndarray) -> RegionOfInterest:
    x, y, width, height = (int(round(float(value))) for value in box)
    return RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height)


def _attribute(attribute: Attribute) -> FaceAttribute:
    return FaceAttribute(
        task=attribute.task,
        label=attribute.label,
        confidence=attribute.confidence,
        labels=list(attribute.labels),
        probabilities=attribute.probabilities.tolist(),
        value=attribute.value,
    )


def task_info(column: ColumnRecord, display_names: Mapping[tuple[str, str], str]) -> TaskInfo:
    """What a column tells.

    Args:
        display_names: what to call a label aloud, by task and label; one that is not there is called as it is.
    """
    return TaskInfo(
        task=column.task,
        kind=column.kind,
        labels=column.labels,
        display_names=[display_names.get((column.task, label), label) for label in column.labels],
        values=column.values or [],
        sources=column.sources,
        version=column.file.sha256[:12],
    )
