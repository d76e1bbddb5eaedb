"""A stream of frames without ROS: the newest one wins, and what happened is counted."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class NewestFrame:
    """A mailbox for one frame. What was not fetched when the next one comes is dropped, so no queue can grow."""

    def __init__(self) -> None:
        self._ready = threading.Condition()
        self._frame: Any = None
        self._closed = False

    def put(self, frame: Any) -> bool:
        """Leave a frame. True if the one before is dropped, for nobody fetched it."""
        with self._ready:
            dropped = self._frame is not None
            self._frame = frame
            self._ready.notify()
        return dropped

    def get(self) -> Any:
        """Wait for a frame and fetch it; None when the mailbox was closed."""
        with self._ready:
            self._ready.wait_for(lambda: self._closed or self._frame is not None)
            frame, self._frame = self._frame, None
            return None if self._closed else frame

    def close(self) -> None:
        with self._ready:
            self._closed = True
            self._ready.notify_all()


class FrameWorker:
    """A thread that hands each newest frame to a function until it is closed."""

    def __init__(self, handle: Callable[[Any], None]):
        self.mailbox = NewestFrame()
        self._handle = handle
        self._thread = threading.Thread(target=self._run, name="frames", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let the frame in work be finished and end the thread."""
        self.mailbox.close()
        self._thread.join()

    def _run(self) -> None:
        while (frame := self.mailbox.get()) is not None:
            self._handle(frame)


class StreamClock:
    """The time of a stream's frames: that of their stamps, or of their arrival where the stamps are of no use.

    Faces age by this time, so stamps that stay at 0 or stand still would keep every lost face for ever. The first frame
    that shows such stamps turns the stream to arrival times for good, for the two clocks must never mix.
    """

    STILL_FRAMES = 5  # so many equal stamps in a row stand still; a few may be one frame that was sent again

    def __init__(self) -> None:
        self._by_arrival = False
        self._last_stamp: float | None = None
        self._equal = 0

    def read(self, stamp: float, arrival: float) -> tuple[float, bool]:
        """The next frame's time in seconds.

        Returns:
            The time, and whether it is the first of its clock: times before it are not comparable.
        """
        if self._by_arrival:
            return arrival, False
        self._equal = self._equal + 1 if stamp == self._last_stamp else 0
        first, self._last_stamp = self._last_stamp is None, stamp
        if stamp == 0 or self._equal >= self.STILL_FRAMES:
            self._by_arrival = True
            return arrival, True
        return stamp, first


@dataclass
class StreamStatistics:
    """Counts and latencies of a stream; times are seconds of one monotonic clock. Threads may read while one writes.

    Attributes:
        window_s: how far back rates and latencies look.
        frames, dropped_frames: totals since the start of those that were read, and of those that a newer one replaced.
        bad_frames, failed_frames: totals of those that are no usable image, and of those that a defect of ours lost.
        faces: how many the newest frame has.
        last_bad, last_failed: why the newest such frame was not read.
    """

    window_s: float = 5.0
    frames: int = 0
    dropped_frames: int = 0
    bad_frames: int = 0
    failed_frames: int = 0
    faces: int = 0
    last_bad: str = ""
    last_failed: str = ""
    _last_arrival: float | None = None
    _unread_since: float | None = None
    _unread_reason: str = ""
    _recent: deque = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """A stream begins: what was awaited of the one before is not awaited any more. Totals go on."""
        self._last_arrival = self._unread_since = None
        self._unread_reason = ""

    def arrived(self, now: float) -> None:
        """A frame came in, good or bad."""
        self._last_arrival = now
        if self._unread_since is None:
            self._unread_since = now

    def refused(self, reason: str) -> None:
        """A frame is no image that could be used."""
        self.bad_frames += 1
        self.last_bad = self._unread_reason = reason

    def failed(self, reason: str) -> None:
        """A frame was lost by a defect of ours."""
        self.failed_frames += 1
        self.last_failed = self._unread_reason = reason

    def processed(self, now: float, faces: int, stage_ms: dict[str, float]) -> None:
        """A frame was read, with milliseconds by stage."""
        self.frames += 1
        self.faces = faces
        self._unread_since, self._unread_reason = None, ""
        with self._lock:
            self._recent.append((now, stage_ms))
        self._within(now)

    def rate(self, now: float) -> float:
        """Frames a second over the window."""
        return len(self._within(now)) / self.window_s

    def median_ms(self, now: float) -> dict[str, float]:
        """Median milliseconds of each stage over the window."""
        recent = self._within(now)
        stages = dict.fromkeys(stage for by_stage in recent for stage in by_stage)
        return {stage: float(np.median([ms[stage] for ms in recent if stage in ms])) for stage in stages}

    def silence(self, now: float) -> float | None:
        """Seconds since a frame came in; None if none ever did."""
        return None if self._last_arrival is None else now - self._last_arrival

    def unread(self, now: float) -> tuple[float, str]:
        """For how many seconds frames came in and none was read, and why the newest was not; 0.0 if all is well."""
        since = self._unread_since  # once, for the worker's thread may clear it meanwhile
        return (0.0 if since is None else now - since), self._unread_reason

    def _within(self, now: float) -> list[dict[str, float]]:
        """Forget what is older than the window; the milliseconds of the rest."""
        with self._lock:
            while self._recent and self._recent[0][0] < now - self.window_s:
                self._recent.popleft()
            return [stage_ms for _, stage_ms in self._recent]
