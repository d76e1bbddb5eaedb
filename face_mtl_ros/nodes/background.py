"""Work that must not hold up a node's executor: done in threads, awaited in callbacks."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future

Result = TypeVar("Result")


class Background:
    """Threads of a node's.

    Args:
        node: in whose callbacks the work is awaited.
        threads: how many works at a time; the others queue.
        name: of the threads.
    """

    def __init__(self, node: Node, threads: int, name: str) -> None:
        self._node = node
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, work: Callable[[], Result]) -> Result:
        """Await work done in a thread; what it raises is raised here."""
        done: Future[None] = Future(executor=self._node.executor)
        pending = self._pool.submit(work)

        def finish(_: object) -> None:
            done.set_result(None)
            if self._node.executor is not None:
                self._node.executor.wake()  # which waits for messages, and learns of a future only when it looks

        pending.add_done_callback(finish)
        await done
        return pending.result()

    def begin(self, work: Callable[[], object]) -> None:
        """Have work done that nobody awaits, and that raises nothing."""
        self._pool.submit(work)

    def close(self) -> None:
        """Begin nothing more; the process is about to end."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Pulse:
    """Lets a callback wait for a moment, on a clock that nobody sets back; to be closed."""

    def __init__(self, node: Node, period_s: float) -> None:
        self._node = node
        self._next: Future[None] | None = None
        self._timer = node.create_timer(
            period_s, self._beat, callback_group=ReentrantCallbackGroup(), clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    async def wait(self) -> None:
        """Until the next beat."""
        self._next = Future(executor=self._node.executor)
        await self._next

    def close(self) -> None:
        self._node.destroy_timer(self._timer)

    def _beat(self) -> None:
        if self._next is not None and not self._next.done():
            self._next.set_result(None)
