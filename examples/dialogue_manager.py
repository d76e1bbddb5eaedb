"""What a robot's dialogue manager does with /face_attributes: greet whom it sees, in a tone that fits."""

import contextlib

import rclpy
from rclpy.executors import ExternalShutdownException

from face_mtl_msgs.msg import FaceAttributesArray

greeted: set[str] = set()


def on_faces(message: FaceAttributesArray) -> None:
    for face in message.faces:
        seen = {attribute.task: attribute for attribute in face.attributes}
        if face.face_id not in greeted and "emotion" in seen:
            greeted.add(face.face_id)
            mood = seen["emotion"].label
            print("Hello! Can I cheer you up?" if mood in ("sadness", "fear") else f"Hello! ({mood})", flush=True)


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("dialogue_manager")
    node.create_subscription(FaceAttributesArray, "face_attributes", on_faces, 10)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):  # Ctrl-C or a kill
        rclpy.spin(node)


if __name__ == "__main__":
    main()
