"""Frames from pictures, folders and videos, and clear words where there are none."""

import logging

import cv2
import numpy as np
import pytest

from face_mtl_ros.vision.sources import SourceError, open_source


def flat(value, width=60, height=40):
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture
def folder(tmp_path):
    for name, value in (("10.png", 100), ("2.png", 20), ("1.png", 10)):
        cv2.imwrite(str(tmp_path / name), flat(value))
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 12.0, (64, 48))
    assert writer.isOpened()
    for value in (40, 120, 200):
        writer.write(flat(value, 64, 48))
    writer.release()
    return path


def levels(frames):
    return [round(float(frame.mean())) for frame in frames]


def take(source, n):
    return [source.read() for _ in range(n)]


def test_a_picture_repeats_while_it_loops_and_comes_once_otherwise(folder):
    path = str(folder / "2.png")
    with open_source(path, loop=True) as source:
        frames = take(source, 3)
        assert levels(frames) == [20, 20, 20]
        frames[1][:] = 0
        assert levels(take(source, 1)) == [20]
        assert (source.name, source.fps) == (path, 30.0)
    assert levels(open_source(path, loop=False)) == [20]


def test_a_folder_is_read_in_natural_order(folder):
    assert levels(open_source(str(folder), loop=False)) == [10, 20, 100]
    assert levels(take(open_source(str(folder), loop=True), 7)) == [10, 20, 100, 10, 20, 100, 10]


def test_an_unreadable_picture_in_a_folder_is_skipped_with_one_warning(folder, caplog):
    (folder / "3.jpg").write_bytes(b"not a JPEG")
    with caplog.at_level(logging.WARNING):
        assert levels(take(open_source(str(folder), loop=True), 6)) == [10, 20, 100] * 2
    assert [record.getMessage().count("3.jpg") for record in caplog.records] == [1]


def test_pictures_are_fitted_in_without_distortion(folder):
    path = str(folder / "10.png")
    frame = open_source(path, width=120, height=120).read()
    assert frame.shape == (120, 120, 3)
    assert (frame[20:100] == 100).all() and (frame[:20] == 0).all() and (frame[100:] == 0).all()
    assert open_source(path, width=30).read().shape == (20, 30, 3)
    assert open_source(path, height=80).read().shape == (80, 120, 3)


def test_a_video_has_its_own_rate_and_loops(video):
    with open_source(str(video), loop=True) as source:
        assert source.fps == pytest.approx(12.0)
        assert levels(take(source, 7)) == pytest.approx([40, 120, 200, 40, 120, 200, 40], abs=3)
    with open_source(str(video), loop=False, fps=5, width=32) as source:
        frames = list(source)
        assert source.fps == 5
        assert levels(frames) == pytest.approx([40, 120, 200], abs=3)
        assert frames[0].shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda p: p / "nothing.jpg", "nothing.jpg.*does not exist.*demo"),
        (lambda p: (p / "empty").mkdir() or p / "empty", "empty.*without pictures"),
        (lambda p: (p / "a.jpg").write_text("x") and p / "a.jpg", "a.jpg.*is not a picture"),
        (lambda p: (p / "a.jpg").touch() or p / "a.jpg", "a.jpg.*is not a picture"),
        (lambda p: (p / "a.mp4").write_text("x" * 5000) and p / "a.mp4", "a.mp4.*no frames"),
        (lambda p: (p / "a.txt").write_text("x") and p / "a.txt", "a.txt.*no frames"),
        (lambda p: "97", "/dev/video97 does not exist"),
        (lambda p: "/dev/video97", "/dev/video97 does not exist"),
        (lambda p: "/dev/null", "/dev/null cannot be opened as a camera.*group video"),
    ],
)
def test_a_source_without_frames_is_named_with_a_remedy(tmp_path, make, named):
    with pytest.raises(SourceError, match=named):
        open_source(str(make(tmp_path)))


def test_a_folder_of_broken_pictures_is_refused(tmp_path):
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_bytes(b"broken")
    with pytest.raises(SourceError, match="none that OpenCV can read"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("wrong", [{"width": -1}, {"height": -5}, {"fps": -1.0}, {"fps": float("nan")}])
def test_numbers_out_of_range_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        open_source("demo", **wrong)
