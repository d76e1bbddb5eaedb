"""The perception node's state as a message on /diagnostics."""

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

STALE_FACTOR = 5  # a silence so many times as long as the one that warns


def status(
    name: str,
    problem: str,
    state: str,
    silence: float | None,
    warn_after: float,
    topic: str,
    values: dict[str, object],
) -> DiagnosticStatus:
    """One status.

    Args:
        name: the node's full name.
        problem: why the node is not configured; empty if it is.
        state: the lifecycle state's label; "disabled" where the node is active and was told to pause.
        silence: seconds since the last image; None if there was none yet.
        warn_after: the silence that is worth a warning, in seconds; STALE_FACTOR times that is stale.
        topic: where images are awaited.
        values: what to list.
    """
    level, message = DiagnosticStatus.OK, state
    if problem:
        level, message = DiagnosticStatus.ERROR, problem
    elif state == "active":
        level, message = _liveness(silence, warn_after, topic)
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


def _liveness(silence: float | None, warn_after: float, topic: str) -> tuple[bytes, str]:
    if silence is None:
        return DiagnosticStatus.WARN, f"no image came on {topic} yet"
    if silence > warn_after * STALE_FACTOR:
        return DiagnosticStatus.STALE, f"no image on {topic} for {silence:.0f} s: the camera stopped"
    if silence > warn_after:
        return DiagnosticStatus.WARN, f"no image on {topic} for {silence:.1f} s"
    return DiagnosticStatus.OK, "reading faces"
