"""The little of CUDA that an engine without torch needs, by NVIDIA's bindings (cuda-bindings)."""

import ctypes
import re
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from .engine import EngineError

INSTALL = "pip install cuda-bindings, or pip install 'face_mtl_ros[tensorrt]'"


class CudaError(EngineError):
    """A call failed; the message names it and CUDA's reason."""


class OutOfMemory(CudaError):
    """The device or the host has not enough memory left."""


class Cuda:
    """One device, a stream of its own, and memory that is freed with the object that holds it.

    Attributes:
        device: "cuda:N".
        gpu: the device's name.
        capability: its compute capability, such as (8, 6).

    Args:
        device: "auto" or "cuda" for the first one, or "cuda:N".

    Raises:
        EngineError: the bindings, the driver or the device is missing.
    """

    def __init__(self, device: str = "auto"):
        try:
            from cuda.bindings import runtime
        except ModuleNotFoundError:
            raise EngineError(f"engine 'tensorrt' needs cuda-bindings, which is not installed: {INSTALL}") from None
        self._runtime = runtime
        if not re.fullmatch(r"auto|cuda(:\d+)?", device):
            raise EngineError(f"device '{device}' is unknown to engine 'tensorrt'; use cuda or cuda:N")
        try:
            (count,) = self.call(runtime.cudaGetDeviceCount)
        except RuntimeError as error:  # by itself where cuda-bindings 11 finds no driver
            raise EngineError(
                f"engine 'tensorrt' needs an NVIDIA GPU and its driver, and CUDA says: {error}; {self._remedy()}"
            ) from None
        self._index = int(device[5:]) if ":" in device else 0
        if self._index >= count:
            seen = ", ".join(f"cuda:{i}" for i in range(count)) or "none"
            raise EngineError(f"device '{device}' is not there: CUDA sees {seen}; use one of them")
        self.device = f"cuda:{self._index}"
        try:
            self.use()
            (properties,) = self.call(runtime.cudaGetDeviceProperties, self._index)
            self.gpu = properties.name.split(b"\0")[0].decode()
            self.capability = (properties.major, properties.minor)
            (self._stream,) = self.call(runtime.cudaStreamCreateWithFlags, runtime.cudaStreamNonBlocking)
        except CudaError as error:
            raise EngineError(f"device '{self.device}' cannot be used: {error}") from None
        _free_with(self, runtime.cudaStreamDestroy, self._stream)

    def _remedy(self) -> str:
        try:
            (version,) = self.call(self._runtime.cudaDriverGetVersion)
        except RuntimeError:
            version = 0
        if not version:
            return "use engine 'openvino'"
        return (
            f"the driver is for CUDA {version // 1000}.{version % 1000 // 10}: update it, or take the bindings for it, "
            f"pip install 'cuda-bindings<{version // 1000 + 1}'"
        )

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream)

    @property
    def free_bytes(self) -> int:
        """How much of the device's memory is left."""
        return self.call(self._runtime.cudaMemGetInfo)[0]

    def use(self) -> None:
        """Make the device that of the calling thread."""
        self.call(self._runtime.cudaSetDevice, self._index)

    def wait(self) -> None:
        """Until all that was put on the stream is done."""
        self.call(self._runtime.cudaStreamSynchronize, self._stream)

    def call(self, function: Callable[..., Any], *arguments: Any) -> tuple:
        """A function of the bindings: what it returns behind its error, or CudaError."""
        error, *values = function(*arguments)
        if error == self._runtime.cudaError_t.cudaSuccess:
            return tuple(values)
        text = self._runtime.cudaGetErrorString(error)[1]
        reason = text.decode() if isinstance(text, bytes) else error
        kind = OutOfMemory if error == self._runtime.cudaError_t.cudaErrorMemoryAllocation else CudaError
        self._runtime.cudaGetLastError()  # or the next call that checks, be it torch's, would report this one
        raise kind(f"{function.__name__}: {reason}")

    def to_device(self, target: "DeviceMemory", source: "PinnedMemory", values: int) -> None:
        """Put the copy of the first float32 values on the stream."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call(self._runtime.cudaMemcpyAsync, target.address, source.address, 4 * values, kind, self._stream)

    def to_host(self, target: "PinnedMemory", source: "DeviceMemory", values: int) -> None:
        """The other way round."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call(self._runtime.cudaMemcpyAsync, target.address, source.address, 4 * values, kind, self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what `work` puts on the stream as a CUDA graph; returns what puts the graph there.

        Raises:
            CudaError: something that it does cannot be captured.
        """
        runtime = self._runtime
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal  # other threads may use the GPU meanwhile
        self.call(runtime.cudaStreamBeginCapture, self._stream, mode)
        try:
            work()
        except BaseException:
            runtime.cudaStreamEndCapture(self._stream)
            runtime.cudaGetLastError()
            raise
        (graph,) = self.call(runtime.cudaStreamEndCapture, self._stream)
        try:
            (executable,) = self.call(runtime.cudaGraphInstantiateWithFlags, graph, 0)
        finally:
            self.call(runtime.cudaGraphDestroy, graph)

        def launch() -> None:
            self.call(runtime.cudaGraphLaunch, executable, self._stream)

        _free_with(launch, runtime.cudaGraphExecDestroy, executable)
        return launch


class DeviceMemory:
    """So many bytes on the device; OutOfMemory where they are not to be had."""

    def __init__(self, cuda: Cuda, size: int):
        self.size = max(size, 256)
        (address,) = cuda.call(cuda._runtime.cudaMalloc, self.size)
        self.address = int(address)
        _free_with(self, cuda._runtime.cudaFree, address)


class PinnedMemory:
    """So many float32 values, zeros at first, on the host in pages that the GPU copies from without the CPU's help."""

    def __init__(self, cuda: Cuda, values: int):
        (address,) = cuda.call(cuda._runtime.cudaHostAlloc, 4 * values, cuda._runtime.cudaHostAllocDefault)
        self.address = int(address)
        self.values = np.ctypeslib.as_array((ctypes.c_float * values).from_address(self.address))
        self.values.fill(0)
        _free_with(self, cuda._runtime.cudaFreeHost, address)


def _free_with(owner: object, free: Callable, handle: object) -> None:
    # At exit the process gives everything back by itself, and the driver may be gone by then.
    weakref.finalize(owner, free, handle).atexit = False
