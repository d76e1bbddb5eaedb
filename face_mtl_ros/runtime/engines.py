"""The one place that chooses an engine."""

import importlib.util
import logging
from collections.abc import Callable

from ..bundle.bundle import Bundle
from .engine import Engine, EngineError
from .onnxruntime_engine import OnnxRuntimeEngine
from .openvino_engine import OpenVinoEngine
from .tensorrt_engine import TensorRtEngine, why_not
from .torch_engine import TorchEngine

logger = logging.getLogger(__name__)

MAKERS: dict[str, Callable[[Bundle, str, str, int], Engine]] = {
    "tensorrt": TensorRtEngine,
    "openvino": OpenVinoEngine,
    "torch": TorchEngine,
    "onnxruntime": OnnxRuntimeEngine,
}
ENGINES = ("auto", *MAKERS)


def make_engine(
    bundle: Bundle, name: str = "auto", device: str = "auto", precision: str = "auto", threads: int = 0
) -> Engine:
    """Compile a bundle.

    Args:
        name: one of ENGINES. "auto" takes TensorRT where it and an NVIDIA GPU are there and run the bundle, else the
            first of OpenVINO, ONNX Runtime and torch that is installed; with a CUDA device the first of TensorRT, torch
            and ONNX Runtime, with any other never TensorRT. The log says which and why.
        device, precision: as the engine takes them. Precision "auto" is never int8, whose answers differ more: that has
            to be asked for. The log says which it is and why.
        threads: at most so many CPU threads; 0 leaves it to the engine. For torch they are the whole process's.

    Raises:
        EngineError: the engine is unknown, or cannot be had here; says what to install.
    """
    if name not in ENGINES:
        raise EngineError(f"engine '{name}' is unknown; choose one of {', '.join(ENGINES)}")
    if not bundle.manifest.columns:
        raise EngineError(f"{bundle.root} has an encoder and no column yet; train one: face-mtl train")
    why = ""
    if name == "auto":
        name, why = _choose(device)
        if name == "tensorrt":
            try:
                return _made(TensorRtEngine(bundle, device, precision, threads), why, precision)
            except EngineError as error:
                logger.warning("engine tensorrt is not taken: %s", error)
                name, why = _without_tensorrt(device, "tensorrt does not run the model here")
    return _made(MAKERS[name](bundle, device, precision, threads), why, precision)


def _choose(device: str) -> tuple[str, str]:
    """The engine's name, and why it is taken."""
    if device != "auto" and not device.startswith("cuda"):
        return _without_tensorrt(device, f"device is {device}")
    reason = why_not(device)
    if reason is None:
        return "tensorrt", "it and an NVIDIA GPU are there"
    return _without_tensorrt(device, reason)


def _without_tensorrt(device: str, reason: str) -> tuple[str, str]:
    on_cuda = device.startswith("cuda")
    order = ("torch", "onnxruntime") if on_cuda else ("openvino", "onnxruntime", "torch")
    found = next((name for name in order if importlib.util.find_spec(name)), order[0])
    if on_cuda:
        return found, f"{reason}; device is {device}"
    if found == order[0]:
        return found, f"{reason}; {found} is installed"
    return found, f"{reason}; {' and '.join(order[: order.index(found)])} not installed"


def _made(engine: Engine, why: str, precision: str) -> Engine:
    chosen = f" (auto: {why})" if why else ""
    if precision == "auto":
        chosen += f" (precision auto: {_why_precision(engine)})"
    logger.info("engine %s on %s in %s%s", engine.name, engine.device, engine.precision, chosen)
    return engine


def _why_precision(engine: Engine) -> str:
    if engine.precision == "fp16":
        return "what GPUs are fast in"
    if engine.precision == "bf16":
        return "the processor has instructions for it"
    return "the processor has none for bf16" if engine.name == "openvino" else f"{engine.name} is fastest so on a CPU"
