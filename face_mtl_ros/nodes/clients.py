"""The trainer node's services and action for programs that are no nodes themselves, such as the face-mtl command."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import rclpy
from rclpy.action import ActionClient
from rclpy.client import Client
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from .interfaces import Train

DISCOVERY_S = 10.0


class ClientError(RuntimeError):
    """The node is not there or does not answer; the message says what to do."""


class TrainerClient:
    """Calls the trainer node from a thread that waits for the answers. Ctrl-C interrupts the wait.

    Args:
        namespace: of the trainer node; empty: none.
    """

    def __init__(self, namespace: str = "") -> None:
        self._context = rclpy.Context()
        # Ctrl-C is the program's own: a training is then cancelled and waited for, over a context that still lives.
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node(
            "face_mtl", context=self._context, namespace=namespace, start_parameter_services=False
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._clients: dict[str, Client] = {}

    def __enter__(self) -> "TrainerClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service of the trainer, such as "list_columns", and return the answer.

        Raises:
            ClientError: no trainer is there, or it ended before it answered.
        """
        return self.begin(kind, name, request).wait()

    def begin(self, kind: Any, name: str, request: Any) -> "Answer":
        """Call a service whose answer may be waited for again after a Ctrl-C; ClientError where no trainer is there."""
        if name not in self._clients:  # one for all calls: each new one costs the trainer memory
            self._clients[name] = self._node.create_client(kind, f"trainer/{name}")
        client = self._clients[name]
        self._await(client.service_is_ready, client.srv_name)
        return Answer(self._executor, client, client.call_async(request))

    def train(self, goal: Train.Goal, on_feedback: Callable[[Train.Feedback], None]) -> Train.Result:
        """Run the action and return its result; a KeyboardInterrupt cancels the job first, and its result then counts.

        Raises:
            ClientError: no trainer is there, or it does not answer.
        """
        client: ActionClient = ActionClient(self._node, Train, "trainer/train")
        try:
            self._await(client.server_is_ready, "trainer/train")
            sent = client.send_goal_async(goal, feedback_callback=lambda message: on_feedback(message.feedback))
            try:
                return self._wait(client, self._wait(client, sent).get_result_async()).result
            except KeyboardInterrupt:
                goal = self._wait(client, sent)
                goal.cancel_goal_async()
                return self._wait(client, goal.get_result_async()).result
        finally:
            client.destroy()

    def _wait(self, client: ActionClient, future: Future) -> Any:
        return _wait(self._executor, client.server_is_ready, future)

    def _await(self, ready: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DISCOVERY_S
        while not ready():
            if time.monotonic() > deadline:
                raise ClientError(
                    f"no trainer node offers {what}: start it (ros2 launch face_mtl_ros trainer.launch.py, or "
                    "python -m face_mtl_ros.nodes.trainer_node), and check ROS_DOMAIN_ID and --namespace"
                )
            self._executor.spin_once(timeout_sec=0.05)


@dataclass
class Answer:
    """A service's answer, under way."""

    _executor: Executor
    _client: Client
    _future: Future

    def wait(self) -> Any:
        """The answer; ClientError where the trainer ended."""
        return _wait(self._executor, self._client.service_is_ready, self._future)


def _wait(executor: Executor, is_there: Callable[[], bool], future: Future) -> Any:
    """Spin until the future is done, however long it takes, or the trainer is gone."""
    while not future.done():
        executor.spin_once(timeout_sec=0.5)
        if not future.done() and not is_there():
            raise ClientError(
                "the trainer node ended before it answered: start it again, and see its log; a training goes on then"
            )
    return future.result()
