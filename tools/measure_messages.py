"""What pictures cost in rclpy: an image's bytes into and out of sensor_msgs/Image, way by way.

    python tools/measure_messages.py

Medians in milliseconds of one thread's CPU time. Each way of reading ends with the same numpy array, each way of
writing with the same message, which is checked first.
"""

import argparse
import array
import time
from collections.abc import Callable

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image

SIZES = ((640, 480), (1280, 720))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each way")
    args = parser.parse_args()
    columns = [measure(width, height, args.seconds) for width, height in SIZES]
    print("| | " + " | ".join(f"{width}x{height}" for width, height in SIZES) + " |")
    print("|---" * (1 + len(SIZES)) + "|")
    for way in columns[0]:
        print(f"| {way} | " + " | ".join(f"{column[way]:.3g} ms" for column in columns) + " |")


def measure(width: int, height: int, seconds: float) -> dict[str, float]:
    """Way to milliseconds, of a bgr8 picture of that size."""
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    octets = picture.tobytes()
    message = written_by_frombytes(octets)
    serialised = serialize_message(message)
    ways: dict[str, Callable[[], object]] = {
        "deserialise": lambda: deserialize_message(serialised, Image),
        "read: `np.frombuffer(message.data)`, taken": lambda: np.frombuffer(message.data, np.uint8),
        "read: `bytes(message.data)` first": lambda: np.frombuffer(bytes(message.data), np.uint8),
        "read: `np.array(message.data)`": lambda: np.array(message.data, np.uint8),
        "write: `message.data.frombytes(octets)`, taken": lambda: written_by_frombytes(octets),
        "write: `message.data = array('B', octets)`": lambda: assigned(Image(), array.array("B", octets)),
        "write: `message.data = octets`": lambda: assigned(Image(), octets),
        "the same, each byte checked as by older ROS 2": lambda: assigned(Image(check_fields=True), octets),
        "serialise": lambda: serialize_message(message),
    }
    for way, work in ways.items():
        found = work()
        if way.startswith("read"):
            assert np.array_equal(found, picture.ravel()), way
        if way.startswith(("write", "the same")):
            assert bytes(found.data) == octets, way  # type: ignore[attr-defined]
    return {way: cpu_ms(work, seconds) for way, work in ways.items()}


def written_by_frombytes(octets: bytes) -> Image:
    message = Image()
    message.data.frombytes(octets)
    return message


def assigned(message: Image, octets: bytes | array.array) -> Image:
    message.data = octets
    return message


def cpu_ms(work: Callable[[], object], seconds: float) -> float:
    """The median over 5 to 1000 runs."""
    times: list[float] = []
    end = time.monotonic() + seconds
    while len(times) < 5 or (time.monotonic() < end and len(times) < 1000):
        before = time.thread_time()
        work()
        times.append(time.thread_time() - before)
    return float(np.median(times)) * 1e3


if __name__ == "__main__":
    main()
