"""The explanation topic: at a low rate, and only while somebody looks, where a column looks."""

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rclpy.node import Node
from rclpy.publisher import Publisher
from std_msgs.msg import Header

from ..analyzer import Face
from ..bundle.bundle import Bundle
from .background import Background
from .conversions import array_to_image

if TYPE_CHECKING:  # it imports torch
    from ..explain.live import LiveExplainer


class Explanations:
    """Pictures of the largest face, made one at a time in a thread of their own while frames go on.

    The maps are gradients, which torch alone computes, whatever engine reads the faces: the first picture imports it,
    and each takes the cores for a tenth of a second or so.
    """

    def __init__(self, node: Node, publisher: Publisher):
        self._node, self._publisher = node, publisher
        self._thread = Background(node, 1, "explain")
        self._busy = False
        self._begun = -math.inf  # when the last one was begun
        self._explainer: LiveExplainer | None = None

    def offer(self, bundle: Bundle, faces: Sequence[Face], header: Header, task: str, rate: float) -> None:
        """A frame's faces, of which one is explained if it is time to.

        Args:
            task: which column; empty for the first one that can be explained.
            rate: pictures a second at most.
        """
        now = time.monotonic()
        if self._busy or not faces or now - self._begun < 1 / rate or not self._publisher.get_subscription_count():
            return
        self._busy, self._begun = True, now
        face = max(faces, key=lambda one: float(one.box[2] * one.box[3]))
        self._thread.begin(lambda: self._publish(bundle, face, header, task))

    def forget(self) -> None:
        """Let go of the model."""
        self._explainer = None

    def close(self) -> None:
        """Begin no more; the process is about to end."""
        self._thread.close()

    def _publish(self, bundle: Bundle, face: Face, header: Header, task: str) -> None:
        try:
            if self._explainer is None:
                self._node.get_logger().info("explanations: loading torch and the model, which takes seconds")
            from ..explain.live import LiveExplainer

            explainer = self._explainer
            if explainer is None or explainer.bundle is not bundle:
                explainer = self._explainer = LiveExplainer(bundle)
            self._publisher.publish(array_to_image(explainer.picture(face.crop, task), header))
        except ImportError as error:
            self._node.get_logger().error(
                f"explanations need torch and captum ({error}): pip install 'face_mtl_ros[train]'",
                throttle_duration_sec=60.0,
            )
        except ValueError as error:
            self._node.get_logger().warning(f"no explanation: {error}", throttle_duration_sec=10.0)
        except Exception as error:
            if self._node.context.ok():  # else the process is ending, and nothing can be published any more
                self._node.get_logger().error(f"explanation failed: {error!r}", throttle_duration_sec=10.0)
        finally:
            self._busy = False
