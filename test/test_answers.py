"""A service's answer reaches who called it, however late the service discovers them."""

import os
import subprocess
import sys
import threading

import pytest

rclpy = pytest.importorskip(
    "rclpy", reason="needs ROS 2: source it, or bash tools/setup.sh run and source tools/env.sh"
)

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402

pytestmark = pytest.mark.ros
TIMEOUT_S = 60.0
# A process with two services. `late` is best effort, which a client's reliable reader never matches: its answers meet
# what those to a client not yet discovered meet.
SERVER = """
import warnings
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.service import Service
from std_srvs.srv import SetBool, Trigger
from face_mtl_ros.nodes import answers, spinning

def make_node():
    node = Node("server")
    best_effort = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
    node.create_service(Trigger, "late", lambda _, answer: answer, qos_profile=best_effort)
    node.create_service(SetBool, "prompt", lambda _, answer: answer)
    return node
"""
# The middleware discovers who called only at the third try: rclpy warns, as it does, and returns.
DISCOVERED_LATE = """
send, tries = Service.send_response, []
def late(self, *answer):
    tries.append(answer)
    if len(tries) < 3:
        return warnings.warn("failed to send response (timeout): client will not receive response", RuntimeWarning)
    send(self, *answer)
Service.send_response = late
"""


@pytest.fixture
def node(monkeypatch):
    """A node of this process, spun in a thread."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "1")
    rclpy.init()
    node = rclpy.create_node("client")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield node
    executor.shutdown()
    thread.join(10)
    node.destroy_node()
    rclpy.try_shutdown()


@pytest.fixture
def server(request, node):
    """The process, with what the test has altered in it."""
    script = f"{SERVER}{request.param}\nspinning.run(make_node)"
    command = ["timeout", f"{TIMEOUT_S:.0f}", sys.executable, "-c", script]  # so that who reads from it does not hang
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    yield process
    process.terminate()
    process.wait()


def called(node, kind, name):
    """Whether the service answers."""
    client = node.create_client(kind, name)
    assert client.wait_for_service(TIMEOUT_S)
    answered = threading.Event()
    client.call_async(kind.Request()).add_done_callback(lambda _: answered.set())
    return answered.wait(TIMEOUT_S)


@pytest.mark.parametrize("server", [DISCOVERED_LATE], indirect=True)
def test_a_client_that_is_discovered_late_gets_its_answer(node, server):
    assert called(node, SetBool, "prompt")


@pytest.mark.parametrize("server", ["answers.PAUSES_S = (0.1, 0.2, 0.3)"], indirect=True)
def test_a_client_that_is_never_discovered_holds_nobody_up(node, server):
    late = node.create_client(Trigger, "late")
    node.create_timer(0.5, lambda: late.call_async(Trigger.Request()))  # again, since best effort may lose a request
    assert called(node, SetBool, "prompt")
    assert "late: " in (says := server.stderr.readline()) and "is lost" in says
    assert called(node, SetBool, "prompt")
