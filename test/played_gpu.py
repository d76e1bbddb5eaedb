"""A GPU that the CPU plays: NVIDIA's CUDA bindings in host memory, and engines that ONNX Runtime executes.

So all that the package itself does around a GPU (buckets, memory, copies, graphs, kept engines) runs in the tests. What
only NVIDIA's libraries do on one is not shown by it. Compiling is the real TensorRT for RTX, which needs no GPU.
"""

import ctypes
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from face_mtl_ros.runtime import tensorrt_library

SUCCESS, NO_MEMORY, NO_DEVICE = 0, 2, 100
TEXTS = {NO_MEMORY: b"out of memory", NO_DEVICE: b"no CUDA-capable device is detected"}


class PlayedGpu:
    """Device memory and a stream; what is put on the stream while it is captured becomes a graph.

    Args:
        memory: bytes; what does not fit is refused.
        count: of devices.
    """

    def __init__(self, memory: int = 1 << 30, count: int = 1):
        self.memory, self.count = memory, count
        self.blocks: dict[int, ctypes.Array] = {}
        self.recorded: list | None = None
        self.launched = 0

    def put(self, work) -> None:
        if self.recorded is None:
            work()
        else:
            self.recorded.append(work)

    def allocate(self, size: int) -> tuple:
        used = sum(len(block) for block in self.blocks.values())
        if used + size > self.memory:
            return NO_MEMORY, None
        block = (ctypes.c_byte * size)()
        self.blocks[ctypes.addressof(block)] = block
        return SUCCESS, ctypes.addressof(block)

    def runtime(self) -> ModuleType:
        """In place of cuda.bindings.runtime."""
        gpu, module = self, ModuleType("cuda.bindings.runtime")
        host: dict[int, ctypes.Array] = {}

        def host_alloc(size, flags):
            block = (ctypes.c_byte * size)()
            host[ctypes.addressof(block)] = block
            return SUCCESS, ctypes.addressof(block)

        def copy(target, source, size, kind, stream):
            gpu.put(lambda: ctypes.memmove(target, source, size))
            return (SUCCESS,)

        def begin(stream, mode):
            gpu.recorded = []
            return (SUCCESS,)

        def end(stream):
            graph, gpu.recorded = gpu.recorded, None
            return SUCCESS, graph

        def launch(graph, stream):
            gpu.launched += 1
            for work in graph:
                work()
            return (SUCCESS,)

        def nothing(*_):
            return (SUCCESS,)

        properties = SimpleNamespace(name=b"Played GPU\0\0", major=8, minor=9)
        module.cudaError_t = SimpleNamespace(cudaSuccess=SUCCESS, cudaErrorMemoryAllocation=NO_MEMORY)
        module.cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
        module.cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
        module.cudaStreamNonBlocking = module.cudaHostAllocDefault = 0
        module.cudaGetDeviceCount = lambda: (SUCCESS, gpu.count) if gpu.count else (NO_DEVICE, 0)
        module.cudaDriverGetVersion = lambda: (SUCCESS, 12080 if gpu.count else 0)
        module.cudaGetErrorString = lambda error: (SUCCESS, TEXTS[error])
        module.cudaGetDeviceProperties = lambda index: (SUCCESS, properties)
        module.cudaStreamCreateWithFlags = lambda flags: (SUCCESS, 1)
        module.cudaMemGetInfo = lambda: (SUCCESS, gpu.memory, gpu.memory)
        module.cudaMalloc = gpu.allocate
        module.cudaFree = lambda address: gpu.blocks.pop(address) and (SUCCESS,)
        module.cudaHostAlloc, module.cudaFreeHost = host_alloc, lambda address: host.pop(address) and (SUCCESS,)
        module.cudaMemcpyAsync = copy
        module.cudaStreamBeginCapture, module.cudaStreamEndCapture, module.cudaGraphLaunch = begin, end, launch
        module.cudaGraphInstantiateWithFlags = lambda graph, flags: (SUCCESS, graph)
        for name in ("SetDevice", "StreamSynchronize", "StreamDestroy", "GraphDestroy", "GraphExecDestroy"):
            setattr(module, f"cuda{name}", nothing)
        module.cudaGetLastError = nothing
        return module


class PlayedEngine:
    """What a compiled engine does, by the ONNX graph from which it was compiled.

    Args:
        bytes_a_face: of device memory.
    """

    def __init__(self, gpu: PlayedGpu, graph: bytes, bytes_a_face: int):
        self.gpu, self.bytes_a_face = gpu, bytes_a_face
        self.session = _onnxruntime().InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.device_memory_size_v2 = 32 * bytes_a_face

    def create_runtime_config(self):
        cache = SimpleNamespace(serialize=lambda: b"kernels", deserialize=lambda data: data == b"kernels")
        return SimpleNamespace(
            set_execution_context_allocation_strategy=lambda strategy: None,
            create_runtime_cache=lambda: cache,
            set_runtime_cache=lambda cache: None,
        )

    def create_execution_context(self, config):
        return _Context(self)


class _Context:
    active_optimization_profile = 0

    def __init__(self, engine: PlayedEngine):
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    @property
    def _batch(self) -> int:
        return next(iter(self._shapes.values()))[0]

    def set_input_shape(self, name, shape) -> bool:
        self._shapes[name] = tuple(shape)
        return name in {given.name for given in self._engine.session.get_inputs()} and 1 <= shape[0] <= 32

    def update_device_memory_size_for_shapes(self) -> int:
        return self._batch * self._engine.bytes_a_face

    def set_device_memory(self, address, size) -> None:
        assert size >= self._batch * self._engine.bytes_a_face
        assert len(self._engine.gpu.blocks[address]) == size

    def set_tensor_address(self, name, address) -> bool:
        session = self._engine.session
        self._addresses[name] = address
        return name in {tensor.name for tensor in (*session.get_inputs(), *session.get_outputs())}

    def is_stream_capturable(self, stream) -> bool:
        return True

    def execute_async_v3(self, stream) -> bool:
        self._engine.gpu.put(self._run)
        return True

    def _run(self) -> None:
        inputs = {}
        for name, shape in self._shapes.items():
            values = (ctypes.c_float * int(np.prod(shape))).from_address(self._addresses[name])
            inputs[name] = np.ctypeslib.as_array(values).reshape(shape).copy()
        names = [output.name for output in self._engine.session.get_outputs()]
        for name, values in zip(names, self._engine.session.run(names, inputs), strict=True):
            ctypes.memmove(self._addresses[name], np.ascontiguousarray(values).ctypes.data, values.nbytes)


def _onnxruntime() -> ModuleType:
    return pytest.importorskip("onnxruntime", reason="the onnxruntime extra installs it")


def play(monkeypatch, gpu: PlayedGpu, graph: bytes, bytes_a_face: int = 1 << 20, refuses: str = "") -> None:
    """From now on `gpu` is there, and TensorRT for RTX runs `graph` on it, or refuses its engines for a reason."""
    _onnxruntime()
    runtime, real = gpu.runtime(), tensorrt_library.load_library("tensorrt_rtx")
    bindings = ModuleType("cuda.bindings")
    bindings.runtime = runtime  # type: ignore[attr-defined]
    for name, module in {"cuda": ModuleType("cuda"), "cuda.bindings": bindings, runtime.__name__: runtime}.items():
        monkeypatch.setitem(sys.modules, name, module)

    class Runtime:
        def __init__(self, log):
            self._log = log

        def deserialize_cuda_engine(self, plan):
            assert plan[:4] == b"vtrt"
            if refuses:
                self._log.log(real.ILogger.ERROR, refuses)
                return None
            return PlayedEngine(gpu, graph, bytes_a_face)

    library = ModuleType("tensorrt_rtx")
    library.__dict__.update(real.__dict__)
    library.Runtime = Runtime  # type: ignore[attr-defined]
    monkeypatch.setattr(tensorrt_library, "load_library", lambda name: library)
    monkeypatch.setattr(tensorrt_library, "installed", lambda: ["tensorrt_rtx"])
