"""Where frames come from when no camera driver publishes them: pictures, folders, videos, devices and the demo."""

import logging
import math
import re
import time
from pathlib import Path

import cv2
import numpy as np

from .demo_stream import DemoSource
from .frame_source import DEFAULT_FPS, FrameSource

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

DEVICE_PATIENCE_S = 5.0  # a camera may drop out for a moment

log = logging.getLogger(__name__)


class SourceError(ValueError):
    """A source that cannot be opened or gives no frames; the message names it and what to do."""


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

    def read(self) -> np.ndarray:
        """The next image. A camera has no end: SourceError where none came for a while."""
        deadline = time.monotonic() + DEVICE_PATIENCE_S
        while True:
            ok, image = self._capture.read()
            if ok:
                return image
            if time.monotonic() > deadline:
                raise SourceError(f"device {self.name} gave no image for {DEVICE_PATIENCE_S:.0f} s; is it plugged in?")
            log.warning("device %s gave no image; trying again", self.name)
            time.sleep(0.2)

    def close(self) -> None:
        self._capture.release()


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
