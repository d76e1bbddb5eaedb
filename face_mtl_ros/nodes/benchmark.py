"""The perception node measured from outside, over DDS: messages a second, latency, its own stages, memory.

python -m face_mtl_ros.nodes.benchmark prints one line of JSON a combination of picture size and number of faces.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from ..vision.portraits import compose
from .conversions import array_to_image, stamp_seconds
from .interfaces import FaceAttributesArray
from .processes import node_process

FACES = (1, 4, 8, 16)
RATE = 30.0  # frames a second
WARM_UP_S, MEASURE_S = 5.0, 15.0
START_TIMEOUT_S = 120.0
STAGE = "median ms "  # what the node's diagnostics have before a stage's name


class Bench(Node):
    """Publishes a moving picture as a camera does and notes when messages come and what the node says of itself."""

    def __init__(self, size: tuple[int, int], faces: int):
        super().__init__("bench")
        self._messages = [array_to_image(frame, Header(frame_id="bench")) for frame in _frames(size, faces)]
        self._index = 0
        self.latencies: list[tuple[float, float, int]] = []  # time of receipt, seconds since the stamp, faces
        self.stages: list[dict[str, float]] = []  # the node's medians over some seconds, milliseconds by stage
        self._publisher = self.create_publisher(Image, "image_raw", qos_profile_sensor_data)
        self.create_subscription(FaceAttributesArray, "face_attributes", self._on_faces, 10)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.create_timer(1.0 / RATE, self._publish)

    def _publish(self) -> None:
        message = self._messages[self._index % len(self._messages)]
        self._index += 1
        message.header.stamp = self.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _on_faces(self, message: FaceAttributesArray) -> None:
        now = self.get_clock().now().nanoseconds * 1e-9
        self.latencies.append((time.monotonic(), now - stamp_seconds(message.header), len(message.faces)))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            stages = {v.key[len(STAGE) :]: float(v.value) for v in status.values if v.key.startswith(STAGE)}
            if stages and status.name == "perception: faces":
                self.stages.append(stages)

    def stage_ms(self) -> dict[str, float]:
        """Median milliseconds by stage; empty where the node said nothing."""
        names = dict.fromkeys(name for stages in self.stages for name in stages)
        return {name: round(float(np.median([s[name] for s in self.stages if name in s])), 1) for name in names}


def _frames(size: tuple[int, int], faces: int) -> list[np.ndarray]:
    """Two seconds of faces that sway a little."""
    width, height = size
    rows, part = {1: (1, 0.4), 4: (2, 0.25), 8: (2, 0.25), 16: (4, 0.15)}[faces]
    face_height = height * part
    columns = -(-faces // rows)
    frames = []
    for step in range(60):
        sway = 8 * np.sin(2 * np.pi * step / 60)
        places = [
            (
                "astronaut" if i % 2 else "grace_hopper",
                (width * (i % columns + 0.5) / columns + sway, height * (i // columns + 0.5) / rows),
                face_height,
            )
            for i in range(faces)
        ]
        frames.append(compose(size, places))
    return frames


def measure(size: tuple[int, int], faces: int, detector: str, device: str = "auto") -> dict:
    """One combination: start the node, let it settle, measure, stop it."""
    with node_process("perception_node", {"detector": detector, "device": device}) as process:
        node = Bench(size, faces)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not node.latencies:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise SystemExit("benchmark: the perception node sent no message; see its log above")
                rclpy.spin_once(node, timeout_sec=0.5)
            _spin(node, WARM_UP_S)
            node.latencies.clear()
            node.stages.clear()
            start = time.monotonic()
            _spin(node, MEASURE_S)
            elapsed = time.monotonic() - start
            memory = _resident_mb(process.pid)
            milliseconds = np.array([latency for _, latency, _ in node.latencies]) * 1e3
            return {
                "width": size[0],
                "height": size[1],
                "faces": faces,
                "faces_found": float(np.mean([found for _, _, found in node.latencies])),
                "detector": detector,
                "messages_per_s": round(len(milliseconds) / elapsed, 1),
                "median_ms": {"stamp_to_receipt": round(float(np.median(milliseconds)), 1), **node.stage_ms()},
                "p99_ms": round(float(np.percentile(milliseconds, 99)), 1),
                "memory_mb": memory,
            }
        finally:
            node.destroy_node()


def _spin(node: Node, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)


def _resident_mb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", nargs="*", default=["haar"])
    parser.add_argument("--device", default="auto", help="of the node's engine")
    args = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", "77")
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init()
    for size in ((640, 480), (1280, 720)):
        for faces in FACES:
            for detector in args.detector:
                print(json.dumps(measure(size, faces, detector, args.device)), flush=True)
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
