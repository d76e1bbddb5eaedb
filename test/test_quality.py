"""How fit a picture is to learn from: whatever spoils it lowers the figure, and nothing else does."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_mtl_ros.vision.alignment import TEMPLATE, align
from face_mtl_ros.vision.quality import Quality, assess, laplacian_variance, sharpness, turn

ASSETS = Path(__file__).parents[1] / "face_mtl_ros" / "assets"
# Right and left eye in pixels, as the embedded detector has them.
PORTRAITS = {"astronaut.jpg": [[203, 96], [249, 99]], "grace_hopper.jpg": [[220, 190], [308, 190]]}
FRONTAL = TEMPLATE * 128
NO_LANDMARKS = np.empty((0, 2), np.float32)
# A head's five points in a space of x to the right, y down, z away from the camera; the nose's tip stands out.
HEAD = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.53, -0.42], [-0.4, 1, 0], [0.4, 1, 0]])


@pytest.fixture(params=PORTRAITS)
def crop(request):
    return align(cv2.imread(str(ASSETS / request.param)), np.array(PORTRAITS[request.param], np.float32))


def seen(yaw=0.0, pitch=0.0, roll=0.0):
    """float (5, 2): the head turned by degrees, seen from far."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    in_plane = np.array([[np.cos(r), -np.sin(r)], [np.sin(r), np.cos(r)]])
    return (HEAD @ about_y @ about_x)[:, :2] @ in_plane.T * 80 + 300


def test_good_portraits_are_good(crop):
    quality = assess(crop, 128, FRONTAL)
    assert quality.overall > 0.8, quality


@pytest.mark.parametrize(
    ("part", "spoil"),
    [
        ("sharpness", lambda face: cv2.GaussianBlur(face, (0, 0), 4)),
        ("sharpness", lambda face: cv2.blur(face, (21, 1))),
        ("sharpness", lambda face: cv2.blur(face, (1, 21))),
        ("exposure", lambda face: (face * 0.15).astype(np.uint8)),
        ("exposure", lambda face: np.clip(face.astype(int) * 4, 0, 255).astype(np.uint8)),
        ("exposure", lambda face: (face // 16 + 120).astype(np.uint8)),
    ],
)
def test_what_spoils_a_picture_lowers_its_part(crop, part, spoil):
    before, after = assess(crop, 128, FRONTAL), assess(spoil(crop), 128, FRONTAL)
    assert getattr(after, part) < 0.5 * getattr(before, part)
    assert after.overall < 0.5 * before.overall


def test_a_picture_without_anything_in_it_is_useless():
    for grey in (0, 128, 255):
        assert assess(np.full((128, 128), grey, np.uint8), 128, FRONTAL).overall == 0


@pytest.mark.parametrize(("pixels", "size"), [(20, 0), (24, 0), (44, 0.5), (64, 1), (500, 1), (float("nan"), 0)])
def test_a_face_must_be_large_enough(crop, pixels, size):
    quality = assess(crop, pixels, FRONTAL)
    assert quality.size == pytest.approx(size)
    assert quality.overall == pytest.approx(assess(crop, 128, FRONTAL).overall * size)


def test_faces_whose_detector_gives_no_landmarks_have_no_pose_to_judge(crop):
    assert assess(crop, 128, NO_LANDMARKS).pose == 1


@pytest.mark.parametrize("roll", [0, 35, -120])
def test_the_turn_is_that_of_the_head_and_not_its_roll(roll):
    assert turn(seen(roll=roll)) == pytest.approx(0, abs=0.1)
    for yaw in (-60, -30, 15, 30, 45, 60):
        assert turn(seen(yaw=yaw, roll=roll)) == pytest.approx(abs(yaw), abs=1)
    for pitch in (-25, -10, 10, 25):
        assert turn(seen(pitch=pitch, roll=roll)) == pytest.approx(abs(pitch), abs=5)


def test_a_turned_head_is_worse_and_a_profile_useless(crop):
    turned = [assess(crop, 128, seen(yaw=yaw)).pose for yaw in (0, 15, 30, 45, 70)]
    assert turned[:2] == [1, 1] and turned[2] > turned[3] > turned[4] == 0
    assert turn(np.zeros((5, 2))) == 90  # no face has its points in one place


def test_sharpness_does_not_depend_on_contrast_and_the_laplacian_does(crop):
    flat = (crop // 2 + 60).astype(np.uint8)
    assert sharpness(flat) == pytest.approx(sharpness(crop), rel=0.1)
    assert laplacian_variance(flat) < 0.4 * laplacian_variance(crop)
    assert laplacian_variance(cv2.GaussianBlur(crop, (0, 0), 2)) < 0.3 * laplacian_variance(crop)


points = st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=5, max_size=5).map(np.array)


@given(points, st.floats(), st.integers(0, 2**32 - 1), st.floats(0, 255))
def test_every_part_is_a_share_whatever_comes(landmarks, pixels, seed, level):
    noise = np.random.default_rng(seed).normal(level, level / 4, (128, 128))
    quality = assess(np.clip(noise, 0, 255).astype(np.uint8), pixels, landmarks)
    for value in (quality.sharpness, quality.exposure, quality.pose, quality.size, quality.overall):
        assert 0 <= value <= 1


def test_two_shortcomings_are_worse_than_one():
    assert Quality(0.5, 1, 1, 1).overall > Quality(0.5, 0.5, 1, 1).overall > Quality(0.5, 0.5, 1, 0).overall == 0
