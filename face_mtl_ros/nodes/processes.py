"""Starts this package's nodes as processes, for the demo and the benchmark; on a robot, ros2 launch does."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator

STOP_SECONDS = 10


@contextlib.contextmanager
def node_process(
    module: str, parameters: dict[str, object] | None = None, *arguments: str
) -> Iterator[subprocess.Popen]:
    """Run a node module of this package while the block lasts; its stdout goes to stderr.

    Args:
        module: such as "perception_node".
        parameters: ROS parameters by name.
        arguments: further ones behind --ros-args, such as "-r", "image_raw:=/camera/image_raw".
    """
    command = [sys.executable, "-m", f"face_mtl_ros.nodes.{module}", "--ros-args"]
    for name, value in (parameters or {}).items():
        shown = str(value).lower() if isinstance(value, bool) else value
        command += ["-p", f"{name}:={shown}"]
    process = subprocess.Popen([*command, *arguments], stdout=sys.stderr)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
