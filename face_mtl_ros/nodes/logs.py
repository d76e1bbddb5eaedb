"""What the package's other parts log, as the node's own lines: `engine auto` says why, compiling says how far it is."""

import contextlib
import logging
from collections.abc import Iterator

from rclpy.node import Node


class NodeLog(logging.Handler):
    """Passes records on to a node's logger, and so to the console, to /rosout and to `--log-level`."""

    def __init__(self, node: Node):
        super().__init__()
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._pass_on(record, self.format(record))
        except Exception:  # a line that cannot be logged must not stop what it tells of
            self.handleError(record)

    def _pass_on(self, record: logging.LogRecord, text: str) -> None:
        # rclpy remembers the level of every line that logs, and wants it to stay the same.
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)


@contextlib.contextmanager
def log_through(node: Node) -> Iterator[None]:
    """Have the package's own loggers end in the node's, from the level on that it has now."""
    package, handler = logging.getLogger(__package__.partition(".")[0]), NodeLog(node)
    package.addHandler(handler)
    package.setLevel(int(node.get_logger().get_effective_level()))
    try:
        yield
    finally:
        package.removeHandler(handler)
