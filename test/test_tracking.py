"""Ids stay with their faces."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from face_mtl_ros.vision.detection import Detection
from face_mtl_ros.vision.tracking import Tracker

FIVE_POINTS = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)], np.float32)


def detection(x, y, size, confidence=0.9):
    """A face around x, y, with its landmarks."""
    box = np.array([x - size / 2, y - size / 2, size, size], np.float32)
    return Detection(box, confidence, FIVE_POINTS * box[2:] + box[:2])


def noisy(rng, x, y, size, jitter=0.04):
    """The same face as a cascade sees it: place and size off by some percent of its size."""
    dx, dy, ds = rng.normal(0, jitter, 3) * size
    return detection(x + dx, y + dy, size + ds)


def center(track):
    box = track.detection.box
    return box[:2] + box[2:] / 2


class Referee:
    """Notes which id each person's detections got, and how often that changed."""

    def __init__(self):
        self.ids = {}
        self.switches = 0

    def look(self, tracks, found):
        """The tracks of a frame, and the detections of it by the person's name."""
        names = {id(detection): name for name, detection in found.items()}
        for track in tracks:
            if not track.predicted:
                name = names[id(track.detection)]
                self.switches += self.ids.setdefault(name, track.face_id) != track.face_id
                self.ids[name] = track.face_id


def three_crossing(t):
    """Three people who walk through the picture and pass each other, two at other depths, in ten seconds."""
    return {
        "left to right": (100 + 44 * t, 200 + 10 * np.sin(2 * t), 90.0),
        "right to left": (540 - 44 * t, 270 - 8 * np.sin(3 * t), 130 + 10 * np.sin(t)),
        "up and down": (320 + 60 * np.sin(1.3 * t), 240 + 140 * np.cos(0.9 * t), 65.0),
    }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("missed", [0.0, 0.2])
def test_three_faces_crossing_for_ten_seconds_at_30_hz_keep_their_ids(seed, missed):
    rng = np.random.default_rng(seed)
    tracker, referee, ids = Tracker(), Referee(), set()
    for frame in range(300):
        t = frame / 30
        truth = three_crossing(t)
        found = {name: noisy(rng, *face) for name, face in truth.items() if rng.random() >= missed}
        tracks = tracker.update(list(found.values()), t)
        ids |= {track.face_id for track in tracks}
        referee.look(tracks, found)
    assert set(referee.ids) == set(truth)
    assert referee.switches == 0
    assert len(ids) == 3


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate", [10, 30])
def test_two_faces_that_cross_keep_their_ids_though_one_hides_the_other(seed, rate):
    rng = np.random.default_rng(seed)
    tracker, referee, hidden = Tracker(), Referee(), 0
    for frame in range(4 * rate):
        t = frame / rate
        truth = {"front": (120 + 100 * t, 240, 110.0), "behind": (520 - 100 * t, 230, 90.0)}
        found = {"front": noisy(rng, *truth["front"])}
        if abs(truth["front"][0] - truth["behind"][0]) > 60:
            found["behind"] = noisy(rng, *truth["behind"])
        else:
            hidden += 1
        referee.look(tracker.update(list(found.values()), t), found)
    assert hidden >= 5 * rate / 10
    assert referee.switches == 0
    assert len(set(referee.ids.values())) == 2


@pytest.mark.parametrize("seed", range(5))
def test_an_unsteady_frame_rate_keeps_the_ids(seed):
    rng = np.random.default_rng(seed)
    tracker, referee, t = Tracker(), Referee(), 0.0
    while t < 10:
        found = {name: noisy(rng, *face) for name, face in three_crossing(t).items()}
        referee.look(tracker.update(list(found.values()), t), found)
        t += rng.uniform(0.01, 0.2)
    assert referee.switches == 0
    assert len(set(referee.ids.values())) == 3


def test_a_missed_face_coasts_on_its_way_for_two_frames_and_keeps_its_id():
    tracker = Tracker()
    for frame in range(30):
        first = tracker.update([detection(100 + 6 * frame, 200, 80)], frame / 30)
    for frame in (30, 31):
        (track,) = tracker.update([], frame / 30)
        assert track.predicted
        assert track.face_id == first[0].face_id
        assert center(track) == pytest.approx((100 + 6 * frame, 200), abs=2)
        relative = (track.detection.points - track.detection.box[:2]) / track.detection.box[2:]
        assert relative == pytest.approx(FIVE_POINTS, abs=0.01)
        assert track.last_seen == pytest.approx(29 / 30)
    assert tracker.update([], 32 / 30) == []
    assert [t.face_id for t in tracker.tracks] == [first[0].face_id]
    (back,) = tracker.update([detection(100 + 6 * 45, 200, 80)], 1.5)
    assert not back.predicted
    assert (back.face_id, back.hits) == (first[0].face_id, 31)
    assert (back.first_seen, back.last_seen, back.age) == (0.0, 1.5, 1.5)


def test_faces_that_nobody_looked_for_are_where_they_should_be_with_their_ids():
    tracker = Tracker()
    for i in range(20):  # 60 pixels a second to the right; looked for in every fourth frame
        t, found = i / 30, detection(100 + 2 * i, 200, 80)
        tracks = tracker.update([found], t) if i % 4 == 0 else tracker.coast(t)
        assert len(tracks) == 1 and tracks[0].predicted == bool(i % 4)
        if i > 8:
            np.testing.assert_allclose(center(tracks[0]), [100 + 2 * i, 200], atol=4)
    assert len({track.face_id for track in tracker.tracks}) == 1 and tracks[0].hits == 5
    tracker.update([], 21 / 30)
    assert not tracker.coast(22 / 30)  # the last look at it was in vain
    assert not tracker.coast(2.0) and not tracker.tracks


def test_a_reported_face_has_the_detectors_box_and_points_of_this_frame():
    tracker = Tracker()
    tracker.update([detection(100, 100, 50)], 0.0)
    seen = detection(104, 101, 53, confidence=0.4)
    assert tracker.update([seen], 0.1)[0].detection is seen


def test_what_was_detected_once_does_not_coast():
    tracker = Tracker()
    assert len(tracker.update([detection(100, 100, 50)], 0.0)) == 1
    assert tracker.update([], 0.03) == []


def test_a_reported_track_does_not_change_afterwards():
    tracker = Tracker()
    (track,) = tracker.update([detection(100, 100, 50)], 0.0)
    tracker.update([detection(110, 100, 50)], 0.1)
    assert (track.hits, track.last_seen) == (1, 0.0)
    assert center(track) == pytest.approx((100, 100))


def test_an_id_is_not_used_again_when_its_face_was_long_gone():
    tracker, ids = Tracker(max_age_s=0.5), []
    for visit in range(20):
        ids.append(tracker.update([detection(100, 100, 50)], visit * 1.0)[0].face_id)
    assert len(set(ids)) == 20


def test_ids_differ_between_trackers_as_between_restarts():
    ids = {Tracker().update([detection(100, 100, 50)], 0.0)[0].face_id for _ in range(50)}
    assert len(ids) == 50


def test_another_face_elsewhere_or_of_another_size_is_someone_else():
    for other in (detection(400, 100, 50), detection(100, 100, 150)):
        tracker = Tracker()
        (before,) = tracker.update([detection(100, 100, 50)], 0.0)
        after = tracker.update([other], 0.9)
        assert before.face_id not in {track.face_id for track in after}


def test_a_recording_that_begins_again_gets_new_ids():
    tracker = Tracker()
    (before,) = tracker.update([detection(100, 100, 50)], 100.0)
    (after,) = tracker.update([detection(100, 100, 50)], 3.0)
    assert after.face_id != before.face_id
    assert (after.first_seen, after.age) == (3.0, 0.0)


def test_equal_and_slightly_older_stamps_keep_the_id():
    tracker = Tracker()
    ids = {tracker.update([detection(100, 100, 50)], t)[0].face_id for t in (5.0, 5.0, 5.033, 4.99, 5.033, 5.066)}
    assert len(ids) == 1
    assert tracker.tracks[0].last_seen == 5.066


def test_two_hits_hold_back_false_alarms_at_the_price_of_one_frame():
    """What min_hits trades, where 3 % of the frames have a false alarm somewhere."""
    ghosts = {}
    for min_hits in (1, 2):
        rng, tracker, reported, first = np.random.default_rng(0), Tracker(min_hits=min_hits), set(), None
        for frame in range(1000):
            found = [noisy(rng, 320, 240, 100)]
            if rng.random() < 0.03:
                found.append(detection(*rng.uniform((0, 0), (640, 480)), rng.uniform(30, 60)))
            tracks = tracker.update(found, frame / 30)
            if tracks and first is None:
                first = frame
            reported |= {track.face_id for track in tracks}
        assert first == min_hits - 1
        ghosts[min_hits] = len(reported) - 1
    assert ghosts[1] > 20
    assert ghosts[2] <= 2


@pytest.mark.parametrize("wrong", [{"max_age_s": 0}, {"max_age_s": float("nan")}, {"min_hits": 0}, {"max_coast": -1}])
def test_parameters_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Tracker(**wrong)


faces = st.builds(
    detection,
    x=st.floats(-50, 700, width=32),
    y=st.floats(-50, 500, width=32),
    size=st.floats(0, 300, width=32),
    confidence=st.floats(0, 1),
)
frames = st.lists(st.lists(faces, max_size=6, unique_by=lambda d: tuple(d.box.tolist())), min_size=1, max_size=8)
gaps = st.lists(st.floats(-0.1, 0.5), min_size=8, max_size=8)


@settings(deadline=None, max_examples=30)
@given(frames, gaps)
def test_any_stream_gives_each_detection_one_id_and_never_more_than_what_was_seen_lately(stream, steps):
    tracker, stamp, alive = Tracker(), 10.0, 0
    for found, step in zip(stream, steps, strict=False):
        stamp += step
        tracks = tracker.update(found, stamp)
        ids = [track.face_id for track in tracks]
        assert len(set(ids)) == len(ids)
        assert {id(t.detection) for t in tracks if not t.predicted} == {id(d) for d in found}
        assert len(found) <= len(tracks) <= len(found) + alive
        assert all(np.isfinite(t.detection.box).all() and (t.detection.box[2:] >= 0).all() for t in tracks)
        assert {*ids} <= {track.face_id for track in tracker.tracks}
        alive = len(tracker.tracks)


@settings(deadline=None, max_examples=30)
@given(frames, gaps, st.randoms(use_true_random=False))
def test_the_order_of_the_detections_does_not_matter(stream, steps, random):
    one, other, stamp = Tracker(), Tracker(), 10.0
    for found, step in zip(stream, steps, strict=False):
        stamp += step
        shuffled = random.sample(found, len(found))
        names = [
            {tuple(t.detection.box.tolist()): t.face_id.split("-")[1] for t in tracker.update(order, stamp)}
            for tracker, order in ((one, found), (other, shuffled))
        ]
        assert names[0] == names[1]
