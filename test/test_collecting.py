"""A collection as the trainer makes one, without ROS: whose face, which pictures, and why there are no more."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from face_mtl_ros.samples.collecting import SETTLED_FRAMES, Collecting, SeenFace
from face_mtl_ros.samples.selection import Selector
from face_mtl_ros.vision.alignment import align

ASSETS = Path(__file__).parents[1] / "face_mtl_ros" / "assets"
CROP = align(cv2.imread(str(ASSETS / "grace_hopper.jpg")), np.array([[220, 190], [308, 190]], np.float32))


def face(face_id="ann", turn=0.0, pixels=90.0, quality=0.9):
    turned = cv2.warpAffine(CROP, cv2.getRotationMatrix2D((63.5, 63.5), turn, 1.0), (128, 128), borderMode=1)
    return SeenFace(face_id, turned, pixels, quality)


def show(collecting, *frames, start=0.0, step=0.1):
    """Frames, each a list of faces, a tenth of a second apart; returns when the last one was."""
    for i, faces in enumerate(frames):
        collecting.see(faces, "head", 1000 + i, start + i * step)
    return start + (len(frames) - 1) * step


def test_the_face_that_was_asked_for_is_collected_among_others():
    collecting = Collecting(Selector(2), "ann")
    show(collecting, [face("bob"), face("ann")], [face("ann", 40), face("bob", 40)])
    assert collecting.ended and not collecting.problem and collecting.summary() == "took 2 of 2"
    assert [(p.face_id, p.camera, p.stamp_ns, p.quality) for p in collecting.pictures] == [
        ("ann", "head", 1000, 0.9),
        ("ann", "head", 1001, 0.9),
    ]
    assert np.array_equal(collecting.pictures[0].crop, CROP)
    show(collecting, [face("ann", 80)])
    assert len(collecting.pictures) == 2


def test_the_only_face_is_taken_when_it_was_alone_for_a_few_frames():
    collecting = Collecting(Selector(2))
    show(collecting, *[[face("ann", 40 * i)] for i in range(SETTLED_FRAMES - 1)], [], [face("bob")])
    assert not collecting.pictures and not collecting.face_id
    show(collecting, *[[face("bob")]] * SETTLED_FRAMES)
    assert collecting.face_id == "bob" and len(collecting.pictures) == 1
    show(collecting, [face("ann", 40), face("bob", 40)])  # who comes later does not matter
    assert collecting.ended and not collecting.problem and {p.face_id for p in collecting.pictures} == {"bob"}


def test_two_faces_and_no_id_are_refused_and_named():
    collecting = Collecting(Selector(2))
    show(collecting, [face("ann")], [face("ann"), face("bob")])
    assert collecting.ended and not collecting.pictures
    assert (
        "2 faces" in collecting.summary() and "face_id" in collecting.summary() and "ann, bob" in collecting.summary()
    )


def test_a_face_that_is_gone_ends_the_collection_after_the_patience():
    collecting = Collecting(Selector(3), "ann", patience_s=1.0)
    last = show(collecting, [face("bob")], *[[]] * 9)
    assert not collecting.ended
    show(collecting, [face("bob")], start=last + 0.2)
    assert collecting.ended and collecting.summary() == "face 'ann' is not in view; in view: bob"


def test_a_face_that_leaves_keeps_what_was_taken_and_says_so():
    collecting = Collecting(Selector(3), "ann", patience_s=1.0)
    show(collecting, [face("ann")], [], [face("ann", 40)])
    show(collecting, [], start=5.0)
    assert len(collecting.pictures) == 2 and collecting.ended
    assert "took 2 of 3" in collecting.summary() and "not in view" in collecting.summary()


def test_what_is_missing_is_said():
    assert "camera" in Collecting(Selector(3)).summary()
    collecting = Collecting(Selector(3))
    show(collecting, [], [])
    assert "no face" in collecting.summary()
    collecting = Collecting(Selector(3), "ann")
    show(collecting, *[[face("ann", pixels=20)]] * 5)
    assert not collecting.ended and "5 too small; come closer" in collecting.summary()


@pytest.mark.parametrize("turns", [range(0, 90, 15)])
def test_turned_faces_differ_enough(turns):
    collecting = Collecting(Selector(len(turns)), "ann")
    show(collecting, *[[face("ann", turn)] for turn in turns])
    assert collecting.ended
