"""The parts of a full search together see every face whole."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from face_mtl_ros.vision.search_parts import search_octaves

SMALLEST = 24


@given(
    width=st.integers(20, 900),
    height=st.integers(20, 900),
    angle=st.sampled_from([0.0, -20.0, 20.0, 40.0]),
    at=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    relative_size=st.floats(0, 1),
)
def test_every_face_lies_whole_in_a_part_of_its_size(width, height, angle, at, relative_size):
    octaves = search_octaves(width, height, angle, overlap=2 * SMALLEST)
    largest = max(SMALLEST, min(width, height) / 2)
    size = SMALLEST * (largest / SMALLEST) ** relative_size
    octave = min(int(math.log2(size / SMALLEST)), len(octaves) - 1)
    corner = np.array(at) * [width, height]
    # Along the turned axes, from the picture's middle; the face stands upright there.
    offset = corner - np.array([width, height]) / 2
    turn = np.radians(angle)
    x, y = offset @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    lies_in_extent = [False]
    for part in octaves[octave]:
        left, top = part.offset - np.array(part.size) / 2
        lies_in_extent.append(
            left - 1e-6 <= x - size / 2
            and x + size / 2 <= left + part.size[0] + 1e-6
            and top - 1e-6 <= y - size / 2
            and y + size / 2 <= top + part.size[1] + 1e-6
        )
    whole = octaves[-1][0].size
    inside = abs(x) + size / 2 <= whole[0] / 2 and abs(y) + size / 2 <= whole[1] / 2
    assert any(lies_in_extent) or not inside


@given(width=st.integers(20, 4000), height=st.integers(20, 4000), angle=st.floats(-45, 45))
def test_no_part_is_large(width, height, angle):
    for octave in search_octaves(width, height, angle, overlap=2 * SMALLEST):
        for part in octave:
            assert max(part.size) * part.zoom <= 192 + 1


def test_a_small_picture_is_one_part():
    assert [len(octave) for octave in search_octaves(150, 100, 0.0, overlap=48)] == [1]
