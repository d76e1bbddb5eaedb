"""A graph whose weights and inner tensors are of half the size, for compilers that take its types as they stand."""

import itertools

import onnx
from onnx import TensorProto, helper, numpy_helper

from .engine import FIRST_IN_FP32

TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def reduce_precision(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """A copy of what graph.build_graph gave, computing in fp16 or bf16; inputs and outputs stay float32.

    What prepares the crops, before the first convolution, stays in float32 too: it costs nothing, and it squares; with
    bf16 so does the first convolution (runtime.engine.FIRST_IN_FP32).
    """
    kind = TYPES[precision]
    reduced = onnx.ModelProto()
    reduced.CopyFrom(model)
    graph = reduced.graph
    convolutions = (i for i, node in enumerate(graph.node) if node.op_type == "Conv")
    first = next(itertools.islice(convolutions, int(precision in FIRST_IN_FP32), None))
    prepared, inner = graph.node[:first], graph.node[first:]
    exact = {name for node in prepared for name in node.input}
    casts = []
    entering = dict.fromkeys([inner[0].input[0], *(i.name for i in graph.input if i.name not in exact)])
    for name in entering:
        cast = f"{name}/{precision}"
        casts.append(helper.make_node("Cast", [name], [cast], name=cast, to=kind))
        _rename(inner, name, cast, "input")
    for output in graph.output:
        cast = f"{output.name}/{precision}"
        _rename(inner, output.name, cast, "output")
        _rename(inner, output.name, cast, "input")
        inner.append(helper.make_node("Cast", [cast], [output.name], name=f"{cast}/float", to=TensorProto.FLOAT))
    for weights in graph.initializer:
        if weights.data_type == TensorProto.FLOAT and weights.name not in exact:
            values = numpy_helper.to_array(weights).astype(helper.tensor_dtype_to_np_dtype(kind))
            weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    nodes = [*prepared, *casts, *inner]
    del graph.node[:]
    graph.node.extend(nodes)
    return reduced


def _rename(nodes: list[onnx.NodeProto], old: str, new: str, side: str) -> None:
    for node in nodes:
        names = getattr(node, side)
        for i, name in enumerate(names):
            if name == old:
                names[i] = new
