"""A torch network on CUDA as recorded graphs, one a bucket: launching its hundreds of kernels one by one costs more."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from .buckets import BUCKETS, bucket_of
from .engine import EngineError

logger = logging.getLogger(__name__)

Tensors = dict[str, torch.Tensor]
WARM_UP = 3  # runs before recording: cuDNN tries its kernels, and libraries make what they need


class CudaGraphs:
    """Runs a function of static tensors.

    Args:
        forward: named tensors on the device, float32 (bucket, ...), to the same of outputs, float (bucket, width).
        inputs: name to the shape of a row.
        device: "cuda" or "cuda:N".
    """

    def __init__(
        self, forward: Callable[[Tensors], Tensors], inputs: Mapping[str, tuple[int, ...]], device: str
    ) -> None:
        self._forward, self._shapes, self._device = forward, dict(inputs), torch.device(device)
        self._largest = BUCKETS[-1]
        self._graphs: dict[int, _Graph] = {}
        with torch.cuda.device(self._device):
            self._stream = torch.cuda.Stream()
            # One pool for all: they never run at once, and what one gives out is copied before the next runs.
            self._pool = torch.cuda.graph_pool_handle()

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Named float arrays (n, ...), n >= 1, to float32 (n, width) by the outputs' names.

        Raises:
            EngineError: the GPU's memory does not suffice for a single row.
        """
        n = len(next(iter(inputs.values())))
        parts: list[dict[str, np.ndarray]] = []
        start = 0
        with torch.inference_mode(), torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            while start < n:
                stop = min(start + self._largest, n)
                try:
                    graph = self._graph(bucket_of(stop - start))
                except torch.cuda.OutOfMemoryError as error:
                    self._take_smaller(bucket_of(stop - start), error)
                    continue
                parts.append(graph.run({name: values[start:stop] for name, values in inputs.items()}))
                start = stop
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _graph(self, bucket: int) -> "_Graph":
        if bucket not in self._graphs:
            self._graphs[bucket] = _Graph(self._forward, self._shapes, bucket, self._device, self._stream, self._pool)
        return self._graphs[bucket]

    def _take_smaller(self, failed: int, error: Exception) -> None:
        smaller = [bucket for bucket in BUCKETS if bucket < failed]
        if not smaller:
            raise EngineError(
                f"{self._device} has too little memory left for one face; end what else uses it, or take precision "
                "fp16 or a smaller preset"
            ) from error
        self._largest = smaller[-1]
        logger.warning("%s has memory for batches of %d faces only", self._device, self._largest)
        torch.cuda.empty_cache()


class _Graph:
    """One bucket: pinned memory, static tensors on the device, and the recorded graph between them."""

    def __init__(
        self,
        forward: Callable[[Tensors], Tensors],
        shapes: Mapping[str, tuple[int, ...]],
        bucket: int,
        device: torch.device,
        stream: torch.cuda.Stream,
        pool: Any,
    ) -> None:
        self._stream = stream
        self._host = {name: torch.zeros(bucket, *row, pin_memory=True) for name, row in shapes.items()}
        self._rows = {name: tensor.numpy() for name, tensor in self._host.items()}
        self._inputs = {name: torch.zeros(bucket, *row, device=device) for name, row in shapes.items()}

        def whole() -> tuple[torch.Tensor, dict[str, int]]:
            outputs = {name: values.float() for name, values in forward(self._inputs).items()}
            return torch.cat(list(outputs.values()), 1), {name: values.shape[1] for name, values in outputs.items()}

        # benchmark: cuDNN tries its kernels for these very shapes. Without TF32, fp32 means it.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            for _ in range(WARM_UP):
                whole()
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            # thread_local: what other threads do on the GPU meanwhile is theirs.
            with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                self._output, self._widths = whole()
        self._result = torch.zeros(self._output.shape, pin_memory=True)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """At most `bucket` rows; what pads them is left from an earlier run, and rows do not mix."""
        n = len(next(iter(inputs.values())))
        for name, values in inputs.items():
            self._rows[name][:n] = values
            self._inputs[name].copy_(self._host[name], non_blocking=True)
        self._graph.replay()
        self._result.copy_(self._output, non_blocking=True)
        self._stream.synchronize()
        found = self._result.numpy()[:n].copy()
        ends = np.cumsum(list(self._widths.values()))
        return dict(zip(self._widths, np.split(found, ends[:-1], axis=1), strict=True))
