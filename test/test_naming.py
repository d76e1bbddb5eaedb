"""A face is named where several of its frames agree, and never aloud by one wrong frame."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_mtl_ros.vision.smoothing import NameAgreement

ANNA, BEN, CLEO = 0, 1, 2


def sure(label, probability=0.9):
    """float32 (3,): so much of one label, the rest spread over the others."""
    probabilities = np.full(3, (1 - probability) / 2, np.float32)
    probabilities[label] = probability
    return probabilities


def watch(naming, frames, face_id="f-1", task="identity", start=0.0):
    """What holds after each frame, which is a label, or None for a stranger."""
    return [
        naming.update(face_id, task, sure(frame or 0), frame is not None, start + i / 30)
        for i, frame in enumerate(frames)
    ]


def test_a_name_comes_with_the_third_agreeing_frame_and_outlives_a_wrong_one():
    frames = [ANNA, ANNA, ANNA, BEN, ANNA, None, ANNA]
    assert watch(NameAgreement(frames=3), frames) == [None, None, ANNA, ANNA, ANNA, ANNA, ANNA]


def test_a_face_that_turns_into_somebody_else_loses_its_name_and_gets_the_other_later():
    assert watch(NameAgreement(frames=3), [ANNA] * 5 + [BEN] * 3) == [None, None, ANNA, ANNA, ANNA, ANNA, ANNA, BEN]
    assert watch(NameAgreement(frames=3), [ANNA] * 3 + [None] * 3)[-1] is None


def test_a_quarrel_names_nobody():
    assert watch(NameAgreement(frames=3), [ANNA, BEN, CLEO] * 10) == [None] * 30


@pytest.mark.parametrize(
    ("probabilities", "speaks"),
    [
        ([0.5, 0.25, 0.25], True),
        ([0.49, 0.26, 0.25], False),  # not sure enough
        ([0.55, 0.4, 0.05], False),  # the runner-up is too near
        ([np.nan, 0.9, 0.1], False),
        ([0.9, 0.1, np.nan], False),
    ],
)
def test_a_frame_needs_confidence_and_a_margin(probabilities, speaks):
    naming = NameAgreement(frames=1)
    label = naming.update("f", "identity", np.array(probabilities, np.float32), True, 0.0)
    assert label == (ANNA if speaks else None)


def test_whom_the_column_does_not_know_has_no_name_however_probable():
    naming = NameAgreement(frames=1)
    assert naming.update("f", "identity", sure(ANNA, 1.0), False, 0.0) is None


def test_a_frame_that_comes_again_does_not_agree_with_itself():
    naming = NameAgreement(frames=3)
    assert [naming.update("f", "identity", sure(BEN), True, 4.0) for _ in range(9)] == [None] * 9


def test_limits_may_change_at_any_time():
    naming = NameAgreement(frames=3)
    watch(naming, [ANNA] * 5)
    naming.frames = 5
    assert watch(naming, [ANNA], start=1.0) == [ANNA]
    naming.frames, naming.confidence = 1, 0.95
    assert watch(naming, [ANNA], start=2.0) == [None]
    naming.confidence, naming.margin = 0.0, 0.9
    assert watch(naming, [ANNA], start=3.0) == [None]


def test_faces_and_tasks_are_apart_and_are_forgotten_apart():
    naming = NameAgreement(frames=3)
    watch(naming, [ANNA] * 3, "f-1", "identity")
    watch(naming, [ANNA] * 3, "f-1", "badge")
    watch(naming, [ANNA] * 3, "f-2", "identity")
    naming.forget(["f-1"])
    naming.forget_tasks(["identity"])
    assert watch(naming, [None], "f-1", "identity", start=1.0) == [ANNA]
    assert watch(naming, [ANNA], "f-1", "badge", start=1.0) == [None]
    assert watch(naming, [ANNA], "f-2", "identity", start=1.0) == [None]


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"confidence": 1.1}, {"margin": -0.1}, {"margin": float("nan")}])
def test_limits_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NameAgreement(**wrong)


frames_of_a_track = st.lists(st.sampled_from([ANNA, BEN, CLEO, None]), max_size=40)


@given(frames_of_a_track, st.integers(1, 6))
def test_a_name_always_has_as_many_of_the_latest_frames_behind_it_as_asked_for(frames, needed):
    said = watch(NameAgreement(frames=needed), frames)
    for i, label in enumerate(said):
        latest = frames[max(0, i + 1 - (2 * needed - 1)) : i + 1]
        agreed = [name for name in (ANNA, BEN, CLEO) if latest.count(name) >= needed]
        assert ([] if label is None else [label]) == agreed


@given(st.integers(3, 20), st.data(), st.integers(2, 5), st.sampled_from([BEN, CLEO, None]))
def test_one_wrong_frame_anywhere_never_says_another_name_nor_takes_the_name_away(length, data, needed, wrong):
    frames: list[int | None] = [ANNA] * length
    place = data.draw(st.integers(0, length - 1))
    frames[place] = wrong
    said = watch(NameAgreement(frames=needed), frames)
    assert set(said) <= {ANNA, None}
    once_named = said[said.index(ANNA) :] if ANNA in said else []
    assert set(once_named) <= {ANNA}


@given(frames_of_a_track, frames_of_a_track)
def test_two_faces_in_turn_are_named_as_each_alone(one, other):
    together, alone = NameAgreement(frames=3), NameAgreement(frames=3)
    said: dict[str, list[int | None]] = {"one": [], "other": []}
    for i in range(max(len(one), len(other))):
        for face_id, frames in (("one", one), ("other", other)):
            said[face_id] += watch(together, frames[i : i + 1], face_id, start=i / 30)
    assert said == {"one": watch(alone, one, "one"), "other": watch(alone, other, "other")}
