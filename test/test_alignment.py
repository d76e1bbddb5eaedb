"""The crop that training and the robot share."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from face_mtl_ros.vision.alignment import CROP_SIZE, TEMPLATE, align, normalize, similarity

finite = st.floats(-1000, 1000)
turns = st.floats(-np.pi, np.pi)
scales = st.floats(0.05, 20)


def moved(points, angle, scale, shift):
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale * points @ rotation.T + shift


@given(turns, scales, finite, finite)
def test_similarity_finds_the_map_that_was_applied(angle, scale, x, y):
    source = TEMPLATE * 100
    target = moved(source, angle, scale, [x, y])
    matrix = similarity(source, target)
    np.testing.assert_allclose(source @ matrix[:, :2].T + matrix[:, 2], target, atol=1e-3 * max(1, scale))


@given(turns, scales, finite, finite)
def test_similarity_never_mirrors(angle, scale, x, y):
    mirrored = TEMPLATE * [-100, 100]
    matrix = similarity(mirrored, moved(TEMPLATE * 100, angle, scale, [x, y]))
    assert np.linalg.det(matrix[:, :2]) >= -1e-9


@pytest.mark.parametrize("points", [[[5, 5], [5, 5]], [[0, 0], [np.nan, 1]]])
def test_points_that_cannot_be_aligned_are_refused(points):
    with pytest.raises(ValueError, match="coincide or are not finite"):
        similarity(np.array(points, float), TEMPLATE[:2])


def picture():
    """A smooth picture with a bright dot at each of the template's landmarks."""
    image = np.zeros((128, 128), np.float32)
    for x, y in TEMPLATE * 128:
        cv2.circle(image, (round(x), round(y)), 4, 255, -1)
    return cv2.GaussianBlur(image, (0, 0), 2).astype(np.uint8)


@settings(deadline=None, max_examples=40)
@given(st.floats(-0.7, 0.7), st.floats(0.3, 6), st.floats(-50, 50), st.floats(-50, 50))
def test_a_face_looks_the_same_wherever_and_however_large_it_is(angle, scale, x, y):
    original = picture()
    points = moved(TEMPLATE * 128, angle, scale, [300 + x, 300 + y])
    matrix = similarity(TEMPLATE * 128, points)
    side = 1400
    scene = cv2.warpAffine(original, matrix, (side, side), flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    inside = (points.min() > 60) and (points.max() < side - 60)
    if inside:
        difference = np.abs(align(scene, points).astype(int) - original)
        assert difference.mean() < 12 and np.median(difference) < 6


def test_two_eyes_and_five_landmarks_of_an_upright_face_agree():
    points = moved(TEMPLATE * 128, 0.2, 2, [150, 100])
    scene = np.random.default_rng(0).integers(0, 255, (480, 640), np.uint8)
    scene = cv2.GaussianBlur(scene, (0, 0), 6)
    np.testing.assert_allclose(align(scene, points[:2]).astype(int), align(scene, points), atol=2)


def test_colour_and_grey_pictures_and_a_margin():
    colour = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    points = TEMPLATE * 100 + 60
    crop = align(colour, points)
    assert crop.shape == (CROP_SIZE, CROP_SIZE) and crop.dtype == np.uint8
    wide = align(colour, points, margin=16)
    np.testing.assert_allclose(wide[16:-16, 16:-16].astype(int), crop, atol=1)


def test_a_face_at_the_edge_repeats_it():
    image = np.full((50, 50), 77, np.uint8)
    assert (align(image, TEMPLATE * 100 - 60) == 77).all()


def test_a_large_face_is_not_aliased():
    """Every second pixel black and white is grey when it is shrunk, not a pattern."""
    checkered = (np.indices((2000, 2000)).sum(0) % 2 * 255).astype(np.uint8)
    crop = align(checkered, TEMPLATE * 1900 + 33.3)
    assert abs(crop.mean() - 127) < 3 and crop.std() < 12


def test_normalised_crops_have_mean_0_and_deviation_1_whatever_the_light():
    crop = np.random.default_rng(0).normal(120, 40, (1, 1, 128, 128)).clip(0, 255).astype(np.float32)
    bright = normalize(crop)
    assert abs(bright.mean()) < 1e-4 and abs(bright.std() - 1) < 1e-3
    np.testing.assert_allclose(normalize(crop * 0.3 + 10), bright, atol=1e-3)
    assert np.isfinite(normalize(np.zeros((1, 1, 128, 128), np.float32))).all()


def test_numpy_and_torch_normalise_alike():
    torch = pytest.importorskip("torch", reason="training needs torch, which the train extra installs")
    crops = np.random.default_rng(0).integers(0, 255, (3, 1, 128, 128)).astype(np.float32)
    np.testing.assert_allclose(normalize(torch.from_numpy(crops)).numpy(), normalize(crops), atol=1e-5)
