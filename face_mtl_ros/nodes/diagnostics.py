"""The perception node's state as a message on /diagnostics."""

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from ..stream import StreamStatistics

STALE_FACTOR = 5  # a silence so many times as long as the one that warns


def status(
    name: str,
    problem: str,
    state: str,
    statistics: StreamStatistics,
    now: float,
    warn_after: float,
    topic: str,
    values: dict[str, object],
) -> DiagnosticStatus:
    """One status.

    Args:
        name: the node's full name.
        problem: why the node is not configured; empty if it is.
        state: the lifecycle state's label; "disabled" where the node is active and was told to pause.
        statistics: of the images.
        now: on the statistics' clock.
        warn_after: seconds without an image, or without one that could be read, that are worth a warning;
            STALE_FACTOR times that without an image is stale.
        topic: where images are awaited.
        values: what to list.
    """
    level, message = DiagnosticStatus.OK, state
    if problem:
        level, message = DiagnosticStatus.ERROR, problem
    elif state == "active":
        level, message = _liveness(statistics, now, warn_after, topic)
    return DiagnosticStatus(
        level=level,
        name=f"{name.lstrip('/')}: faces",
        message=message,
        hardware_id=topic,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )


def array(stamp, *statuses: DiagnosticStatus) -> DiagnosticArray:
    message = DiagnosticArray(status=list(statuses))
    message.header.stamp = stamp
    return message


def _liveness(statistics: StreamStatistics, now: float, warn_after: float, topic: str) -> tuple[bytes, str]:
    silence = statistics.silence(now)
    if silence is None:
        return DiagnosticStatus.WARN, f"no image came on {topic} yet"
    if silence > warn_after * STALE_FACTOR:
        return DiagnosticStatus.STALE, f"no image on {topic} for {silence:.0f} s: the camera stopped"
    if silence > warn_after:
        return DiagnosticStatus.WARN, f"no image on {topic} for {silence:.1f} s"
    unread, reason = statistics.unread(now)
    if unread > warn_after:
        reason = reason or "the first is still in work"
        return DiagnosticStatus.WARN, f"images come on {topic}, but none was read for {unread:.1f} s: {reason}"
    return DiagnosticStatus.OK, "reading faces"
