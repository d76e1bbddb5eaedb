"""A collection over ROS: subscribes to perception's crops for as long as it lasts."""

import time
from collections.abc import Callable

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data

from ..samples.collecting import Collecting
from ..vision.encodings import ImageError
from .background import Pulse
from .interfaces import FaceCropArray
from .trainer_conversions import seen_faces, stamp_ns

LOOK_S = 0.05  # how often it is looked whether a collection has ended
DISCOVERY_S = 5.0  # after which a topic that nobody publishes is not waited for any more


async def collect(
    node: Node, topic: str, collecting: Collecting, time_limit_s: float, going_on: Callable[[], bool]
) -> None:
    """Show each frame's crops to the collection until it has ended or the time is over.

    Args:
        topic: of perception's crops; nothing is subscribed to before or after.
        going_on: says False where the node stops.
    """

    def see(message: FaceCropArray) -> None:
        try:
            faces = seen_faces(message)
        except ImageError as error:
            node.get_logger().warning(f"crops skipped: {error}", throttle_duration_sec=1.0)
            return
        collecting.see(faces, message.header.frame_id, stamp_ns(message.header.stamp), time.monotonic())

    begun = time.monotonic()
    group = ReentrantCallbackGroup()
    subscription = node.create_subscription(FaceCropArray, topic, see, qos_profile_sensor_data, callback_group=group)
    pulse = Pulse(node, LOOK_S)
    try:
        while going_on() and not collecting.ended:
            waited = time.monotonic() - begun
            if waited > time_limit_s or (waited > DISCOVERY_S and not subscription.get_publisher_count()):
                return
            await pulse.wait()
    finally:
        pulse.close()
        node.destroy_subscription(subscription)
