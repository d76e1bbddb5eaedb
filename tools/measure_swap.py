#!/usr/bin/env python3
"""Measure how long /face_attributes falls silent while another model is loaded and swapped in by set_model.

    source tools/env.sh && python tools/measure_swap.py [--swaps 5] [--engine openvino] [--faces 1]

A perception node reads a stream of 30 frames a second. Each swap is to a model that was never compiled before, of
random weights, with a column more than the one in use and the others the same. Prints one line of JSON a swap, and the
largest gap between two messages of all: while the models were loaded, and for comparison while none was.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from face_mtl_ros.nodes.conversions import array_to_image
from face_mtl_ros.nodes.interfaces import FaceAttributesArray, SetModel
from face_mtl_ros.nodes.processes import node_process
from face_mtl_ros.runtime.random_bundle import write_random_bundle
from face_mtl_ros.vision.portraits import PlacedFace, compose

RATE = 30.0  # frames a second
SETTLE_S, QUIET_S, AFTER_S = 3.0, 5.0, 2.0
TIMEOUT_S = 300.0


class Stream(Node):
    """A camera, and a client that notes when each message came and from which version."""

    def __init__(self, faces: int) -> None:
        super().__init__("measure_swap")
        places = [PlacedFace("astronaut", (640 * (i + 0.5) / faces, 240), min(150, 500 / faces)) for i in range(faces)]
        self._image = array_to_image(compose((640, 480), places), Header(frame_id="camera"))
        self.messages: list[tuple[float, str]] = []
        self._publisher = self.create_publisher(Image, "image_raw", qos_profile_sensor_data)
        self.create_subscription(FaceAttributesArray, "face_attributes", self._note, 10)
        self.set_model = self.create_client(SetModel, "perception/set_model")
        self.create_timer(1 / RATE, self._publish)

    def _publish(self) -> None:
        self._image.header.stamp = self.get_clock().now().to_msg()
        self._publisher.publish(self._image)

    def _note(self, message: FaceAttributesArray) -> None:
        self.messages.append((time.monotonic(), message.model_version))

    def spin_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rclpy.spin_once(self, timeout_sec=0.05)

    def settle(self) -> None:
        """Wait for the first message, and until the node runs evenly."""
        deadline = time.monotonic() + TIMEOUT_S
        while not self.messages:
            if time.monotonic() > deadline:
                raise SystemExit("the perception node sent no message; see its log above")
            self.spin_for(0.1)
        self.spin_for(SETTLE_S)

    def gaps(self, since: float) -> np.ndarray:
        """Milliseconds between messages, from the last one before a moment on."""
        times = np.array([moment for moment, _ in self.messages])
        return np.diff(times[max(0, np.searchsorted(times, since) - 1) :]) * 1e3


def swap(stream: Stream, model: Path) -> dict:
    """One swap and what it did to the stream."""
    begun = time.monotonic()
    before = stream.messages[-1][1]
    future = stream.set_model.call_async(SetModel.Request(model=str(model)))
    rclpy.spin_until_future_complete(stream, future, timeout_sec=TIMEOUT_S)
    answered = time.monotonic()
    answer = future.result()
    if answer is None or not answer.success:
        raise SystemExit(f"measure_swap: set_model failed: {answer.message if answer else 'no answer'}")
    stream.spin_for(AFTER_S)
    versions = [version for moment, version in stream.messages if moment >= begun]
    gaps = stream.gaps(begun)
    return {
        "load_s": round(answered - begun, 2),
        "messages_of_the_old": versions.count(before),
        "messages_of_the_new": versions.count(answer.model_version),
        "largest_gap_ms": round(float(gaps.max()), 1),
        "p99_gap_ms": round(float(np.percentile(gaps, 99)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=5)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--faces", type=int, default=1)
    args = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", "78")
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FACE_MTL_HOME"] = str(Path(folder) / "home")  # so that no compiled model is at hand
        columns: dict[str, tuple[list[str], list[str]]] = {"emotion": (["neutral", "happiness"], [])}
        models = []
        for i in range(args.swaps + 1):
            columns[f"task_{i}"] = (["yes", "no"], ["emotion"])
            models.append(write_random_bundle(Path(folder) / str(i), "compact", columns).root)
        rclpy.init()
        stream = Stream(args.faces)
        with node_process("perception_node", {"model": models[0], "detector": "haar", "engine": args.engine}):
            stream.settle()
            since = time.monotonic()
            stream.spin_for(QUIET_S)
            quiet = stream.gaps(since)
            rows = []
            for model in models[1:]:
                rows.append(swap(stream, model))
                print(json.dumps(rows[-1]), flush=True)
            total = {
                "cores": os.cpu_count(),
                "load_average": round(os.getloadavg()[0], 1),
                "largest_gap_ms": max(row["largest_gap_ms"] for row in rows),
                "without_a_swap_ms": round(float(quiet.max()), 1),
            }
            print(json.dumps(total))
        stream.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
