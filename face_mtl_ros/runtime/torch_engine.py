"""The bundle in torch: on a CPU the reference for the compiled engines, on CUDA an engine that needs no compiler."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..bundle.bundle import Bundle
from ..networks.topology import INPUT_SIZE
from .engine import EMBEDDING, FIRST_IN_FP32, EngineError, check_descriptors

if TYPE_CHECKING:  # it imports torch
    from .cuda_graphs import CudaGraphs

PRECISIONS = ("fp32", "bf16", "fp16")
CROPS = "/crops"  # the input beside the descriptors, whose names have no slash


class TorchEngine:
    """See runtime.engine.Engine.

    On a CPU eagerly; on CUDA as CUDA graphs (runtime.cuda_graphs). Batch normalisation is folded into the convolutions,
    but not in fp32 on a CPU, which is the reference.

    Args:
        bundle: what to run.
        device: "cpu", "cuda", "cuda:1", or "auto" for CUDA where there is one.
        precision: "fp32" (on CUDA without TF32), "bf16", "fp16", or "auto", which is fp32 on a CPU and fp16 on CUDA.
        threads: at most so many CPU threads for all of the process's torch, which knows no smaller scope; 0 leaves
            them as they are.

    Raises:
        EngineError: torch or the device is missing, its memory does not suffice, or the precision is unknown.
    """

    name = "torch"

    def __init__(self, bundle: Bundle, device: str = "auto", precision: str = "auto", threads: int = 0):
        try:
            import torch

            from ..bundle.network import build_network
            from ..networks.normalization import fold_normalization
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise EngineError(
                "engine 'torch' needs torch, which is not installed: pip install 'face_mtl_ros[train]'"
            ) from None
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
            raise EngineError(f"device '{device}' is unknown to engine 'torch'; use cpu, cuda or cuda:N")
        if device != "cpu" and not torch.cuda.is_available():
            raise EngineError(f"device '{device}' is not there: torch sees no CUDA device; use device 'cpu'")
        if device.startswith("cuda:") and int(device[5:]) >= torch.cuda.device_count():
            seen = ", ".join(f"cuda:{i}" for i in range(torch.cuda.device_count()))
            raise EngineError(f"device '{device}' is not there: torch sees {seen}; use one of them")
        if precision == "auto":
            precision = "fp32" if device == "cpu" else "fp16"
        if precision not in PRECISIONS:
            raise EngineError(f"precision '{precision}' is unknown to engine 'torch'; use {', '.join(PRECISIONS)}")
        if threads:
            torch.set_num_threads(threads)
        self.device, self.precision = device, precision
        self._torch = torch
        self._manifest = bundle.manifest
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        network = build_network(bundle)
        if device != "cpu" or precision != "fp32":  # a rounding less behind each convolution
            fold_normalization(network)
        self._exact = int(precision in FIRST_IN_FP32)  # of the encoder's layers
        layers = list(network.encoder.layers)
        for layer in layers[: self._exact]:
            layer.register_forward_hook(lambda _layer, _inputs, output: output.to(self._dtype))
        for part in (*layers[self._exact :], network.columns):
            part.to(self._dtype)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stub
        self._network = network
        self._graphs: CudaGraphs | None = None
        if device != "cpu":
            try:
                self._to_gpu(device)
            except torch.cuda.OutOfMemoryError as error:
                raise EngineError(
                    f"{device} has too little memory left for the model; end what else uses it, or take another preset"
                ) from error
            except EngineError:
                raise
            except RuntimeError as error:  # such as of a GPU for which this torch has no kernels
                raise EngineError(f"torch cannot run the model on {device}: {' '.join(str(error).split())}") from error

    def _to_gpu(self, device: str) -> None:
        """Move the network, and record the graph of one face: whether it runs at all is to be known now."""
        from .cuda_graphs import CudaGraphs

        self._network = self._network.to(device)
        shapes: dict[str, tuple[int, ...]] = {CROPS: (1, INPUT_SIZE, INPUT_SIZE)}
        shapes |= {name: (record.dimensions,) for name, record in self._manifest.descriptors.items()}
        graphs = CudaGraphs(self._forward, shapes, device)
        graphs.run({name: np.zeros((1, *row), np.float32) for name, row in shapes.items()})
        self._graphs = graphs

    def run(self, crops: np.ndarray, descriptors: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        given = check_descriptors(self._manifest.descriptors, descriptors, len(crops))
        inputs = {CROPS: np.ascontiguousarray(crops, np.float32), **given}
        if self._graphs is not None and len(crops):
            return self._graphs.run(inputs)
        with self._torch.inference_mode():
            tensors = {name: self._torch.from_numpy(values).to(self.device) for name, values in inputs.items()}
            outputs = self._forward(tensors)
            return {name: values.float().cpu().numpy() for name, values in outputs.items()}

    def _forward(self, inputs):
        """Tensors by name, float32 (n, ...) on the device, to the outputs in the engine's precision."""
        reduced = {name: values.to(self._dtype) for name, values in inputs.items()}
        columns = self._manifest.columns
        described = {column.task: reduced[column.descriptor.name] for column in columns if column.descriptor}
        encoded = self._network.encoder((inputs if self._exact else reduced)[CROPS])
        return {**self._network.run_columns(encoded, None, described), EMBEDDING: encoded.mean((2, 3))}
