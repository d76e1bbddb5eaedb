"""The ONNX graph of a bundle, written from its weights without torch.

A robot that runs a model need not install what trains it, and a column that was learned on site is live without the
seconds that tracing it would take. Batch normalisation is folded into the convolutions, and only what a column needs
is in the graph. Tests let ONNX check it and compare every output with the torch network's: here the check would take
longer than all else.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..bundle.bundle import Bundle, Tensors
from ..networks.presets import LEAST_CONTRAST, Preset
from ..networks.topology import INPUT_SIZE, Conv, column_layers, encoder_layers, skip_map_size
from .engine import EMBEDDING, INPUT, descriptor_input

OPSET = 17  # what TensorRT 8.6, ONNX Runtime and OpenVINO all read
BATCH_NORM_EPSILON = 1e-5
APART_BYTES = 1024  # of a constant from which on it is kept apart; shapes and the like ONNX wants in the graph


def build_graph(bundle: Bundle) -> onnx.ModelProto:
    """float32 crops (batch, 1, 128, 128) to one output of logits a task, float32 (batch, classes), named as it is.

    For each foreign descriptor that a column draws on there is an input beside the crops. A last output, EMBEDDING, is
    the mean of the encoder's map over its places, float32 (batch, channels).
    """
    model, constants = _build(bundle)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return model


def build_graph_apart(bundle: Bundle) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The same with its weights declared external, and these by name: who takes them as they are spares two copies."""
    model, constants = _build(bundle)
    weights = {name: value for name, value in constants.items() if value.nbytes >= APART_BYTES}
    for name, value in constants.items():
        if name not in weights:
            model.graph.initializer.append(numpy_helper.from_array(value, name))
            continue
        declared = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(value.dtype), dims=value.shape)
        declared.data_location = TensorProto.EXTERNAL
        declared.external_data.add(key="location", value=name)
        model.graph.initializer.append(declared)
    return model, weights


def _build(bundle: Bundle) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The graph without any constant, and the constants by name."""
    graph = _Graph()
    encoded = graph.shrink("encoder/shrink", INPUT, bundle.preset.shrink)
    for i, plan in enumerate(encoder_layers(bundle.preset)):
        encoded = graph.conv_layer(f"encoder/layers.{i}", encoded, plan, bundle.encoder, f"layers.{i}", bundle.preset)
    pooled = graph.add("GlobalAveragePool", "encoder/pooled", [encoded])
    graph.add("Flatten", EMBEDDING, [pooled], axis=1)
    skipped = _skip(graph, encoded, bundle) if any(column.skip for column in bundle.manifest.columns) else ""
    activations: dict[str, list[str]] = {}
    for column in bundle.manifest.columns:
        sources = [activations[source] for source in column.sources]
        weights = bundle.columns[column.task]
        described = descriptor_input(column.descriptor.name) if column.descriptor else None
        skip = skipped if column.skip else ""
        activations[column.task] = _column(
            graph, column.task, encoded, skip, sources, described, weights, bundle.preset
        )
    inputs = [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 1, INPUT_SIZE, INPUT_SIZE])]
    inputs += [
        helper.make_tensor_value_info(descriptor_input(name), TensorProto.FLOAT, ["batch", record.dimensions])
        for name, record in bundle.manifest.descriptors.items()
    ]
    outputs = [
        helper.make_tensor_value_info(column.task, TensorProto.FLOAT, ["batch", column.outputs])
        for column in bundle.manifest.columns
    ]
    channels = encoder_layers(bundle.preset)[-1].outputs
    outputs.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", channels]))
    made = helper.make_graph(graph.nodes, bundle.manifest.name, inputs, outputs)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="face_mtl_ros")
    model.ir_version = 8  # ONNX Runtime of the oldest supported Jetson reads no newer one
    return model, graph.constants


def _skip(graph: "_Graph", encoded: str, bundle: Bundle) -> str:
    """The encoder's map as the skip connections bring it, the same for all columns."""
    size = encoder_layers(bundle.preset)[-1].size // skip_map_size(bundle.preset)
    averaged = graph.add("AveragePool", "encoder/averaged", [encoded], kernel_shape=[size] * 2, strides=[size] * 2)
    return graph.add("Flatten", "encoder/skip", [averaged], axis=1)


def _column(
    graph: "_Graph",
    task: str,
    encoded: str,
    skip: str,
    sources: list[list[str]],
    described: str | None,
    weights: Tensors,
    preset: Preset,
) -> list[str]:
    """Add networks.column.Column's forward to the graph; returns the names of the activations of layers 1 to 25."""

    def lateral(layer: int) -> str:
        name = f"{task}/adapters.{layer - 1}"
        return graph.adapter(name, [hidden[layer - 1] for hidden in sources], weights, f"adapters.{layer - 1}")

    def with_lateral(x: str, layer: int) -> str:
        if not sources or layer == 0:
            return x
        return graph.add("Concat", f"{task}/adapters.{layer - 1}/with_own", [x, lateral(layer)], axis=1)

    x, activations = encoded, []
    plans = column_layers(preset)
    for i, plan in enumerate(plans):
        x = graph.conv_layer(f"{task}/layers.{i}", with_lateral(x, i), plan, weights, f"layers.{i}", preset)
        activations.append(x)
    x = graph.add("Flatten", f"{task}/flatten", [x], axis=1)
    beside = [skip] if skip else []
    if sources:
        beside.append(graph.add("Flatten", f"{task}/lateral", [lateral(len(plans))], axis=1))
    if beside:
        x = graph.add("Concat", f"{task}/hidden/inputs", [x, *beside], axis=1)
    x = graph.add("Relu", f"{task}/hidden/relu", [graph.linear(f"{task}/hidden", x, weights, "hidden")])
    shape = graph.constant(f"{task}/hidden/shape", np.array([0, -1, 1, 1], np.int64))
    activations.append(graph.add("Reshape", f"{task}/hidden/map", [x, shape]))
    if sources:
        x = graph.add("Flatten", f"{task}/hidden/flat", [with_lateral(activations[-1], len(plans) + 1)], axis=1)
    if described:
        # networks.column.DescriptorAdapter; the scale is folded into the matrix.
        folded = weights | {"foreign.reduce.weight": weights["foreign.reduce.weight"] * weights["foreign.scale"]}
        adapted = graph.linear(f"{task}/foreign", described, folded, "foreign.reduce")
        adapted = graph.add("Relu", f"{task}/foreign/relu", [adapted])
        x = graph.add("Concat", f"{task}/foreign/with_own", [x, adapted], axis=1)
    graph.linear(task, x, weights, "classifier")
    return activations


class _Graph:
    """Nodes and constants as they are added; every method returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def add(self, operation: str, output: str, inputs: list[str], **attributes) -> str:
        self.nodes.append(helper.make_node(operation, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = np.ascontiguousarray(value) if value.ndim else value
        return name

    def shrink(self, name: str, x: str, factor: int) -> str:
        """networks.encoder.shrink."""
        if factor == 1:
            return x
        small = self.add("AveragePool", f"{name}/small", [x], kernel_shape=[factor] * 2, strides=[factor] * 2)
        power = self.add(
            "ReduceMean", f"{name}/power", [self.add("Mul", f"{name}/square", [small, small])], axes=[2, 3]
        )
        least = self.constant(f"{name}/least", np.array(LEAST_CONTRAST**2, np.float32))
        contrast = self.add("Sqrt", f"{name}/contrast", [self.add("Max", f"{name}/clipped", [power, least])])
        return self.add("Div", f"{name}/normalised", [small, contrast])

    def conv_layer(self, name: str, x: str, plan: Conv, weights: Tensors, prefix: str, preset: Preset) -> str:
        """networks.layers.ConvLayer in evaluation mode, its batch normalisation folded into weight and bias."""
        weight = weights[f"{prefix}.conv.weight"]
        if preset.normalization == "batch":
            norm = {part: weights[f"{prefix}.norm.{part}"].astype(np.float64) for part in _NORM}
            factor = norm["weight"] / np.sqrt(norm["running_var"] + BATCH_NORM_EPSILON)
            weight = (weight * factor[:, None, None, None]).astype(np.float32)
            bias = (norm["bias"] - norm["running_mean"] * factor).astype(np.float32)
        else:
            bias = weights[f"{prefix}.conv.bias"]
        inputs = [x, self.constant(f"{name}/weight", weight), self.constant(f"{name}/bias", bias)]
        x = self.add("Conv", f"{name}/conv", inputs, pads=[1, 1, 1, 1], strides=[plan.stride] * 2)
        x = self.add("Relu", f"{name}/relu", [x])
        return self.add("MaxPool", f"{name}/pool", [x], kernel_shape=[2, 2], strides=[2, 2]) if plan.pool else x

    def adapter(self, name: str, hidden: list[str], weights: Tensors, prefix: str) -> str:
        """networks.column.Adapter; the scales are folded into the 1x1 convolution's weight."""
        weight, scale = weights[f"{prefix}.reduce.weight"], weights[f"{prefix}.scale"]
        per_channel = np.repeat(scale, weight.shape[1] // len(scale))
        x = self.add("Concat", f"{name}/sources", hidden, axis=1) if len(hidden) > 1 else hidden[0]
        weight_name = self.constant(f"{name}/weight", weight * per_channel[None, :, None, None])
        bias_name = self.constant(f"{name}/bias", weights[f"{prefix}.reduce.bias"])
        return self.add("Relu", f"{name}/relu", [self.add("Conv", f"{name}/conv", [x, weight_name, bias_name])])

    def linear(self, output: str, x: str, weights: Tensors, prefix: str) -> str:
        weight = self.constant(f"{output}/weight", weights[f"{prefix}.weight"])
        bias = self.constant(f"{output}/bias", weights[f"{prefix}.bias"])
        return self.add("Gemm", output, [x, weight, bias], transB=1)


_NORM = ("weight", "bias", "running_mean", "running_var")
