"""make demo: camera and perception as two processes, and each message on /face_attributes as a line of JSON on stdout.

Exit status 1 when no face was ever published, or when the perception node cannot work or ends.
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

import cv2
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import ExternalShutdownException
from sensor_msgs.msg import Image

from face_mtl_ros.nodes.conversions import image_to_array
from face_mtl_ros.nodes.interfaces import FaceAttributesArray
from face_mtl_ros.nodes.processes import node_process

PICTURE = Path("build/demo/annotated.jpg")
START_TIMEOUT_S = 600  # a bound for a very slow machine: a node that ends ends the demo at once


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="", help="picture, folder, video or device; empty: the bundled stream")
    parser.add_argument("--model", default="default", help="model bundle: a folder or a name")
    parser.add_argument("--seconds", type=float, default=10, help="how long, from the first message on")
    args = parser.parse_args()
    # A domain of its own on this machine alone, unless the caller chose one, so that no robot nearby hears the demo.
    os.environ.setdefault("ROS_DOMAIN_ID", "76")
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    listener = Listener()
    problem = ""
    with (
        node_process("perception_node", {"model": _yaml_string(args.model)}) as perception,
        node_process("camera_node", {"source": _yaml_string(args.source or "demo")}) as camera,
    ):
        started = time.monotonic()
        while True:
            try:
                rclpy.spin_once(listener.node, timeout_sec=0.1)
            except (KeyboardInterrupt, ExternalShutdownException):  # Ctrl-C or a kill: what was seen until now counts
                break
            problem = listener.problem
            if perception.poll() is not None:
                problem = f"the perception node ended with exit status {perception.returncode}; the log above says why"
            if problem:
                break
            now = time.monotonic()
            if listener.first is None:
                if camera.poll() not in (None, 0) or now - started > START_TIMEOUT_S:
                    break
            elif now - listener.first > args.seconds:
                break
    listener.close()
    if listener.picture is not None:
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(PICTURE), listener.picture)
        print(f"annotated picture: {PICTURE}", file=sys.stderr)
    print(f"{listener.messages} messages, {listener.faces} faces in them", file=sys.stderr)
    if problem:
        print(f"demo: {problem}", file=sys.stderr)
        return 1
    if not listener.faces:
        print("demo: no face was published; the log above says why", file=sys.stderr)
        return 1
    return 0


class Listener:
    """Prints each message and keeps the annotated picture that shows most faces."""

    def __init__(self):
        rclpy.init()
        self.node = rclpy.create_node("demo_listener")
        self.first: float | None = None
        self.messages = self.faces = self._most = 0
        self.picture = None
        self.problem = ""  # why the perception node cannot work: one that fails to configure stays alive
        self._seen: dict[tuple[int, int], int] = {}
        self.node.create_subscription(FaceAttributesArray, "face_attributes", self._on_faces, 10)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.node.create_subscription(Image, "face_attributes/image", self._on_picture, 1)

    def close(self) -> None:
        self.node.destroy_node()
        rclpy.try_shutdown()

    def _on_faces(self, message: FaceAttributesArray) -> None:
        self.first = self.first or time.monotonic()
        self.messages += 1
        self.faces += len(message.faces)
        self._seen[message.header.stamp.sec, message.header.stamp.nanosec] = len(message.faces)
        print(json.dumps(as_json(message)), flush=True)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "perception: faces" and status.level == DiagnosticStatus.ERROR:
                self.problem = status.message

    def _on_picture(self, message: Image) -> None:
        faces = self._seen.get((message.header.stamp.sec, message.header.stamp.nanosec), 0)
        if faces >= self._most:
            self._most = faces
            self.picture = image_to_array(message, 1 << 30).copy()


def as_json(message: FaceAttributesArray) -> dict:
    """The message's fields under their own names; NaN becomes null, for JSON has none."""
    return {
        "stamp": message.header.stamp.sec + message.header.stamp.nanosec * 1e-9,
        "frame_id": message.header.frame_id,
        "image_width": message.image_width,
        "image_height": message.image_height,
        "model_version": message.model_version,
        "latency_ms": round(message.latency_ms, 2),
        "faces": [
            {
                "face_id": face.face_id,
                "roi": {name: getattr(face.roi, name) for name in ("x_offset", "y_offset", "width", "height")},
                "detection_confidence": round(face.detection_confidence, 4),
                "landmarks": [[round(point.x, 1), round(point.y, 1)] for point in face.landmarks],
                "attributes": [
                    {
                        "task": attribute.task,
                        "label": attribute.label,
                        "confidence": round(attribute.confidence, 4),
                        "labels": list(attribute.labels),
                        "probabilities": [round(p, 4) for p in attribute.probabilities],
                        "value": None if math.isnan(attribute.value) else round(attribute.value, 2),
                    }
                    for attribute in face.attributes
                ],
            }
            for face in message.faces
        ],
    }


def _yaml_string(text: str) -> str:
    """Quoted, for rcl reads a bare 0 as a number."""
    return json.dumps(text)


if __name__ == "__main__":
    sys.exit(main())
