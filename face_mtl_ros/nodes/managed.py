"""What this package's lifecycle nodes have in common."""

import traceback

from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from .parameters import NodeParameters


class ManagedNode(LifecycleNode):
    """A lifecycle node that starts itself, and says why it is not configured.

    To be set by the node's __init__: `_declared`, its parameters, with one named `autostart`.
    """

    _declared: NodeParameters
    _problem = ""  # why it does not work, for those who ask

    def autostart(self) -> None:
        """Configure and activate, unless the parameter says not to. One that fails to configure stays, and says why."""
        if not self._declared.value("autostart"):
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def not_configured(self, error: Exception, expected: tuple[type[Exception], ...]) -> TransitionCallbackReturn:
        """What on_configure returns for what was raised: FAILURE for what a user can mend, ERROR for a defect."""
        if isinstance(error, expected):
            self._problem = str(error)
            self.get_logger().error(f"not configured: {error}")
            return TransitionCallbackReturn.FAILURE
        # rclpy turns it into ERROR without a word, so it is written down here.
        self._problem = f"{type(error).__name__}: {error}"
        self.get_logger().error(f"not configured: {traceback.format_exc()}")
        return TransitionCallbackReturn.ERROR
