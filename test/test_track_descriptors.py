"""Foreign descriptors of tracked faces: whose turn it is, and what counts of several descriptions."""

import numpy as np

from face_mtl_ros.runtime.track_descriptors import TrackDescriptors

HERE, THERE, BACK = np.eye(3, dtype=np.float32)


def described(memory, frames, every=4, faces=("a",)):
    """Which faces are described in each of so many frames."""
    found = []
    for _ in range(frames):
        due = memory.due(list(faces), every)
        for face_id in due:
            memory.add(face_id, {"d": HERE})
        found.append("".join(due))
    return found


def test_a_face_is_described_in_its_first_frames_and_then_every_so_many():
    assert described(TrackDescriptors(), 10) == ["a", "a", "a", "", "", "", "a", "", "", ""]


def test_new_faces_come_at_once_and_of_the_others_one_a_frame():
    memory = TrackDescriptors()
    assert described(memory, 5, faces="ab") == ["ab", "a", "b", "a", "b"]
    assert described(memory, 1, faces="abc") == ["c"]


def test_a_face_that_is_not_shown_waits():
    memory = TrackDescriptors()
    described(memory, 1)
    assert described(memory, 3, faces=()) == ["", "", ""]
    assert described(memory, 1) == ["a"]


def test_one_bad_description_of_three_does_not_decide():
    memory = TrackDescriptors()
    for vector in (THERE, HERE, HERE):
        memory.add("a", {"d": vector, "e": BACK})
    np.testing.assert_allclose(memory.mean("a", "d"), (2 * HERE + THERE) / 5**0.5, atol=1e-6)
    np.testing.assert_allclose(memory.mean("a", "e"), BACK, atol=1e-6)
    memory.add("a", {"d": HERE, "e": BACK})  # the oldest of them counts no more
    np.testing.assert_allclose(memory.mean("a", "d"), HERE, atol=1e-6)


def test_what_is_gone_is_described_anew():
    memory = TrackDescriptors()
    described(memory, 3, faces="ab")
    memory.forget({"b"})
    assert described(memory, 1, faces="ab") == ["ab"]
    memory.clear()
    assert described(memory, 1, faces="ab") == ["ab"]
