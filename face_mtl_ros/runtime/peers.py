"""What a user would otherwise run for emotion, age and gender: other projects' networks, for a comparison of speed.

Each is written down anew from its published table, with random weights: they say nothing of a face, and take as long as
with trained ones. What they need besides, such as a detector, is not measured.

    python -m face_mtl_ros.runtime.peers DeepFace opencv --batch 1 --batch 8

prints a line of JSON a batch. Another process writes the networks, so that this one's memory is theirs alone; onnx is
imported where it is needed, for the same reason.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from .measure import apart, measured_times, peak_mb, timing

if TYPE_CHECKING:
    import onnx

OPSET = 17
Run = Callable[[np.ndarray], Any]


class Layers:
    """A network without branches, layer by layer; counts its floating-point operations as networks.cost does."""

    def __init__(self, channels: int, size: int):
        self.row = (channels, size, size)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._input, self._last, self._shape = self.row, "input", [channels, size, size]
        self._rng = np.random.default_rng(0)
        self.flops = 0

    def conv(self, outputs: int, kernel: int = 3, pad: int = 1, relu: bool = True) -> "Layers":
        channels, height, width = self._shape
        self._shape = [outputs, height + 2 * pad - kernel + 1, width + 2 * pad - kernel + 1]
        self.flops += 2 * channels * kernel**2 * outputs * self._shape[1] * self._shape[2]
        inputs = self._weights((outputs, channels, kernel, kernel))
        self._add("Conv", inputs, kernel_shape=[kernel] * 2, pads=[pad] * 4)
        return self._add("Relu") if relu else self

    def pool(self, kind: str = "MaxPool", kernel: int = 2) -> "Layers":
        """By two."""
        channels, height, width = self._shape
        self._shape = [channels, (height - kernel) // 2 + 1, (width - kernel) // 2 + 1]
        return self._add(kind, kernel_shape=[kernel] * 2, strides=[2, 2])

    def dense(self, outputs: int, relu: bool = True) -> "Layers":
        if len(self._shape) == 3:
            self._add("Flatten", axis=1)
            self._shape = [int(np.prod(self._shape))]
        self.flops += 2 * self._shape[0] * outputs
        self._add("Gemm", self._weights((outputs, self._shape[0])), transB=1)
        self._shape = [outputs]
        return self._add("Relu") if relu else self

    def flatten(self) -> "Layers":
        self._shape = [int(np.prod(self._shape))]
        return self._add("Flatten", axis=1)

    def model(self) -> bytes:
        """Serialised ONNX: `input`, float32 (batch, channels, size, size), to softmax, float32 (batch, classes)."""
        from onnx import TensorProto, helper

        self._add("Softmax", axis=1)
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
            for name, shape in (("input", self._input), (self._last, self._shape))
        ]
        graph = helper.make_graph(self._nodes, "peer", ends[:1], ends[1:], self._constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        made.ir_version = 8
        return made.SerializeToString()

    def _weights(self, shape: tuple[int, ...]) -> list[str]:
        from onnx import numpy_helper

        name = f"layer{len(self._nodes)}"
        scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        weight = self._rng.standard_normal(shape, np.float32) * scale
        for part, value in (("weight", weight), ("bias", np.zeros(shape[0], np.float32))):
            self._constants.append(numpy_helper.from_array(value, f"{name}/{part}"))
        return [f"{name}/weight", f"{name}/bias"]

    def _add(self, operation: str, inputs: list[str] | None = None, **attributes) -> "Layers":
        from onnx import helper

        output = f"{operation}{len(self._nodes)}"
        self._nodes.append(helper.make_node(operation, [self._last, *(inputs or [])], [output], **attributes))
        self._last = output
        return self


def ferplus_vgg13() -> Layers:
    """Barsoum et al. 2016, "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
    Distribution", figure 5: the network of ONNX's model zoo (emotion-ferplus) that hri_emotion_recognizer runs."""
    layers = Layers(1, 64)
    for channels, count in ((64, 2), (128, 2), (256, 3), (256, 3)):
        for _ in range(count):
            layers.conv(channels)
        layers.pool()
    return layers.dense(1024).dense(1024).dense(8, relu=False)


def _vgg_face(classes: int) -> Layers:
    """VGG-Face (Parkhi et al. 2015, table 3) up to its second layer of 4096, and DeepFace's layer behind it."""
    layers = Layers(3, 224)
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers.conv(channels)
        layers.pool()
    return layers.conv(4096, 7, pad=0).conv(4096, 1, pad=0).conv(classes, 1, pad=0, relu=False).flatten()


def deepface_age() -> Layers:
    """DeepFace's model of apparent age: VGG-Face with 101 classes, a year each."""
    return _vgg_face(101)


def deepface_gender() -> Layers:
    """DeepFace's model of gender: VGG-Face with 2 classes."""
    return _vgg_face(2)


def deepface_emotion() -> Layers:
    """DeepFace's model of emotion: five convolutions of 48x48 pixels."""
    layers = Layers(1, 48).conv(64, 5, pad=0).pool(kernel=5)
    layers.conv(64, pad=0).conv(64, pad=0).pool("AveragePool", 3)
    layers.conv(128, pad=0).conv(128, pad=0).pool("AveragePool", 3)
    return layers.dense(1024).dense(1024).dense(7, relu=False)


# Peer: the attributes it gives, and the networks that a face goes through for them.
PEERS: dict[str, tuple[str, list[Callable[[], Layers]]]] = {
    "FER+ VGG-13": ("emotion", [ferplus_vgg13]),
    "DeepFace": ("age, gender, emotion", [deepface_age, deepface_gender, deepface_emotion]),
}


def opencv(file: Path) -> Run:
    """By OpenCV's DNN module."""
    net = cv2.dnn.readNetFromONNX(str(file))

    def run(values: np.ndarray) -> np.ndarray:
        net.setInput(values)
        return net.forward()

    return run


def openvino(file: Path) -> Run:
    """By OpenVINO in the precision that it takes itself, as this package runs its own networks on a CPU."""
    import openvino as ov

    return ov.Core().compile_model(file, "CPU", {"PERFORMANCE_HINT": "LATENCY"}).create_infer_request().infer


RUNTIMES: dict[str, Callable[[Path], Run]] = {"opencv": opencv, "openvino": openvino}


def write_networks(folder: Path, peer: str) -> list[tuple[Path, tuple[int, int, int], int]]:
    """Write a peer's networks as ONNX: for each its file, its input's row and its operations a face."""
    written = []
    for maker in PEERS[peer][1]:
        layers = maker()
        file = folder / f"{maker.__name__}.onnx"
        file.write_bytes(layers.model())
        written.append((file, layers.row, layers.flops))
    return written


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=list(PEERS))
    parser.add_argument("runtime", choices=list(RUNTIMES))
    parser.add_argument("--batch", type=int, action="append")
    parser.add_argument("--seconds", type=float, default=3.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            networks = apart(write_networks, Path(folder), args.peer)
            runs = [RUNTIMES[args.runtime](file) for file, _, _ in networks]
        except ModuleNotFoundError as error:
            print(f"needs {error.name}, which is not installed: pip install {error.name}", file=sys.stderr)
            return 1
        for batch in args.batch or (1, 8):
            inputs = [np.zeros((batch, *row), np.float32) for _, row, _ in networks]

            def work(inputs: list[np.ndarray] = inputs) -> None:
                for run, values in zip(runs, inputs, strict=True):
                    run(values)

            times = measured_times(work, args.seconds)
            median = float(np.median(times))
            operations = sum(flops for _, _, flops in networks) * batch
            entry = {"peer": args.peer, "attributes": PEERS[args.peer][0], "runtime": args.runtime, "batch": batch}
            entry |= {**timing(times), "faces_per_s": round(batch / median, 1)}
            entry |= {"gflops": round(operations / median / 1e9, 1), "memory_mb": peak_mb()}
            print(json.dumps(entry), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
