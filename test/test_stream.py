"""The newest frame wins, and what happened is counted."""

import threading

from face_mtl_ros.stream import FrameWorker, NewestFrame, StreamClock, StreamStatistics


def test_a_slow_reader_gets_the_newest_frame_and_the_others_count_as_dropped():
    entered, release, seen = threading.Event(), threading.Event(), []

    def handle(frame):
        seen.append(frame)
        entered.set()
        release.wait()

    worker = FrameWorker(handle)
    worker.mailbox.put(1)
    assert entered.wait(10)
    dropped = [worker.mailbox.put(frame) for frame in (2, 3, 4)]
    release.set()
    while len(seen) < 2:
        threading.Event().wait(0.001)
    worker.close()
    assert seen == [1, 4]
    assert dropped == [False, True, True]


def test_close_wakes_a_waiting_reader():
    mailbox, result = NewestFrame(), []
    reader = threading.Thread(target=lambda: result.append(mailbox.get()))
    reader.start()
    mailbox.close()
    reader.join(10)
    assert result == [None]


def test_frames_have_their_stamps_time():
    clock = StreamClock()
    stamps = [7.0, 7.5, 7.5, 7.5, 7.6, 3.0]  # repeated at times, and begun anew
    assert [clock.read(stamp, 100.0 + i) for i, stamp in enumerate(stamps)] == [
        (stamp, i == 0) for i, stamp in enumerate(stamps)
    ]


def test_frames_without_a_stamp_have_the_time_of_their_arrival_for_good():
    clock = StreamClock()
    read = [clock.read(stamp, 100.0 + i) for i, stamp in enumerate([7.0, 0.0, 0.0, 8.0])]
    assert read == [(7.0, True), (101.0, True), (102.0, False), (103.0, False)]
    assert StreamClock().read(0.0, 100.0) == (100.0, True)


def test_stamps_that_stand_still_turn_the_stream_to_arrival_times():
    clock = StreamClock()
    read = [clock.read(7.0, 100.0 + i) for i in range(7)]
    assert read == [(7.0, True), *[(7.0, False)] * 4, (105.0, True), (106.0, False)]


def test_statistics_look_back_over_the_window_only():
    statistics = StreamStatistics(window_s=2.0)
    for i in range(100):
        statistics.arrived(i / 10)
        statistics.processed(i / 10, faces=1, stage_ms={"detect": 5.0 if i < 90 else 9.0})
    now = 99 / 10
    assert 9 < statistics.rate(now) <= 11
    assert statistics.median_ms(now)["detect"] in (5.0, 7.0, 9.0)
    assert statistics.median_ms(now + 1.5)["detect"] == 9.0
    assert statistics.rate(now + 5) == 0 and statistics.median_ms(now + 5) == {}
    assert statistics.frames == 100


def test_silence_counts_from_the_last_arrival_good_or_bad():
    statistics = StreamStatistics()
    assert statistics.silence(5.0) is None
    statistics.arrived(6.0)
    statistics.refused("bad")
    assert statistics.silence(8.5) == 2.5
    assert (statistics.bad_frames, statistics.last_bad) == (1, "bad")
    statistics.begin()
    assert statistics.silence(9.0) is None and statistics.bad_frames == 1


def test_unread_counts_from_the_first_frame_that_came_after_one_that_was_read():
    statistics = StreamStatistics()
    assert statistics.unread(1.0) == (0.0, "")
    statistics.arrived(2.0)
    statistics.refused("bad")
    statistics.arrived(3.0)
    statistics.failed("defect")
    assert statistics.unread(4.0) == (2.0, "defect")
    assert (statistics.bad_frames, statistics.failed_frames, statistics.last_failed) == (1, 1, "defect")
    statistics.arrived(5.0)
    statistics.processed(5.1, faces=0, stage_ms={})
    assert statistics.unread(9.0) == (0.0, "")
