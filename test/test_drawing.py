"""The annotated picture says what was seen, inside the frame and readably."""

import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from face_mtl_ros.vision import drawing
from face_mtl_ros.vision.drawing import attribute_text, colour_of, draw


def attribute(task, label, confidence, value=math.nan):
    return SimpleNamespace(task=task, label=label, confidence=confidence, value=value)


ATTRIBUTES = [
    attribute("emotion", "happiness", 0.93),
    attribute("gender", "female", 0.98),
    attribute("age", "25-32", 0.41, 34.2),
]


def face(x, y, size, face_id="f3a9c1-12", attributes=ATTRIBUTES):
    box = np.array([x, y, size, size], np.float32)
    landmarks = box[:2] + size * np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)], np.float32)
    return SimpleNamespace(face_id=face_id, box=box, landmarks=landmarks, attributes=attributes)


@pytest.fixture
def panels(monkeypatch):
    """Where `draw` put the panels: x, y, width, height and the number of lines."""
    seen = []
    original = drawing._Panel.draw

    def spy(panel, canvas, x, y):
        seen.append((x, y, panel.width, panel.height, len(panel.lines)))
        original(panel, canvas, x, y)

    monkeypatch.setattr(drawing._Panel, "draw", spy)
    return seen


def frame(width, height, value=120):
    return np.full((height, width, 3), value, np.uint8)


def test_one_line_an_attribute():
    assert [attribute_text(a) for a in ATTRIBUTES] == ["happiness 0.93", "female 0.98", "34 y (25-32 0.41)"]
    assert attribute_text(attribute("height", "tall", 0.5, 1.83)) == "1.8 (tall 0.50)"


def test_the_image_given_is_left_alone_and_the_copy_is_drawn_on():
    image = frame(640, 480)
    out = draw(image, [face(250, 150, 140)])
    assert (image == 120).all()
    assert out.shape == image.shape and out.dtype == np.uint8
    changed = np.argwhere((out != image).any(axis=2))
    assert len(changed) > 3000


def test_no_faces_is_the_image_itself_as_a_copy():
    image = frame(64, 48)
    out = draw(image, [])
    assert (out == image).all() and not np.shares_memory(out, image)


def test_a_grey_image_is_drawn_on_in_colour():
    out = draw(np.full((480, 640), 120, np.uint8), [face(250, 150, 140)])
    assert out.shape == (480, 640, 3)
    assert (out.max(axis=2) != out.min(axis=2)).any()


def test_box_and_landmarks_are_where_the_face_is():
    one = face(250, 150, 140, attributes=[])
    out = draw(frame(640, 480), [one])
    colour = colour_of(one.face_id)
    for x, y in [(320, 150), (250, 220), (390, 220), (320, 290), *one.landmarks]:
        assert np.abs(out[round(y), round(x)].astype(int) - colour).max() < 40
    assert (out[int(one.box[1]) + 60, 280] == 120).all()


@pytest.mark.parametrize(("width", "height"), [(320, 240), (640, 480), (1280, 720), (1920, 1080), (240, 320)])
def test_the_panel_is_inside_the_frame_wherever_the_face_is_and_shows_every_line(width, height, panels):
    size = min(width, height) // 3
    for x in (-size // 2, 0, width // 2, width - size, width - size // 2):
        for y in (-size // 2, 0, height // 2, height - size, height - size // 2):
            draw(frame(width, height), [face(x, y, size)])
    assert len(panels) == 25
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h, _ in panels)
    assert {lines for *_, lines in panels} == {4}


def test_letters_grow_with_the_image(panels):
    for width, height in ((320, 240), (640, 480), (1920, 1080)):
        draw(frame(width, height), [face(width / 3, height / 3, height / 4)])
    heights = [h for _, _, _, h, _ in panels]
    assert heights[0] < heights[1] < heights[2]
    assert heights[2] < 1080 / 6


def test_a_label_longer_than_the_image_is_cut_short(panels):
    draw(frame(320, 240), [face(100, 80, 80, attributes=[attribute("identity", "x" * 300, 0.5)])])
    ((x, _, w, _, lines),) = panels
    assert x >= 0 and x + w <= 320 and lines == 2


def test_names_with_accents_keep_their_letters(monkeypatch):
    drawing._text_mask.cache_clear()
    texts, original = [], cv2.putText
    monkeypatch.setattr(drawing.cv2, "putText", lambda image, text, *a: (texts.append(text), original(image, text, *a)))
    draw(frame(640, 480), [face(250, 150, 140, attributes=[attribute("identity", "José Müller", 0.5)])])
    assert "Jose Muller 0.50" in texts


def test_text_is_readable_on_any_ground():
    """White letters on the panel: a contrast of 4.5 to 1 (WCAG AA), on black, grey and white images."""

    def luminance(value):
        c = np.asarray(value, np.float64)[::-1] / 255
        c = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return c @ [0.2126, 0.7152, 0.0722]

    for ground in (0, 128, 255):
        panel = np.array(drawing.PANEL_COLOUR) * drawing.PANEL_OPACITY + ground * (1 - drawing.PANEL_OPACITY)
        assert (luminance(drawing.TEXT_COLOUR) + 0.05) / (luminance(panel) + 0.05) >= 4.5


def test_the_panels_of_eight_faces_do_not_cover_each_other_nor_most_of_a_face(panels):
    faces = [face(60 + 310 * (i % 4) + 20 * (i // 4), 110 + 330 * (i // 4), 130, f"f3a9c1-{i}") for i in range(8)]
    draw(frame(1280, 720), faces)
    areas = [(x, y, x + w, y + h) for x, y, w, h, _ in panels]
    boxes = [drawing._corners(one.box) for one in faces]
    assert len(areas) == 8
    assert sum(drawing._overlap(a, b) for i, a in enumerate(areas) for b in areas[i + 1 :]) == 0
    assert all(drawing._overlap(a, b) == 0 for a in areas for b in boxes)


def test_eight_faces_in_a_small_frame_keep_readable_panels_with_fewer_lines(panels):
    faces = [face(80 * (i % 4) + 16, 41 + 120 * (i // 4), 48, f"f3a9c1-{i}") for i in range(8)]
    draw(frame(320, 240), faces)
    areas = [(x, y, x + w, y + h) for x, y, w, h, _ in panels]
    covered = sum(drawing._overlap(a, b) for i, a in enumerate(areas) for b in areas[i + 1 :])
    assert len(areas) == 8
    assert covered < 0.02 * sum(w * h for _, _, w, h, _ in panels)


def test_a_face_keeps_its_colour_and_neighbours_mostly_differ():
    assert colour_of("f3a9c1-7") == colour_of("f3a9c1-7")
    assert len({colour_of(f"f3a9c1-{i}") for i in range(30)}) >= 6


texts = st.text(max_size=60)
attributes = st.builds(
    attribute,
    task=st.sampled_from(["age", "emotion"]),
    label=texts,
    confidence=st.floats(0, 1),
    value=st.floats(0, 120) | st.just(math.nan),
)
any_face = st.builds(
    face,
    x=st.floats(-500, 900),
    y=st.floats(-500, 900),
    size=st.floats(0, 900),
    face_id=texts,
    attributes=st.lists(attributes, max_size=6),
)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 700), st.integers(1, 700), st.lists(any_face, max_size=4))
def test_any_faces_can_be_drawn_on_any_image(width, height, faces):
    out = draw(frame(width, height), faces)
    assert out.shape == (height, width, 3) and out.dtype == np.uint8
