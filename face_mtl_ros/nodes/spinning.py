"""How a node's process runs: until it is told to stop, then in good order."""

import signal
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from .answers import answer_patiently
from .logs import log_through
from .memory import keep_freed_memory


def run(make_node: Callable[[], Node], args: list[str] | None = None) -> None:
    """Make a node, start it where it has an `autostart`, and spin it until SIGINT, SIGTERM or rclpy.shutdown."""
    ending = False

    def interrupt(*_: object) -> None:
        # Ctrl-C reaches a launched node twice, from the terminal and from launch; the second must not cut off its end.
        nonlocal ending
        if not ending:
            ending = True
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)  # before rclpy.init, whose own handler then calls it
    keep_freed_memory()
    answer_patiently()
    node = None
    try:
        rclpy.init(args=args)
        node = make_node()
        with log_through(node):
            if hasattr(node, "autostart"):
                node.autostart()
            rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # the ordinary ways to end
    finally:
        ending = True
        if node is not None:
            if hasattr(node, "close"):
                node.close()
            node.destroy_node()
        rclpy.try_shutdown()
