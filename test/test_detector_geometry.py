"""What the embedded detector computes with: turned views, candidates that are merged, eyes that make a pair."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from face_mtl_ros.vision.detection import Detection
from face_mtl_ros.vision.haar import Candidate, estimated_eyes, eye_pair, merge, moved_eyes
from face_mtl_ros.vision.view import turned_size, view_of

angles = st.floats(-180, 180)
coordinates = st.floats(-2000, 2000)
sizes = st.floats(1, 2000)


def candidate(x=100.0, y=100.0, size=50.0, roll=0.0, hits=10):
    return Candidate(np.array([x, y]), size, roll, hits)


class TestGeometry:
    @given(x=coordinates, y=coordinates, width=st.floats(1, 50), height=st.floats(1, 50), roll=angles,
           scale=st.floats(0.25, 2), point=st.tuples(coordinates, coordinates))  # fmt: skip
    @settings(max_examples=100, deadline=None)
    def test_into_the_view_and_back_is_the_identity(self, x, y, width, height, roll, scale, point):
        view = view_of(np.zeros((5, 5), np.uint8), (x, y), (width, height), roll, scale)
        into = cv2.invertAffineTransform(view.to_image)
        there = into[:, :2] @ point + into[:, 2]
        assert view.points_in_image(there[None])[0] == pytest.approx(point, abs=1e-6)

    @given(x=coordinates, y=coordinates, roll=angles, side=st.integers(1, 60))
    @settings(max_examples=50, deadline=None)
    def test_the_views_middle_is_the_centre(self, x, y, roll, side):
        view = view_of(np.zeros((5, 5), np.uint8), (x, y), (side, side), roll, 1.0)
        middle = (np.array(view.pixels.shape[::-1]) - 1) / 2
        assert view.points_in_image(middle[None])[0] == pytest.approx((x, y), abs=1e-6)

    def test_the_view_shows_a_rolled_face_upright(self):
        """A bar that falls to the right by 30 degrees is level in the view of roll 30."""
        image = np.zeros((101, 101), np.uint8)
        cv2.line(image, (20, 32), (80, 67), 255, 3)
        view = view_of(image, (50, 50), (80, 80), 30, 1.0)
        rows = np.nonzero(view.pixels > 128)[0]
        assert np.ptp(rows) < 6

    @given(width=sizes, height=sizes, roll=angles)
    def test_the_turned_rectangle_holds_the_corners(self, width, height, roll):
        wide, high = turned_size(width, height, roll)
        turn = np.array([[np.cos(np.radians(roll)), np.sin(np.radians(roll))],
                         [-np.sin(np.radians(roll)), np.cos(np.radians(roll))]])  # fmt: skip
        corners = np.abs(np.array([[width, height], [-width, height]]) / 2 @ turn.T)
        assert (corners <= np.array([wide, high]) / 2 + 1e-6).all()

    @given(x=coordinates, y=coordinates, size=sizes, roll=st.floats(-89, 89))
    def test_estimated_eyes_have_the_roll(self, x, y, size, roll):
        eyes = estimated_eyes(candidate(x, y, size, roll))
        dx, dy = eyes[1] - eyes[0]
        assert np.degrees(np.arctan2(dy, dx)) == pytest.approx(roll, abs=1e-3)
        assert np.abs(eyes - (x, y)).max() < size / 2

    @given(x=coordinates, y=coordinates, size=sizes, factor=st.floats(0.5, 2))
    def test_eyes_move_with_the_box(self, x, y, size, factor):
        before = candidate(size=100.0)
        box = np.array([50, 50, 100, 100], np.float32)
        moved = moved_eyes(Detection(box, 1.0, estimated_eyes(before)), candidate(x, y, 100 * factor))
        assert moved == pytest.approx(estimated_eyes(candidate(x, y, 100 * factor)), abs=1e-3)

    @given(st.lists(st.builds(candidate, x=coordinates, y=coordinates, size=st.floats(20, 300), roll=st.floats(-40, 40),
                              hits=st.integers(3, 100)), max_size=12))  # fmt: skip
    @settings(deadline=None)
    def test_merge(self, candidates):
        merged = merge(candidates)
        assert len(merged) <= len(candidates)
        assert bool(merged) == bool(candidates)
        assert [c.hits for c in merged] == sorted((c.hits for c in merged), reverse=True)
        assert sum(c.hits for c in merged) <= sum(c.hits for c in candidates)
        assert all(-40.001 <= c.roll <= 40.001 and 19.9 <= c.size <= 300.1 for c in merged)

    def test_merge_joins_the_angles_of_one_face(self):
        one = merge([candidate(roll=0, hits=10), candidate(x=104, roll=22, hits=10), candidate(x=400, hits=5)])
        assert [c.hits for c in one] == [20, 5]
        assert one[0].roll == pytest.approx(11)
        assert one[0].centre == pytest.approx((102, 100))

    def test_eye_pair(self):
        right, left = np.array([[0.3, 0.4]]), np.array([[0.7, 0.38]])
        pair = np.vstack([right, left])
        assert eye_pair(right, left) == pytest.approx(pair)
        assert eye_pair(np.array([[0.5, 0.6], *right]), np.array([*left, [0.9, 0.4]])) == pytest.approx(pair)
        assert eye_pair(left, right) is None
        assert eye_pair(right, np.empty((0, 2))) is None
        assert eye_pair(np.array([[0.3, 0.2]]), np.array([[0.7, 0.6]])) is None
