"""How a node's process runs: until it is told to stop, then in good order."""

from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node


def run(make_node: Callable[[], Node], args: list[str] | None = None) -> None:
    """Make a node, start it where it has an `autostart`, and spin it until SIGINT, SIGTERM or rclpy.shutdown."""
    rclpy.init(args=args)
    node = make_node()
    try:
        if hasattr(node, "autostart"):
            node.autostart()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # the ordinary ways to end
    finally:
        if hasattr(node, "close"):
            node.close()
        node.destroy_node()
        rclpy.try_shutdown()
