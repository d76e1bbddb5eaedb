"""Where frames come from when no camera driver publishes them: pictures, videos, devices and the bundled demo."""

import logging
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
DEFAULT_FPS = 30.0

log = logging.getLogger(__name__)


class SourceError(ValueError):
    """A source that cannot be opened or gives no frames; the message names it and what to do."""


class FrameSource(ABC):
    """A stream of frames: call `read`, or iterate, and `close` at the end (or use it in a `with` statement).

    A source does not wait: whoever reads keeps the time, `1 / fps` a frame.

    Attributes:
        name: what it is, for people.
        fps: frames per second it is meant to be shown at.
    """

    name: str
    fps: float

    @abstractmethod
    def read(self) -> np.ndarray | None:
        """The next frame, uint8 (height, width, 3) BGR, the reader's to keep; None when there are no more."""

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Release the device or file. A closed source must not be read."""

    def __iter__(self) -> Iterator[np.ndarray]:
        while (frame := self.read()) is not None:
            yield frame

    def __enter__(self) -> "FrameSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_source(source: str, width: int = 0, height: int = 0, fps: float = 0.0, loop: bool = True) -> FrameSource:
    """Open a source of frames.

    Args:
        source: "demo"; a picture; a folder of pictures, shown in natural order (2 before 10); a video; or a device as a
            number or path ("0", "/dev/video0").
        width, height: of the frames in pixels. 0 leaves it to the source (demo: 640 x 480), one of them alone keeps the
            proportions. Pictures and videos are fitted in with black bars, never distorted. A device is asked for the
            size and answers with the nearest it has.
        fps: frames per second; 0 takes the video's or device's own, else 30.
        loop: begin again at the end. A single picture then repeats for ever. Devices have no end.

    Raises:
        SourceError: if there is no such source or it has no frames.
        ValueError: for a negative number.
    """
    for name, value in (("width", width), ("height", height), ("fps", fps)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}, but must be 0 (the source's own) or above")
    if source == "demo":
        return DemoSource(width, height, fps, loop)
    if source.isdecimal():
        source = f"/dev/video{int(source)}"
    if source.startswith("/dev/"):
        return _DeviceSource(source, width, height, fps)
    path = Path(source).expanduser()
    if not path.exists():
        raise SourceError(
            f"source {source!r} does not exist; give a picture, a folder of pictures, a video, a device such as 0 or "
            "/dev/video0, or demo"
        )
    if path.is_dir():
        return _PicturesSource(source, _pictures_in(path, source), width, height, fps, loop)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return _PicturesSource(source, [path], width, height, fps, loop)
    return _VideoSource(source, path, width, height, fps, loop)


class _PicturesSource(FrameSource):
    def __init__(self, name: str, paths: list[Path], width: int, height: int, fps: float, loop: bool):
        self.name = name
        self.fps = fps or DEFAULT_FPS
        self._paths = paths
        self._size = (width, height)
        self._loop = loop
        self._next = 0
        self._single: np.ndarray | None = None
        what = "is not a picture" if len(paths) == 1 else f"has {len(paths)} picture files, but none"
        # What has no picture at all fails here, not in the middle of a stream.
        self._first = self._load()
        if self._first is None:
            raise SourceError(f"source {name!r} {what} that OpenCV can read; replace it with a JPEG or PNG")

    def read(self) -> np.ndarray | None:
        if self._single is not None:
            return self._single.copy() if self._loop else None
        if self._first is not None:
            first, self._first = self._first, None
            if len(self._paths) == 1:
                self._single = first.copy()
            return first
        frame = self._load()
        if frame is None and self._loop:
            self._next = 0
            frame = self._load()
        return frame

    def _load(self) -> np.ndarray | None:
        """The next readable picture, or None at the end. Unreadable ones leave the list, so each is named once."""
        while self._next < len(self._paths):
            path = self._paths[self._next]
            image = _imread(path)
            if image is not None:
                self._next += 1
                return _fit(image, *self._size)
            log.warning("skipping %s: not a picture that OpenCV can read", path)
            if len(self._paths) == 1:
                return None
            del self._paths[self._next]
        return None


class _VideoSource(FrameSource):
    def __init__(self, name: str, path: Path, width: int, height: int, fps: float, loop: bool):
        self.name = name
        self._path = path
        self._size = (width, height)
        self._loop = loop
        self._capture = cv2.VideoCapture(str(path))
        self._first = self._grab()
        if self._first is None:
            self.close()
            raise SourceError(
                f"source {name!r} has no frames that OpenCV can decode; convert it to H.264 or MJPEG video"
            )
        own = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps or (own if 0 < own <= 1000 else DEFAULT_FPS)

    def read(self) -> np.ndarray | None:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        frame = self._grab()
        if frame is None and self._loop:
            # Opening again works with every container; seeking to frame 0 does not.
            self._capture.release()
            self._capture.open(str(self._path))
            frame = self._grab()
        return frame

    def close(self) -> None:
        self._capture.release()

    def _grab(self) -> np.ndarray | None:
        ok, image = self._capture.read()
        return _fit(image, *self._size) if ok else None


class _DeviceSource(FrameSource):
    def __init__(self, device: str, width: int, height: int, fps: float):
        self.name = device
        if not Path(device).exists():
            found = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*")))
            raise SourceError(f"device {device} does not exist; there is {found or 'no camera: plug one in'}")
        self._capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
        wanted = {cv2.CAP_PROP_FRAME_WIDTH: width, cv2.CAP_PROP_FRAME_HEIGHT: height, cv2.CAP_PROP_FPS: fps}
        for key, value in wanted.items():
            if value:
                self._capture.set(key, value)
        if not self._capture.isOpened():
            raise SourceError(
                f"device {device} cannot be opened as a camera; check that no other program uses it and that you may "
                "read it (group video)"
            )
        self.fps = fps or self._capture.get(cv2.CAP_PROP_FPS) or DEFAULT_FPS

    def read(self) -> np.ndarray | None:
        ok, image = self._capture.read()
        return image if ok else None

    def close(self) -> None:
        self._capture.release()


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


class DemoSource(FrameSource):
    """The bundled stream: ten seconds with one to four moving faces, whose end meets its beginning.

    A frame depends on its index alone.
    """

    SECONDS = 10.0

    def __init__(self, width: int = 0, height: int = 0, fps: float = 0.0, loop: bool = True):
        if width and not height:
            height = round(width * 3 / 4)
        if height and not width:
            width = round(height * 4 / 3)
        self.name = "demo"
        self.fps = fps or DEFAULT_FPS
        self._size = (width or 640, height or 480)
        self._frames = max(1, round(self.SECONDS * self.fps))
        self._loop = loop
        self._index = 0

    def read(self) -> np.ndarray | None:
        if self._index >= self._frames and not self._loop:
            return None
        self._index += 1
        return self.frame(self._index - 1)

    def frame(self, index: int) -> np.ndarray:
        """Frame `index`, 0 or above: uint8 (height, width, 3) BGR."""
        return compose(self._size, _demo_faces((index % self._frames) / self._frames, *self._size))


def _demo_faces(phase: float, width: int, height: int) -> list[PlacedFace]:
    """Who stands where at a phase (0 to 1) of the demo. All motion is periodic, so the stream loops without a jump."""
    scale = min(width / 640, height / 480)

    def wave(turns: int, shift: float = 0.0) -> float:
        return math.sin(2 * math.pi * (turns * phase + shift))

    def between(start: float, end: float) -> float:
        """Opacity of someone who is there from one phase to another, fading in and out within a twenty-fifth."""
        return min(1.0, max(0.0, min(phase - start, end - phase) * 25))

    def face(asset: str, x: float, y: float, size: float, roll: float, mirrored: bool = False) -> PlacedFace:
        center = (width / 2 + (x - 320) * scale, height / 2 + (y - 240) * scale)
        return PlacedFace(asset, center, size * scale, roll, mirrored)

    first = face("astronaut", 180 + 30 * wave(1), 285 + 12 * wave(2), 145 + 20 * wave(1, 0.25), 6 * wave(2, 0.1))
    second = face("grace_hopper", 455 + 30 * wave(2), 285 + 12 * wave(1), 135 + 15 * wave(1), 5 * wave(1, 0.3))
    third = face("astronaut", 325 + 10 * wave(1), 100 + 6 * wave(3), 92, 4 * wave(2), mirrored=True)
    fourth = face("grace_hopper", 582 + 8 * wave(2), 105 + 6 * wave(2, 0.4), 92, 4 * wave(1), mirrored=True)
    cast = [  # from back to front
        replace(fourth, opacity=between(0.55, 0.85)),
        replace(third, opacity=between(0.45, 0.9)),
        replace(second, opacity=between(0.25, 0.95)),
        first,
    ]
    return [one for one in cast if one.opacity > 0]


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


def _pictures_in(folder: Path, name: str) -> list[Path]:
    found = [path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()]
    if not found:
        raise SourceError(f"source {name!r} is a folder without pictures; put {'/'.join(PICTURE_SUFFIXES)} files in")
    return sorted(found, key=lambda path: _natural(path.name))


def _natural(name: str) -> tuple:
    """Sorting key by which frame2 comes before frame10."""
    parts = re.split(r"(\d+)", name.lower())
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts), name


def _imread(path: Path) -> np.ndarray | None:
    try:
        return cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error:  # such as for a picture of too many pixels
        return None


def _fit(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scale into width x height with black bars; 0 stands for "as the proportions have it", twice for "as it is"."""
    rows, columns = image.shape[:2]
    if not width and not height:
        return image
    width = width or max(1, round(columns * height / rows))
    height = height or max(1, round(rows * width / columns))
    if (width, height) == (columns, rows):
        return image
    scale = min(width / columns, height / rows)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    x, y = (width - size[0]) // 2, (height - size[1]) // 2
    return cv2.copyMakeBorder(scaled, y, height - size[1] - y, x, width - size[0] - x, cv2.BORDER_CONSTANT)
