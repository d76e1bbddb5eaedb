"""The bundled stream and the portraits it is composed of."""

from importlib.resources import files

import cv2
import numpy as np
import pytest

from face_mtl_ros.vision.portraits import PORTRAITS, PlacedFace, Portrait, compose
from face_mtl_ros.vision.sources import open_source


def take(source, n):
    return [source.read() for _ in range(n)]


def test_the_demo_is_the_same_every_time_and_has_no_jump_at_its_end():
    one, other = (open_source("demo", 160, 120, fps=10) for _ in range(2))
    first = take(one, 100)
    assert all((a == b).all() for a, b in zip(first, take(other, 100), strict=True))
    assert (one.read() == first[0]).all()
    steps = [cv2.absdiff(a, b).mean() for a, b in zip(first, first[1:], strict=False)]
    assert cv2.absdiff(first[-1], first[0]).mean() <= max(steps)
    assert min(steps) > 0 and max(steps) < 15
    assert len(list(open_source("demo", 160, 120, fps=5, loop=False))) == 50


@pytest.mark.parametrize(
    ("width", "height", "shape"),
    [(0, 0, (480, 640)), (1280, 720, (720, 1280)), (320, 0, (240, 320)), (0, 960, (960, 1280)), (240, 320, (320, 240))],
)
def test_the_demo_has_any_size(width, height, shape):
    frame = open_source("demo", width, height).read()
    assert frame.shape == (*shape, 3) and frame.dtype == np.uint8


def cascade():
    return cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml")


def found(detector, frame):
    return detector.detectMultiScale(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), 1.1, 3, minSize=(60, 60))


def test_a_cascade_finds_faces_in_the_demo_one_first_then_more():
    detector, source = cascade(), open_source("demo", fps=4)
    counts = [len(found(detector, frame)) for frame in take(source, 40)]
    assert np.mean(np.array(counts) >= 1) > 0.95
    assert max(counts[:8]) == 1
    assert max(counts) == 4
    assert np.mean(np.array(counts) >= 2) > 0.5


@pytest.mark.parametrize("asset", PORTRAITS)
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("height", [90, 200])
def test_a_placed_face_is_where_it_was_put(asset, mirrored, height):
    frame = compose((640, 480), [PlacedFace(asset, (300, 220), height, mirrored=mirrored)])
    boxes = found(cascade(), frame)
    assert len(boxes) == 1
    x, y, w, h = boxes[0]
    assert np.hypot(x + w / 2 - 300, y + h / 2 - 220) < 0.2 * height
    assert 0.7 < h / height < 1.3


@pytest.mark.parametrize("size", [(640, 480), (1280, 720)])
def test_eight_faces_are_eight_faces(size):
    width, height = size
    asset = ("astronaut", "grace_hopper")
    places = [(width * (2 * column + 1) / 8, height * y) for y in (0.27, 0.77) for column in range(4)]
    faces = [(asset[i % 2], place, height / 5) for i, place in enumerate(places)]
    assert len(found(cascade(), compose(size, faces))) == 8


def test_a_face_partly_or_wholly_outside_is_cut_off():
    empty = compose((640, 480), [])
    assert (compose((640, 480), [("astronaut", (5000, -5000), 100)]) == empty).all()
    assert (compose((640, 480), [("astronaut", (0, 0), 100)]) != empty).any()


def test_an_unknown_portrait_is_named():
    with pytest.raises(ValueError, match="'mona_lisa'.*astronaut"):
        compose((64, 48), [("mona_lisa", (1, 1), 10)])


def test_no_picture_of_the_demo_is_missing():
    assert all((files("face_mtl_ros") / "assets" / p.file).is_file() for p in PORTRAITS.values())


def test_a_damaged_portrait_is_named(monkeypatch):
    monkeypatch.setitem(PORTRAITS, "damaged", Portrait("README.md", (0.5, 0.5), 0.5))
    with pytest.raises(ValueError, match="README.md is no picture"):
        compose((64, 48), [("damaged", (1, 1), 10)])
