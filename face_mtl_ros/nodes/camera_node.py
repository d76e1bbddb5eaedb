"""The camera node: a picture, folder, video or device on image_raw."""

import sys

from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from ..vision.sources import SourceError, open_source
from .conversions import array_to_image
from .parameters import CameraSettings, NodeParameters, SettingsError
from .spinning import run


class CameraNode(Node):
    """Publishes frames at a steady rate; ends the process when a source that does not loop is at its end."""

    def __init__(self):
        super().__init__("camera")
        settings = NodeParameters(self, CameraSettings, read_only=True).read()
        self._source = open_source(settings.source, settings.width, settings.height, settings.rate, settings.loop)
        self._frame_id = settings.frame_id
        self._images = self.create_publisher(Image, "image_raw", qos_profile_sensor_data)
        self.create_timer(1.0 / self._source.fps, self._publish)
        self.get_logger().info(
            f"publishing {settings.source} on {self._images.topic_name} at {self._source.fps:g} frames a second"
        )

    def close(self) -> None:
        self._source.close()

    def _publish(self) -> None:
        frame = self._source.read()
        if frame is None:
            self.get_logger().info("the source is at its end")
            raise SystemExit(0)
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        self._images.publish(array_to_image(frame, header))


def main(args: list[str] | None = None) -> None:
    try:
        run(CameraNode, args)
    except (SourceError, SettingsError) as error:
        sys.exit(f"camera_node: {error}")


if __name__ == "__main__":
    main()
