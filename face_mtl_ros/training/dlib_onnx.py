"""dlib's ResNet as an ONNX file and a foreign descriptor's spec, so that a robot can run it without dlib.

The graph is written node by node, so that its bytes, and with them the sha256 that manifests name, are the same
wherever it is made.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from .dlib_resnet import DIMENSIONS, SIZE, DlibResNet, dat_file

OPSET = 17
INPUT, OUTPUT = "faces", "descriptors"

# dlib aligns a face by its own five landmarks, the corners of the eyes and the base of the nose. This is where our five
# lie in its chips: the median of 600 random LFW pictures, cut to our crops with a margin, through the chip that dlib's
# 5-landmark predictor gives each. Half of the points lie within 2 pixels of the median, 95 % within 6.
TEMPLATE: Final = [(0.3121, 0.3115), (0.6852, 0.3125), (0.498, 0.5032), (0.3464, 0.6748), (0.6486, 0.6752)]

CONFIG: Final[Mapping[str, Any]] = {
    "dimensions": DIMENSIONS,
    "size": (SIZE, SIZE),
    "channels": "rgb",
    "mean": [122.782, 117.001, 104.298],
    "std": [256.0, 256.0, 256.0],
    "template": TEMPLATE,
    "source": "face-mtl descriptor dlib, from dlib_face_recognition_resnet_model_v1.dat of the PyPI package "
    "face-recognition-models",
    "terms": "weights in the public domain (CC0), by Davis King",
}


def dlib_onnx() -> bytes:
    """The network as ONNX: float32 (batch, 3, 150, 150), normalised as CONFIG says, to float32 (batch, 128).

    Raises:
        ModuleNotFoundError: the `teacher` extra is not installed.
    """
    network, graph = DlibResNet(dat_file()), _Graph()
    x, size = graph.conv("stem", INPUT, network.stem.conv), (SIZE - 7) // 2 + 1
    x = graph.add("MaxPool", "stem/pool", [graph.add("Relu", "stem/relu", [x])], kernel_shape=[3, 3], strides=[2, 2])
    size = (size - 3) // 2 + 1
    for i, block in enumerate(network.blocks):
        x, size = graph.block(f"blocks.{i}", x, size, block)
    x = graph.add("Flatten", "pooled", [graph.add("GlobalAveragePool", "pool", [x])], axis=1)
    graph.add("Gemm", OUTPUT, [x, graph.constant("project", network.project.weight)], transB=1)
    made = helper.make_graph(
        graph.nodes,
        "dlib",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", DIMENSIONS])],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="face_mtl_ros")
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


class _Graph:
    """Nodes and constants as they are added; every method returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, operation: str, output: str, inputs: list[str], **attributes) -> str:
        self.nodes.append(helper.make_node(operation, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def conv(self, name: str, x: str, conv: nn.Conv2d) -> str:
        inputs = [x, self.constant(f"{name}/weight", conv.weight), self.constant(f"{name}/bias", conv.bias)]
        return self.add("Conv", name, inputs, strides=list(conv.stride), pads=[int(conv.padding[0])] * 4)

    def block(self, name: str, x: str, size: int, block) -> tuple[str, int]:
        """dlib_resnet._Block on a map of size x size; also returns the size of what comes out."""
        first, second = block.first.conv, block.second.conv
        y = self.add("Relu", f"{name}/relu", [self.conv(f"{name}/first", x, first)])
        y, shortcut = self.conv(f"{name}/second", y, second), size
        if block.halves:
            x = self.add("AveragePool", f"{name}/pool", [x], kernel_shape=[2, 2], strides=[2, 2])
            size, shortcut = (size - 3) // 2 + 1, size // 2
        largest = max(size, shortcut)
        x = self.fill(f"{name}/shortcut", x, second.out_channels - first.in_channels, largest - shortcut)
        y = self.fill(f"{name}/filled", y, 0, largest - size)
        return self.add("Relu", f"{name}/out", [self.add("Add", f"{name}/sum", [x, y])]), largest

    def fill(self, name: str, x: str, channels: int, pixels: int) -> str:
        """Zeros added behind the channels, below and to the right."""
        if not channels and not pixels:
            return x
        pads = self.constant(f"{name}/pads", np.array([0, 0, 0, 0, 0, channels, pixels, pixels], np.int64))
        return self.add("Pad", name, [x, pads])
