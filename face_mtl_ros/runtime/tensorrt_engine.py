"""The bundle compiled by TensorRT for RTX or TensorRT: the engine of NVIDIA GPUs.

A batch is padded to a bucket (runtime.buckets). Each bucket has an execution context, for a CUDA graph holds for the
one shape with which it was recorded, and all share one block of device memory. A run is: fill pinned memory, launch the
graph, which copies in, infers and copies out on the engine's own stream, wait, and take the rows that were asked for.

What was executed on which hardware, and what was only checked, is said in docs/engines.md.
"""

import logging
import math
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from ..bundle.bundle import Bundle
from ..networks.topology import INPUT_SIZE, encoder_layers
from .buckets import BUCKETS, bucket_of, chunks, offsets
from .cuda import Cuda, CudaError, DeviceMemory, OutOfMemory, PinnedMemory
from .engine import EMBEDDING, EngineError, check_descriptors
from .plan_cache import Key, cached_plan, held, keep, load, plan_key, plans_dir
from .tensorrt_library import check_wish, choose, installed, is_rtx, notes, require_installed

logger = logging.getLogger(__name__)

Shapes = dict[str, tuple[int, ...]]
T = TypeVar("T")
Pair = tuple[T, T]  # of inputs and outputs


class TensorRtEngine:
    """See runtime.engine.Engine.

    Compiled engines are kept under FACE_MTL_HOME/cache/tensorrt; see runtime.plan_cache. `face-mtl export` compiles
    them elsewhere. With TensorRT for RTX the kernels that it makes at the first run of each bucket are kept there too.

    Args:
        bundle: what to run.
        device: "auto" or "cuda" for the first GPU, or "cuda:N".
        precision: "fp32" (without TF32), "bf16", "fp16", "int8" (runtime.int8_model), or "auto", which is fp16.
        threads: not used; the GPU does the work.

    Raises:
        EngineError: a library, the driver, the device, the precision or the INT8 model is missing, the GPU is none that
            the library knows, or its memory does not suffice for a single face.
    """

    name = "tensorrt"

    def __init__(self, bundle: Bundle, device: str = "auto", precision: str = "auto", threads: int = 0):
        try:
            from .graph import INPUT, descriptor_input
        except ModuleNotFoundError as error:
            raise EngineError(
                f"engine 'tensorrt' needs {error.name}, which is not installed: pip install onnx"
            ) from None
        require_installed()
        self.precision = "fp16" if precision == "auto" else precision
        self._descriptors = bundle.manifest.descriptors
        self._input, self._descriptor_input = INPUT, descriptor_input
        self._inputs: Shapes = {INPUT: (1, INPUT_SIZE, INPUT_SIZE)}
        self._inputs |= {descriptor_input(name): (record.dimensions,) for name, record in self._descriptors.items()}
        self._outputs: Shapes = {column.task: (column.outputs,) for column in bundle.manifest.columns}
        self._outputs[EMBEDDING] = (encoder_layers(bundle.preset)[-1].outputs,)
        self._cuda = Cuda(device)
        self.device = self._cuda.device
        self.library, target = choose(self._cuda.capability)
        check_wish(self.library, self.precision, target)
        key = plan_key(bundle, self.library, self.precision, target or self._gpu())
        plan = cached_plan(key, lambda: self._build(bundle, target))
        self._kept = held(key)
        log = notes(self.library)
        log.clear()
        self._runtime = self.library.Runtime(log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(
                f"{self.library.__name__} {self.library.__version__} cannot run its engine on {self._gpu()}: "
                f"{log.reason()}; use engine 'torch' with device 'cuda', or 'openvino'"
            )
        self._kernels = _KernelCache(self.library, self._engine, {**key, "target": self._gpu()})
        self._lanes: dict[int, _Lane] = {}
        self._reserve()
        self._lane(BUCKETS[0])  # whether it runs at all is to be known now

    def run(self, crops: np.ndarray, descriptors: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        given = check_descriptors(self._descriptors, descriptors, len(crops))
        inputs = {self._input: crops, **{self._descriptor_input(name): values for name, values in given.items()}}
        outputs = {name: np.empty((len(crops), *row), np.float32) for name, row in self._outputs.items()}
        self._cuda.use()  # CUDA's current device is a matter of the thread
        for start, stop in chunks(len(crops), self._largest):
            lane = self._lane(bucket_of(stop - start))
            for name, values in inputs.items():
                lane.inputs[name][: stop - start] = values[start:stop]
            lane.launch()
            self._cuda.wait()
            for name, values in outputs.items():
                values[start:stop] = lane.outputs[name][: stop - start]
        return outputs

    def _gpu(self) -> str:
        major, minor = self._cuda.capability
        return f"sm{major}{minor} {self._cuda.gpu}"

    def _build(self, bundle: Bundle, target: str) -> bytes:
        """Compile; TensorRT's measurements of this GPU are kept, for the next bundle has mostly the same columns."""
        from .tensorrt_build import build_plan

        key = {"precision": self.precision, "library": self.library.__name__, "version": self.library.__version__}
        key["target"] = self._gpu()
        plan, timings = build_plan(bundle, self.library, self.precision, target, load(key, "timings") or b"")
        if timings:
            keep(key, "timings", timings)
        return plan

    def _reserve(self) -> None:
        """Take the device's memory for the largest batch, or for the largest that it suffices for."""
        full = self._engine.device_memory_size_v2 if hasattr(self._engine, "device_memory_size_v2") else None
        sizes = {BUCKETS[-1]: self._engine.device_memory_size if full is None else full}
        for bucket in reversed(BUCKETS):
            try:
                if bucket not in sizes:
                    sizes[bucket] = self._needed(self._context(bucket))
                self._scratch, self._device, self._host = self._memory(bucket, sizes[bucket])
            except OutOfMemory:
                continue
            self._largest = bucket
            if bucket < BUCKETS[-1]:
                logger.warning("%s has memory for batches of %d faces only", self._gpu(), bucket)
            return
        raise EngineError(
            f"{self._gpu()} has too little memory left for one face, {self._cuda.free_bytes / 1e6:.0f} MB; end what "
            "else uses it, or take precision fp16 or a smaller preset"
        )

    def _memory(self, bucket: int, scratch: int) -> tuple[DeviceMemory, Pair[DeviceMemory], Pair[PinnedMemory]]:
        """For the engine's own use, and for inputs and outputs on the device and on the host; all or nothing."""
        _, into = offsets(self._inputs, bucket)
        _, out = offsets(self._outputs, bucket)
        return (
            DeviceMemory(self._cuda, scratch),
            (DeviceMemory(self._cuda, 4 * into), DeviceMemory(self._cuda, 4 * out)),
            (PinnedMemory(self._cuda, into), PinnedMemory(self._cuda, out)),
        )

    def _needed(self, context: Any) -> int:
        """Bytes that a context needs for its batch, to which it is fitted; TensorRT 8 has one size for all."""
        if not hasattr(context, "update_device_memory_size_for_shapes"):
            return self._engine.device_memory_size
        return context.update_device_memory_size_for_shapes()

    def _lane(self, bucket: int) -> "_Lane":
        if bucket not in self._lanes:
            context = self._context(bucket)
            if self._largest < BUCKETS[-1]:
                self._needed(context)
            if hasattr(context, "set_device_memory"):
                context.set_device_memory(self._scratch.address, self._scratch.size)
            else:
                context.device_memory = self._scratch.address
            into, out = _Block(self._inputs, bucket, 0, self), _Block(self._outputs, bucket, 1, self)
            for name, address in {**into.addresses, **out.addresses}.items():
                if not context.set_tensor_address(name, address):
                    raise EngineError(f"the compiled engine has no tensor '{name}'; remove it from {plans_dir()}")
            self._lanes[bucket] = _Lane(self._cuda, self.library, context, into, out)
            self._kernels.save()
        return self._lanes[bucket]

    def _context(self, bucket: int) -> Any:
        context = self._kernels.context()
        if context is None:
            raise EngineError(f"{self.library.__name__} makes no execution context: {notes(self.library).reason()}")
        if context.active_optimization_profile != 0:
            context.set_optimization_profile_async(0, self._cuda.stream)
            self._cuda.wait()
        for name, row in self._inputs.items():
            if not context.set_input_shape(name, (bucket, *row)):
                raise EngineError(f"the compiled engine takes no batch of {bucket}; remove it from {plans_dir()}")
        return context


class _Block:
    """Tensors of one bucket, side by side on the host and on the device, so that one copy takes them all."""

    def __init__(self, shapes: Shapes, bucket: int, side: int, engine: TensorRtEngine):
        self.host, self.device = engine._host[side], engine._device[side]
        found, self.length = offsets(shapes, bucket)
        self.addresses = {name: self.device.address + 4 * offset for name, offset in found.items()}
        self.views = {
            name: self.host.values[offset : offset + bucket * math.prod(shapes[name])].reshape(bucket, *shapes[name])
            for name, offset in found.items()
        }


class _Lane:
    """A bucket ready to run.

    Attributes:
        inputs, outputs: views of pinned memory, float32 (bucket, ...).
        launch: puts copying in, inference and copying out on the stream.
    """

    def __init__(self, cuda: Cuda, library: ModuleType, context: Any, into: _Block, out: _Block):
        self.inputs, self.outputs, self._context = into.views, out.views, context
        log = notes(library)
        log.clear()

        def enqueue() -> None:
            cuda.to_device(into.device, into.host, into.length)
            if not context.execute_async_v3(cuda.stream):
                raise CudaError(f"{library.__name__} cannot infer: {log.reason()}")
            cuda.to_host(out.host, out.device, out.length)

        enqueue()  # what is made at the first run is made now; a graph must not see it
        cuda.wait()
        self.launch: Callable[[], None] = enqueue
        if not hasattr(context, "is_stream_capturable") or context.is_stream_capturable(cuda.stream):
            try:
                self.launch = cuda.capture(enqueue)
            except CudaError as error:
                logger.warning("no CUDA graph, so small batches take longer: %s", error)


class _KernelCache:
    """Makes contexts; with TensorRT for RTX, keeps the kernels that it makes at run time in a file."""

    def __init__(self, library: ModuleType, engine: Any, key: Key):
        self._library, self._engine, self._key = library, engine, key
        self._config = self._cache = None
        self._saved = b""
        if not is_rtx(library):
            return
        self._config = engine.create_runtime_config()
        self._config.set_execution_context_allocation_strategy(library.ExecutionContextAllocationStrategy.USER_MANAGED)
        # A graph is recorded once, so the kernels for its shape must be there by then.
        self._config.dynamic_shapes_kernel_specialization_strategy = (
            library.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        self._config.cuda_graph_strategy = library.CudaGraphStrategy.DISABLED
        self._cache = self._config.create_runtime_cache()
        known = load(key, "kernels")
        if known and self._cache.deserialize(known):
            self._saved = known
            self._kept = held(key, "kernels")
        self._config.set_runtime_cache(self._cache)

    def context(self) -> Any:
        library, engine = self._library, self._engine
        if self._config is not None:
            return engine.create_execution_context(self._config)
        if hasattr(library, "ExecutionContextAllocationStrategy"):
            return engine.create_execution_context(library.ExecutionContextAllocationStrategy.USER_MANAGED)
        return engine.create_execution_context_without_device_memory()

    def save(self) -> None:
        """Keep the kernels that were made since."""
        kernels = self._cache.serialize() if self._cache is not None else None
        if kernels is not None and bytes(kernels) != self._saved:
            self._saved = bytes(kernels)
            keep(self._key, "kernels", self._saved)
            self._kept = held(self._key, "kernels")


def why_not(device: str = "auto") -> str | None:
    """Why engine 'tensorrt' cannot be had here, in a few words; None where a library and the GPU are there."""
    if not installed():
        return "tensorrt is not installed"
    try:
        Cuda(device)
    except EngineError as error:
        return str(error)
    return None
