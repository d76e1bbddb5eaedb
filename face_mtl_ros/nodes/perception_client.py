"""How the trainer has the perception node take another model."""

import threading
import time
from pathlib import Path

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.client import Client
from rclpy.node import Node

from ..site_model import SwapError
from .interfaces import SetModel

DISCOVERY_S = 3.0
ANSWER_S = 900.0  # a GPU's engine takes minutes to compile


class PerceptionClient:
    """Calls the perception node's set_model from threads other than the executor's.

    Args:
        node: on whose executor the answer comes.
        name: of the perception node, relative to the node's namespace, or full.
    """

    def __init__(self, node: Node, name: str) -> None:
        self._node = node
        self._closing = threading.Event()
        self._shown = f"{name}/crops"  # whose publishers tell one process of it from the next
        group = ReentrantCallbackGroup()
        self._client: Client = node.create_client(SetModel, f"{name}/set_model", callback_group=group)

    def swap(self, folder: Path) -> str:
        """Have perception load a bundle and answer with it, and return what to tell of it.

        Where no perception node runs, or it ends meanwhile, nothing is wrong: it takes the active version at its start.

        Raises:
            SwapError: it refuses the bundle, or does not answer.
        """
        if not self._client.wait_for_service(DISCOVERY_S):
            return f"no node offers {self._client.srv_name}: perception takes the model when it starts"
        processes = self._processes()
        answered = threading.Event()
        future = self._client.call_async(SetModel.Request(model=str(folder)))
        future.add_done_callback(lambda _: answered.set())
        deadline = time.monotonic() + ANSWER_S
        while not answered.wait(0.2):
            if self._closing.is_set():
                return "perception was told, and the trainer ended before it answered"
            if not self._client.service_is_ready() or self._processes() - processes:
                return "perception ended while it loaded the model: it takes it when it starts again"
            if time.monotonic() > deadline:
                raise SwapError(f"{self._client.srv_name} did not answer within {ANSWER_S:.0f} s; see perception's log")
        answer = future.result()
        if answer is None or not answer.success:
            raise SwapError(f"perception did not take the model: {answer.message if answer else 'no answer'}")
        return "perception answers with it"

    def _processes(self) -> set[bytes]:
        """What tells one process of perception from the next; one that was killed is discovered for a while longer."""
        return {bytes(found.endpoint_gid) for found in self._node.get_publishers_info_by_topic(self._shown)}

    def give_up(self) -> None:
        """Let whoever waits for an answer go."""
        self._closing.set()

    def close(self) -> None:
        """After this nothing is asked any more."""
        self._node.destroy_client(self._client)
