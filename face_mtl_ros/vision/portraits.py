"""The bundled portraits, and pictures composed of them: what the demo, tests and benchmarks look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import cv2
import numpy as np


@dataclass(frozen=True)
class PlacedFace:
    """A bundled portrait at a place of a frame.

    Attributes:
        asset: a key of `PORTRAITS`.
        center: x, y of the face's middle in the frame's pixels.
        height: from the forehead to the chin in pixels, about what a detector's box has.
        roll: of the head in degrees, clockwise.
        mirrored: left and right exchanged, which looks like someone else to a tracker.
        opacity: 0 to 1.
    """

    asset: str
    center: tuple[float, float]
    height: float
    roll: float = 0.0
    mirrored: bool = False
    opacity: float = 1.0


@dataclass(frozen=True)
class Portrait:
    """A bundled picture of one person, both in the public domain.

    Attributes:
        file: in `face_mtl_ros/assets`.
        center: the face's middle, as parts of the picture's width and height.
        height: of the face, as a part of the picture's height.
    """

    file: str
    center: tuple[float, float]
    height: float


PORTRAITS = {
    # Eileen Collins, photographed by NASA.
    "astronaut": Portrait("astronaut.jpg", (0.44, 0.235), 0.205),
    # Rear Admiral Grace Hopper, photographed by the US Navy.
    "grace_hopper": Portrait("grace_hopper.jpg", (0.515, 0.370), 0.375),
}


def compose(frame_size: tuple[int, int], faces: Sequence[PlacedFace | tuple]) -> np.ndarray:
    """A frame with bundled faces at chosen places, on a plain gradient; what tests and benchmarks look at.

    Args:
        frame_size: width, height.
        faces: PlacedFace, or tuples of its first values: (asset, center, height). Later ones cover earlier ones.

    Returns:
        uint8 (height, width, 3) BGR.
    """
    frame = _background(*frame_size).copy()
    for face in faces:
        _paste(frame, face if isinstance(face, PlacedFace) else PlacedFace(*face))
    return frame


def lit_portrait(
    asset: str, frame_size: tuple[int, int], center: tuple[float, float], height: float, rng: np.random.Generator
) -> np.ndarray:
    """A frame with one bundled face, a little tilted and with a lamp at one side, so that no two are alike.

    Args:
        frame_size, asset, center, height: as of `compose`.
        rng: draws the tilt and the light.

    Returns:
        uint8 (height, width, 3) BGR.
    """
    frame = compose(frame_size, [PlacedFace(asset, center, height, float(rng.uniform(-8, 8)))]).astype(np.float32)
    across, down = np.meshgrid(np.arange(frame_size[0]) - center[0], np.arange(frame_size[1]) - center[1])
    direction = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0.3, 0.8) / height
    light = 1 + slope * (across * np.cos(direction) + down * np.sin(direction))
    return np.clip(frame * light[..., None].clip(0.3, 1.7), 0, 255).astype(np.uint8)


def _paste(frame: np.ndarray, face: PlacedFace) -> None:
    """Blend a portrait into the frame, in place, within the part of the frame that it touches."""
    image, opacity, center, height = _cutout(face.asset)
    scale = face.height / height
    turn: np.ndarray = cv2.getRotationMatrix2D(center, face.roll if face.mirrored else -face.roll, scale)
    if face.mirrored:
        turn[0] *= -1
        turn[0, 2] += 2 * center[0]
    turn[:, 2] += np.array(face.center) - center

    outline = np.array([(x, y, 1) for x in (0, image.shape[1]) for y in (0, image.shape[0])]) @ turn.T
    left, top = np.maximum(np.floor(outline.min(axis=0)).astype(int), 0).tolist()
    right, bottom = np.minimum(np.ceil(outline.max(axis=0)).astype(int), frame.shape[1::-1]).tolist()
    if right <= left or bottom <= top:
        return
    turn[:, 2] -= (left, top)
    size = (right - left, bottom - top)
    area = frame[top:bottom, left:right]
    weight: np.ndarray = cv2.warpAffine(opacity, turn, size, flags=cv2.INTER_LINEAR)
    if face.opacity < 1:
        weight *= face.opacity
    warped = cv2.warpAffine(image, turn, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    area[:] = cv2.blendLinear(warped, area, weight, 1 - weight)


@lru_cache(maxsize=len(PORTRAITS))
def _cutout(asset: str) -> tuple[np.ndarray, np.ndarray, tuple[float, float], float]:
    """Head and shoulders of a portrait, their opacity (soft towards the edge), the face's centre and its height."""
    if asset not in PORTRAITS:
        raise ValueError(f"asset is {asset!r}, but must be one of {', '.join(PORTRAITS)}")
    portrait = PORTRAITS[asset]
    path = files("face_mtl_ros") / "assets" / portrait.file
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path} is no picture that OpenCV can read; install face_mtl_ros again")
    rows, columns = image.shape[:2]
    x, y, face = portrait.center[0] * columns, portrait.center[1] * rows, portrait.height * rows
    left, right = max(0, round(x - face)), min(columns, round(x + face))
    top, bottom = max(0, round(y - 1.15 * face)), min(rows, round(y + 1.2 * face))
    image = np.ascontiguousarray(image[top:bottom, left:right])
    x, y = x - left, y - top
    across, down = np.meshgrid(np.arange(image.shape[1]) - x, np.arange(image.shape[0]) - y)
    reach = np.where(down < 0, y, image.shape[0] - y)
    distance = np.hypot(across / min(x, image.shape[1] - x), down / reach)
    opacity = np.clip((1.0 - distance) / 0.25, 0, 1)
    opacity = (opacity * opacity * (3 - 2 * opacity)).astype(np.float32)
    return image, opacity, (x, y), face


@lru_cache(maxsize=4)
def _background(width: int, height: int) -> np.ndarray:
    """A wall, lit from the left above: no edges that a detector could take for a face."""
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    light = np.clip(1.0 - 0.55 * np.hypot(across - 0.3, 1.2 * (down - 0.2)), 0, 1)
    wall = light[..., None] * np.array([176, 168, 158]) + (1 - light[..., None]) * np.array([70, 58, 52])
    wall = wall.round().astype(np.uint8)
    wall.setflags(write=False)
    return wall
