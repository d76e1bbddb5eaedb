"""A bundle's graph in INT8: post-training quantisation by ONNX Runtime, ranges measured on crops.

Weights are rounded a channel at a time, activations a tensor at a time, behind the non-linearity: before it, part of
the range would be for what becomes zero. For CPUs it is left out, since unsigned bytes end at zero by themselves. Only
convolutions are quantised, which are all but all of the work, and not the first, which sees a single channel: it costs
little and rounding it costs most.
"""

import copy
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx

from ..bundle.bundle import Bundle
from .engine import INPUT, EngineError, descriptor_input
from .graph import build_graph
from .int8_model import CPU, GPU
from .onnxruntime_engine import INSTALL

BATCH = 8  # crops at once while ranges are measured
# Of a tensor's smallest and largest values in each batch the running mean is taken: a single odd crop widens no range.
AVERAGING = 0.2


class Quantizer:
    """Makes INT8 graphs of a bundle, with more or fewer of its columns quantised.

    Args:
        bundle: what to quantise.
        crops: float32 (n, 1, 128, 128), n >= 1, normalised, such as the model will see: some hundred of the training's.
        descriptors: name to float32 (n, d), the same faces by each foreign descriptor that the bundle draws on.

    Raises:
        EngineError: onnxruntime is not installed.
    """

    def __init__(self, bundle: Bundle, crops: np.ndarray, descriptors: Mapping[str, np.ndarray] | None = None):
        try:
            import onnxruntime.quantization  # noqa: F401  # said now, not after the crops were read
        except ModuleNotFoundError as error:
            raise EngineError(f"precision 'int8' is made by {error.name}, which is not installed: {INSTALL}") from None
        self._graph = build_graph(bundle)
        # Or ONNX Runtime advises to fold batch normalisation and constants, which the graph has none of.
        self._graph.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
        self._inputs = {INPUT: crops}
        self._inputs |= {descriptor_input(name): values for name, values in (descriptors or {}).items()}

    def quantize(self, kind: str = CPU, exact: Collection[str] = ()) -> onnx.ModelProto:
        """The graph with the same inputs and outputs, its convolutions in INT8.

        Args:
            kind: CPU or GPU; see runtime.int8_model.
            exact: tasks whose columns stay in float32.
        """
        from onnxruntime.quantization import QuantType, quantize_static

        convolutions = [node.name for node in self._graph.graph.node if node.op_type == "Conv"]
        left_out = [name for name in convolutions if name.split("/")[0] in exact]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "int8.onnx"
            quantize_static(
                copy.deepcopy(self._graph),  # it moves the weights of what it is given to a file
                file,
                _Reader(self._inputs),
                op_types_to_quantize=["Conv", "Relu"] if kind == CPU else ["Conv"],
                nodes_to_exclude=[convolutions[0], *left_out],
                per_channel=True,
                activation_type=QuantType.QUInt8 if kind == CPU else QuantType.QInt8,
                weight_type=QuantType.QInt8,
                extra_options={
                    "ActivationSymmetric": kind != CPU,
                    "QuantizeBias": kind == CPU,  # TensorRT takes them as they are, ONNX Runtime's kernels do not
                    "CalibMovingAverage": True,
                    "CalibMovingAverageConstant": AVERAGING,
                    # The non-linearity stays, and what a convolution gives out is rounded behind it alone.
                    "OpTypesToExcludeOutputQuantization": ["Conv"] if kind == GPU else [],
                },
            )
            model = onnx.load(file)
        onnx.checker.check_model(model)
        return model


class _Reader:
    """ONNX Runtime's CalibrationDataReader, by its methods: it is known by them alone."""

    def __init__(self, inputs: Mapping[str, np.ndarray]):
        self._batches = self._read(inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)

    @staticmethod
    def _read(inputs: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(inputs[INPUT]), BATCH):
            yield {name: values[start : start + BATCH] for name, values in inputs.items()}
